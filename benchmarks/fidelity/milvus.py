"""Everything that is asked of a Milvus, against one: sink, search, filters, verify, aliases, copy, import, float16, index.

    make milvus-check MILVUS_URI=http://USER:PASSWORD@HOST:19530

It works in collections with a random prefix and drops them at its end. Status 0 only where every part is right.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from encoders.clips import Clip
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import Ledger
from indexing.ledger.manifest import Manifest
from indexing.ledger.planned_clip import PlannedClip
from indexing.ledger.row_table import State
from indexing.search.filters import FilterFields
from indexing.store.aliases import open_catalog
from indexing.store.bulk_import import BulkImport
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import is_lite, serve_milvus
from indexing.store.rows import collection_row
from indexing.store.transfer.copy_collection import CopyPlan, copy_collection
from indexing.store.transfer.datasink import open_datasink
from indexing.store.transfer.index_swap import ensure_index

_NUM_ROWS, _DIM, _K = 600, 32, 10
_ENCODER = "milvus-check"
_SPLITS = ("train", "val", 'a "quoted" split')


class NotRunError(Exception):
    """A part that this server or this call has no means for."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Check a Milvus server, or a folder of Milvus Lite."""

    milvus_uri: str
    """http://USER:PASSWORD@HOST:19530, or a folder."""
    import_folder: str = ""
    """A folder under the same path on the server, or an s3:// prefix of its bucket, for the import; "" = the import is not run."""


@dataclass
class _Check:
    """The parts, in their order; later ones use what earlier ones wrote."""

    uri: str
    import_folder: str
    prefix: str = field(default_factory=lambda: f"tfcovr_check_{uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        vectors_ND = np.random.default_rng(0).normal(size=(_NUM_ROWS, _DIM)).astype(np.float32)
        self.vectors_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        self.clips = [
            Clip(
                clip_id=f"clip {i} / 'x'",
                video_uri=f"/v/{i}.mp4",
                start_s=float(i),
                end_s=None if i % 3 == 0 else i + 2.0,
                label=f"label {i % 7}",
                split=_SPLITS[i % len(_SPLITS)],
                attributes={"twists": str(i % 4)},
            )
            for i in range(_NUM_ROWS)
        ]
        self.rows = [
            collection_row(clip, key=f"key-{i}", embedding_D=vector_D, backend="onnx", precision="float32")
            for i, (clip, vector_D) in enumerate(zip(self.clips, self.vectors_ND, strict=True))
        ]  # fmt: skip

    def parts(self) -> dict[str, Callable[[], str]]:
        return {
            "sink": self.sink,
            "search": self.search,
            "filters": self.filters,
            "verify": self.verify,
            "aliases": self.aliases,
            "copy": self.copy,
            "import": self.bulk_import,
            "float16": self.float16,
            "index": self.hnsw,
        }

    @contextmanager
    def collection(self, name: str = "rows", **options: Any) -> Iterator[ClipCollection]:
        with open_collection(self.uri, f"{self.prefix}_{name}") as opened:
            opened.create_or_check(encoder_id=_ENCODER, embedding_dim=_DIM, **options)
            yield opened

    def sink(self) -> str:
        columns = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        columns["attributes"] = [list(row["attributes"].items()) for row in self.rows]
        types = {"attributes": pa.map_(pa.string(), pa.string())}
        table = pa.table(
            {name: pa.array(values, types.get(name)) for name, values in columns.items()}
        )
        name = f"{self.prefix}_rows"
        with open_datasink(self.uri, name, encoder_id=_ENCODER, embedding_dim=_DIM) as sink:
            for _ in range(2):  # the same rows twice are the same rows
                _require(
                    sink.write([table], None) == _NUM_ROWS, "the sink wrote another number of rows"
                )
        with self.collection() as collection:
            collection.flush()
            _require(collection.count() == _NUM_ROWS, f"{collection.count()} rows, not {_NUM_ROWS}")
            stored = {row["clip_key"]: row for row in collection.rows_of_keys(["key-0", "key-1"])}
        for key in ("key-0", "key-1"):
            sent = self.rows[int(key[4:])]
            same = {name: stored[key][name] == sent[name] for name in sent if name != "embedding"}
            _require(all(same.values()), f"fields of {key} that came back otherwise: {same}")
            _require(
                np.allclose(stored[key]["embedding"], sent["embedding"], atol=1e-6),
                "another vector",
            )
        return f"{_NUM_ROWS} rows written twice are {_NUM_ROWS}"

    def search(self) -> str:
        with self.collection() as collection:
            return f"the lowest of {_K * 20} scores is {_lowest_gap(collection, self.vectors_ND):.1e} from exact search"

    def filters(self) -> str:
        fields = FilterFields(attributes={"twists": ("0", "1", "2", "3")})
        wanted: dict[str, tuple[dict[str, Any], Callable[[Clip], bool]]] = {
            "text": ({"label": "label 3"}, lambda c: c.label == "label 3"),
            "list": ({"split": list(_SPLITS[1:])}, lambda c: c.split in _SPLITS[1:]),
            "quotes": ({"clip_id": self.clips[5].clip_id}, lambda c: c == self.clips[5]),
            "number": ({"start_s": (100, 199)}, lambda c: 100 <= c.start_s <= 199),
            "attribute": ({"twists": "2"}, lambda c: c.attributes["twists"] == "2"),
            "attribute range": ({"twists": (1, 2)}, lambda c: c.attributes["twists"] in "12"),
            "many": ({"label": [f"label {i}" for i in range(60)]}, lambda _clip: True),
            "nothing": ({"label": "' or 1 == 1 or label == '"}, lambda _clip: False),
        }
        with self.collection() as collection:
            for name, (filters, is_wanted) in wanted.items():
                condition = fields.compile(filters).condition
                stored = {
                    row["clip_id"] for row in collection.rows(("clip_id",), condition=condition)
                }
                expected = {clip.clip_id for clip in self.clips if is_wanted(clip)}
                _require(stored == expected, f"{name}: {len(stored)} rows, not {len(expected)}")
        return f"{len(wanted)} conditions"

    def verify(self) -> str:
        planned = [PlannedClip(clip=clip, clip_key=f"key-{i}", content_hash="") for i, clip in enumerate(self.clips)]  # fmt: skip
        with (
            self.collection() as collection,
            tempfile.TemporaryDirectory() as folder,
            Ledger(folder) as ledger,
            closing(Manifest(ledger, Path(folder))) as manifest,
        ):
            manifest.add(planned)
            manifest.require_own_ids("made-up clips")
            foreign = self.rows[0] | {"clip_key": "foreign", "clip_id": "foreign"}
            collection.upsert([foreign])
            collection.delete(["key-7"])
            collection.flush()
            manifest.read_rows(_keys(collection), ArchiveRows())
            missing = [one.clip_key for one in manifest.clips(State.MISSING)]
            _require(missing == ["key-7"], f"missing: {missing}")
            orphaned = list(manifest.rows.orphaned_ids())
            _require(orphaned == ["foreign"], f"orphaned: {orphaned}")
            collection.delete(["foreign"])
            collection.upsert([self.rows[7]])
            collection.flush()
            manifest.read_rows(_keys(collection), ArchiveRows())
            _require(
                manifest.count(State.PRESENT) == manifest.rows.num() == _NUM_ROWS,
                "not every row is present again",
            )
        return "one missing and one foreign row found and repaired"

    def aliases(self) -> str:
        first, second, alias = (f"{self.prefix}_{name}" for name in ("rows", "second", "live"))
        with self.collection("second") as collection:
            collection.upsert(self.rows[:100])
            collection.flush()
        with open_catalog(self.uri) as catalog:
            catalog.promote(alias, first)
            catalog.promote(alias, second, encoder_id=_ENCODER)
            _require(catalog.target(alias) == second, "the alias did not move")
        with open_collection(self.uri, alias) as collection:
            collection.check(encoder_id=_ENCODER)
            _require(collection.count() == 100, "the alias leads to other rows")
        with open_catalog(self.uri) as catalog:
            catalog.rollback(alias)
            _require(catalog.target(alias) == first, "the alias did not go back")
        return "promoted, read through, rolled back"

    def copy(self) -> str:
        report = copy_collection(
            CopyPlan(
                milvus_uri=self.uri,
                collection=f"{self.prefix}_rows",
                to_milvus_uri=self.uri,
                to_collection=f"{self.prefix}_copy",
                index="flat",
            )
        )
        _require(report.num_copied == _NUM_ROWS, f"{report.num_copied} rows copied")
        with self.collection("copy") as collection:
            gap = _lowest_gap(collection, self.vectors_ND)
        return f"{report.num_copied} rows, {gap:.1e} from exact search"

    def bulk_import(self) -> str:
        if is_lite(self.uri):
            raise NotRunError("Milvus Lite imports nothing")
        if not self.import_folder:
            raise NotRunError(
                "give IMPORT=, a folder or an s3:// prefix that the server reads itself"
            )
        with self.collection("import") as collection, tempfile.TemporaryDirectory() as run_dir:
            with closing(BulkImport(collection, Path(run_dir))) as importer:
                importer.load(self.rows, self.import_folder)
            _require(collection.count() == _NUM_ROWS, f"{collection.count()} rows, not {_NUM_ROWS}")
            gap = _lowest_gap(collection, self.vectors_ND)
        return f"{_NUM_ROWS} rows, {gap:.1e} from exact search"

    def float16(self) -> str:
        try:
            with self.collection("half", vector_dtype="float16") as collection:
                collection.upsert(self.rows)
                collection.flush()
                gap = _lowest_gap(collection, self.vectors_ND, tolerance=2e-3)
        except ValueError as error:
            raise NotRunError(f"refused as it should be where it does not work: {error}") from error
        return f"{gap:.1e} from exact search in float32"

    def hnsw(self) -> str:
        with self.collection() as collection:
            before = collection.index_type()
            after = ensure_index(collection, "hnsw", is_lite=is_lite(self.uri))
            gap = _lowest_gap(collection, self.vectors_ND, tolerance=1.0)
        return f"{before} became {after}, {gap:.1e} from exact search"

    def drop(self) -> list[str]:
        """Drop what this check made; the names that are left."""
        with open_catalog(self.uri) as catalog:
            for name in [name for name in catalog.names() if name.startswith(self.prefix)]:
                for alias in catalog.aliases_of(name):
                    catalog.pymilvus.drop_alias(alias)
                catalog.pymilvus.drop_collection(name)
            return catalog.names()


def _lowest_gap(
    collection: ClipCollection, vectors_ND: np.ndarray, *, tolerance: float = 1e-4
) -> float:
    """The largest difference of the best scores of 20 queries from those of NumPy, rank by rank."""
    queries_ND = vectors_ND[:20] + 0.05 * vectors_ND[20:40]
    queries_ND /= np.linalg.norm(queries_ND, axis=1, keepdims=True)
    exact_NK = -np.sort(-(queries_ND @ vectors_ND.T), axis=1)[:, :_K]
    answers = collection.nearest_many(queries_ND, limit=_K)
    found_NK = np.array([[score for score, _row in hits] for hits in answers])
    _require(found_NK.shape == exact_NK.shape, f"{found_NK.shape} answers, not {exact_NK.shape}")
    gap = float(np.abs(found_NK - exact_NK).max())
    _require(
        gap <= tolerance, f"scores are up to {gap:.1e} from exact search; at most {tolerance:g}"
    )
    return gap


def _keys(collection: ClipCollection) -> Iterator[tuple[str, str]]:
    return ((row["clip_key"], row["clip_id"]) for row in collection.rows())


def _require(is_right: bool, otherwise: str) -> None:
    if not is_right:
        raise AssertionError(otherwise)


def run(config: Config) -> int:
    """Run every part and say how it went; status 1 where one is wrong or something is left."""
    num_wrong = 0
    with serve_milvus(config.milvus_uri), open_catalog(config.milvus_uri) as catalog:
        before = catalog.names()
        version = catalog.pymilvus.get_server_version()
        sys.stdout.write(f"Milvus {version}, {len(before)} collections\n")
        check = _Check(uri=config.milvus_uri, import_folder=config.import_folder)
        try:
            for name, part in check.parts().items():
                started = time.monotonic()
                try:
                    verdict = f"ok: {part()}"
                except NotRunError as error:
                    verdict = f"not run: {error}"
                except Exception as error:  # noqa: BLE001  whatever a part raises is its verdict
                    num_wrong += 1
                    verdict = f"WRONG: {type(error).__name__}: {error}"
                sys.stdout.write(f"{name:<8} {time.monotonic() - started:5.1f} s  {verdict}\n")
                sys.stdout.flush()
        finally:
            left = sorted(set(check.drop()) - set(before))
        sys.stdout.write(f"left: {', '.join(left) or 'nothing'}\n")
    return 1 if num_wrong or left else 0


def main() -> int:
    """The command line."""
    import tyro

    return run(tyro.cli(Config, description=__doc__))


if __name__ == "__main__":
    raise SystemExit(main())
