"""tfcovr collections: change the encoder of an archive that is in use, one command per step.

An alias such as `live` is what `tfcovr search` and `tfcovr serve` are told to ask. A service keeps the collection that the
alias named when it started, because it holds that collection's encoder; one with `--next-bundle` holds both, and follows.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from cluster.option_checks import require_milvus_name
from cluster.tables import text_table
from indexing.store.vector_index import IndexChoice

if TYPE_CHECKING:
    from indexing.search.migration.compare_collections import ComparisonReport
    from indexing.store.aliases import StoredCollection, Swap

EXAMPLES = """
  tfcovr collections promote --milvus-uri runs/milvus --collection clips --bundle runs/old/bundle
  tfcovr index --bundle runs/new/bundle --clips clips.parquet --milvus-uri runs/milvus \\
      --collection clips_new --run-dir runs/index_new
  tfcovr collections compare --milvus-uri runs/milvus --bundle runs/old/bundle --other clips_new \\
      --other-bundle runs/new/bundle --triplets triplets.parquet
  tfcovr collections promote --milvus-uri runs/milvus --collection clips_new --bundle runs/new/bundle
  tfcovr collections rollback --milvus-uri runs/milvus
  tfcovr collections list --milvus-uri runs/milvus --json
  tfcovr collections copy --milvus-uri runs/milvus --collection clips --to-milvus-uri http://HOST:19530
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListConfig(_Place):
    """Every collection: its clips, encoder, aliases, and what each alias named before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig(_Place):
    """mAP and Recall of two collections on the same queries, with the interval of the difference."""

    bundle: Path
    """Bundle of the collection that is in use."""
    other: str
    """The collection beside it."""
    other_bundle: Path
    """Bundle that indexed it."""
    triplets: Path
    """triplets.parquet; its clips must be in both collections."""
    collection: str = "live"
    """The collection that is in use, or its alias."""
    split: str = "test"
    """Queries and gallery."""
    num_queries: int = 400
    """Evenly drawn from the split."""

    def __post_init__(self) -> None:
        if self.num_queries < 1:
            raise ValueError(f"num_queries is {self.num_queries}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class PromoteConfig(_Place):
    """Let the alias name this collection; what it named before is remembered."""

    collection: str
    """A collection of `tfcovr index`; it must find its own clips."""
    bundle: Path
    """Bundle that will ask it; another encoder than the collection's is refused."""
    alias: str = "live"
    expected: str | None = None
    """Promote only while the alias names this collection ("" = none); left out, what it names when the command begins."""

    def __post_init__(self) -> None:
        require_milvus_name("alias", self.alias)


@dataclass(frozen=True, kw_only=True, slots=True)
class RollbackConfig(_Place):
    """Let the alias name what it named before the last promotion."""

    alias: str = "live"


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyConfig(_Place):
    """Copy a collection into another Milvus, vectors and all: from a first folder to a server. Run it again to bring it up to date."""

    to_milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    collection: str = "clips"
    """The collection, or an alias of it; aliases are not copied."""
    to_collection: str = ""
    """What the copy is called; nothing = the same name."""
    index: IndexChoice = "auto"
    """How Milvus finds vectors there: flat = exact; hnsw = a graph, approximate; auto = hnsw above 100,000 rows on a server."""
    vector_dtype: Literal["same", "float32", "float16"] = "same"
    """How Milvus keeps vectors there."""

    def __post_init__(self) -> None:
        require_milvus_name("to-collection", self.to_collection or self.collection)


def show_collections(config: ListConfig) -> int:
    """A table of them."""
    from indexing.store.aliases import open_catalog

    with open_catalog(config.milvus_uri) as catalog:
        entries = [catalog.stored(name) for name in catalog.names()]
    _print(config, [asdict(entry) for entry in entries], collection_table(entries))
    return 0


def show_comparison(config: CompareConfig) -> int:
    """A table of metrics."""
    from indexing.search.migration.compare_collections import (
        EncodedCollection,
        compare_collections,
        read_probe_queries,
    )

    probes = read_probe_queries(config.triplets, split=config.split, num_queries=config.num_queries)
    report = compare_collections(
        config.milvus_uri,
        EncodedCollection(collection=config.collection, bundle_dir=config.bundle),
        EncodedCollection(collection=config.other, bundle_dir=config.other_bundle),
        probes,
        split=config.split,
    )
    _print(config, asdict(report), probe_table(report))
    return 0


def promote(config: PromoteConfig) -> int:
    """One swap."""
    from encoders.bundle.card import read_card
    from indexing.store.aliases import open_catalog

    encoder_id = read_card(config.bundle).encoder_id
    with open_catalog(config.milvus_uri) as catalog:
        swap = catalog.promote(
            config.alias, config.collection, encoder_id=encoder_id, expected=config.expected
        )
    _print(config, asdict(swap), swap_text(swap))
    return 0


def rollback(config: RollbackConfig) -> int:
    """The swap back."""
    from indexing.store.aliases import open_catalog

    with open_catalog(config.milvus_uri) as catalog:
        swap = catalog.rollback(config.alias)
    _print(config, asdict(swap), swap_text(swap))
    return 0


def copy(config: CopyConfig) -> int:
    """One copy; progress goes to stderr."""
    from indexing.store.endpoint import require_archive
    from indexing.store.transfer.copy_collection import (  # Ray, for this one alone
        CopyPlan,
        copy_collection,
    )

    plan = CopyPlan(
        milvus_uri=config.milvus_uri,
        collection=config.collection,
        to_milvus_uri=config.to_milvus_uri,
        to_collection=config.to_collection,
        index=config.index,
        vector_dtype=config.vector_dtype,
    )
    require_archive(config.milvus_uri)
    report = copy_collection(plan, console=Console(stderr=True))
    extra = f"; {report.num_extra} rows are only there" if report.num_extra else ""
    said = (
        f"{report.num_copied} of {report.num_rows} rows copied from {report.collection!r} to {report.to_collection!r} "
        f"({report.index}), the others were there{extra}"
    )
    _print(config, asdict(report), said)
    return 0


def swap_text(swap: "Swap") -> str:
    """For people."""
    if swap.before == swap.after:
        return f"{swap.alias} names {swap.after} already"
    return f"{swap.alias}: {swap.before or 'nothing'} -> {swap.after}"


def collection_table(collections: "Sequence[StoredCollection]") -> Table:
    """For a terminal."""
    rows = []
    for stored in collections:
        before = ", ".join(f"{alias}: {name}" for alias, name in stored.previous.items())
        count = "not loaded" if stored.num_clips is None else str(stored.num_clips)
        facts = (count, str(stored.embedding_dim), stored.index_type)
        aliases = ", ".join(stored.aliases)
        rows.append((stored.name, aliases, *facts, stored.encoder_id or "not ours", before))
    headings = ("collection", "alias", "clips", "dim", "index", "encoder", "before")
    return text_table(headings, rows, right=("clips", "dim"))


def probe_table(report: "ComparisonReport") -> Table:
    """For a terminal."""
    verdict = {
        "better": f"{report.second} is better",
        "worse": f"{report.second} is worse",
        "not told apart": "these queries do not tell them apart",
    }[report.verdict]
    title = (
        f"{report.num_queries} queries of split {report.split}, {report.num_clips} clips: {verdict}"
    )
    rows = []
    for row in report.rows:
        shares = [f"{100 * value:.1f} %" for value in (row.first, row.second)]
        change = [f"{100 * value:+.1f}" for value in (row.difference, row.low, row.high)]
        rows.append((row.metric, *shares, change[0], f"{change[1]} to {change[2]}"))
    numbers = (report.first, report.second, "difference", "95 % interval")
    return text_table(("", *numbers), rows, title=title, right=numbers)


def _print(config: _Place, value: Any, shown: Table | str) -> None:
    if config.json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    else:
        Console().print(shown)


Config = (
    Annotated[ListConfig, tyro.conf.subcommand("list")]
    | Annotated[CompareConfig, tyro.conf.subcommand("compare")]
    | Annotated[PromoteConfig, tyro.conf.subcommand("promote")]
    | Annotated[RollbackConfig, tyro.conf.subcommand("rollback")]
    | Annotated[CopyConfig, tyro.conf.subcommand("copy")]
)
_STEPS: dict[type, Any] = {
    ListConfig: show_collections,
    CompareConfig: show_comparison,
    PromoteConfig: promote,
    RollbackConfig: rollback,
    CopyConfig: copy,
}


def run(config: Any) -> int:
    """One step."""
    return _STEPS[type(config)](config)
