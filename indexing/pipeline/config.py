"""What one indexing run is told, and how a later command of the same run folder reads it back."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from cluster.storage import write_atomic
from encoders.files import from_dict, parse_json
from encoders.media.container import MediaLimits
from indexing.pipeline.workers import WorkerOptions
from indexing.sources.archive import ArchiveRequest
from indexing.sources.changes import since_of
from indexing.sources.fetch_cache import FetchOptions
from indexing.sources.uris import public_uri
from indexing.store.endpoint import is_lite
from indexing.store.vector_index import IndexChoice, VectorDtype

CONFIG = "index_config.json"
MAX_DELETE_SHARE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastOptions:
    """What a dry run forecasts, and from what."""

    sample: int = 50
    """Clips that go through the real stages on this machine, into a collection that is dropped."""
    rates: Path | None = None
    """index_summary.json of a run on one node of the kind, in place of a sample."""
    nodes: int = 1
    """Number of nodes."""
    cpus: float = 0.0
    """Cores of each node; 0 = as measured."""
    gpus: float = 0.0
    """GPUs of each node; 0 = as measured."""

    def __post_init__(self) -> None:
        if self.sample < 2 or self.nodes < 1 or self.cpus < 0 or self.gpus < 0:
            raise ValueError(
                f"sample is {self.sample} (at least 2), nodes {self.nodes} (at least 1), cpus {self.cpus} and gpus {self.gpus} "
                "(at least 0)"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """Embed an archive into Milvus. Run the same command again after a kill: it goes on."""

    bundle: Path
    """Bundle whose encoder makes the vectors."""
    clips: str
    """A clips.parquet (a file, or a folder of them; remote with a / at its end), or a folder or glob of videos (one clip per file); local,
    s3://, gs://, abfs:// or http(s)://."""
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    run_dir: Path
    """Ledger, dead letters and summary; several nodes must share it."""
    collection: str = "clips"
    backend: Literal["auto", "onnx", "torch", "compiled", "tensorrt"] = "auto"
    """What runs the encoder; auto = tensorrt on a GPU that the bundle has a measured engine for, else compiled where `tfcovr export
    --backend compiled` was run on such a GPU, else onnx."""
    index: IndexChoice = "auto"
    """How Milvus finds vectors: flat = exact; hnsw = a graph, approximate; auto = hnsw above 100,000 rows on a server."""
    vector_dtype: VectorDtype = "float32"
    """How Milvus keeps vectors: float16 takes half the memory. Refused where the server does not have it, which is tried first."""
    bulk_import: str = ""
    """A folder or s3:// prefix that the Milvus server reads itself, under the same path or as its own bucket: rows go in as
    Parquet files, for a first load. Measure first: on one machine upserts are faster."""
    batch_size: int = 0
    """Clips that are embedded at once; 0 = by their bytes, at most 64 clips: up to 128 MiB of frames on a GPU, on a CPU 4 MiB, or
    16 MiB where other workers decode."""
    decode_deadline_s: float = 120.0
    """A video that takes longer becomes a dead letter (decode_timeout)."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits of the media files; a video beyond one becomes a dead letter (limit_exceeded) that names it."""
    workers: WorkerOptions = field(default_factory=WorkerOptions)
    fetch: FetchOptions = field(default_factory=FetchOptions)
    retry: tuple[str, ...] = ()
    """Reasons of dead letters whose clips are tried again with their content unchanged; all = any reason."""
    prune: bool = False
    """Delete rows of clips that the archive does not have any more; rows of other archives stay."""
    max_delete_share: float = MAX_DELETE_SHARE
    """Refuse to prune more than this share of the archive's rows, as a list of clips that was cut off would; 1 = prune any number."""
    since: str = ""
    """Look only at videos that changed since then: 2026-11-30, 2026-11-30T12:00, or how long ago, 36h or 7d. Rows of others are left
    alone. Where the time of a video is not known, it is looked at."""
    asked: Path | None = None
    """Folder of the counts that `tfcovr serve --asked` writes: the clips that are asked for most are indexed first."""
    archive: str | None = None
    """Name of the archive among those of the collection: its clip ids begin with NAME: and no other run touches them. None = as the
    run folder or the collection records it; a new one is named after its folder, the first of a collection not at all ('')."""
    moved: bool = False
    """The archive is the recorded one, although its clips are in another place now, or listed in another way."""
    price_per_node_h: float = 0.0
    """Price of one node for an hour, in your currency: what the run has cost so far is then part of its progress and its metrics."""
    dry_run: bool = False
    """Index nothing: tell what the archive holds, and what indexing it will take and cost on nodes of a kind."""
    forecast: ForecastOptions = field(default_factory=ForecastOptions)
    recompute: int | None = None
    """Clips of the run that are decoded and embedded again at its end and compared with their vectors in Milvus; None = 16 or one in
    a thousand, whichever is more, at most 256. 0 = none."""

    def __post_init__(self) -> None:
        require_recompute(self.recompute)
        require_share(self.max_delete_share)
        if not self.decode_deadline_s > 0:
            raise ValueError(f"decode_deadline_s is {self.decode_deadline_s}; it must be above 0")
        if not 0 <= self.price_per_node_h < float("inf"):
            raise ValueError(
                f"price_per_node_h is {self.price_per_node_h}; it must be a number of at least 0"
            )
        if self.batch_size < 0:
            raise ValueError(
                f"batch_size is {self.batch_size}; it must be at least 1, or 0 = choose"
            )
        if self.since:
            since_of(self.since, time.time())
        if self.since and self.prune:
            raise ValueError(
                f"since is {self.since!r} and prune is asked for; what is gone is seen in a whole list only, leave one of them out"
            )
        if self.bulk_import and is_lite(self.milvus_uri):
            raise ValueError(
                f"bulk_import is {self.bulk_import!r}, and Milvus Lite ({self.milvus_uri!r}) imports nothing; leave it out, "
                "or use a Milvus server (http://HOST:19530)"
            )
        if self.bulk_import and self.vector_dtype != "float32":
            raise ValueError(
                f"bulk_import is {self.bulk_import!r} and vector_dtype {self.vector_dtype!r}; imports take float32 only, "
                "leave one of them out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """Compare a collection with its archive: by key (missing, duplicate, stale, orphaned), and by what was written beside it (outdated).

    Status 0 only when all of these are 0 and every video could be read, or is a dead letter of the last run.
    """

    bundle: Path
    """Bundle that indexed the archive."""
    clips: str
    """The clips.parquet, or folder or glob of videos, that was indexed."""
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    run_dir: Path
    """Run folder of the indexing, for its dead letters."""
    collection: str = "clips"
    archive: str | None = None
    """Name of the archive among those of the collection; None = as the run folder or the collection records it."""
    read_all: bool = False
    """Read every byte of every video, also of those whose size and time have not changed, and every row."""
    repair: bool = False
    """Index what is missing and delete what is duplicate, stale or orphaned; then verify again."""
    max_delete_share: float = MAX_DELETE_SHARE
    """Refuse a repair that would delete orphaned rows beyond this share of the archive's rows; 1 = delete any number."""
    recompute: int = 0
    """Also decode and embed so many clips again, chosen at random, and compare them with their vectors in Milvus."""
    json: bool = False
    """Print the counts as JSON."""

    def __post_init__(self) -> None:
        require_recompute(self.recompute)
        require_share(self.max_delete_share)


def require_share(share: float) -> None:
    """ValueError for a max_delete_share that is none."""
    if not 0 <= share <= 1:
        raise ValueError(f"max_delete_share is {share}; it must be from 0 to 1")


def require_recompute(recompute: int | None) -> None:
    """ValueError below 0."""
    if recompute is not None and recompute < 0:
        raise ValueError(f"recompute is {recompute}; it must be at least 0")


def write_config(config: IndexConfig) -> None:
    """Beside the ledger; paths are made absolute, and what holds for one run only is left out."""
    kept = replace(
        config,
        bundle=config.bundle.resolve(),
        run_dir=config.run_dir.resolve(),
        clips=public_uri(absolute(config.clips)),
        milvus_uri=public_uri(absolute(config.milvus_uri)),
        bulk_import=public_uri(absolute(config.bulk_import)) if config.bulk_import else "",
        retry=(),
        prune=False,
        since="",
        asked=None,
        max_delete_share=MAX_DELETE_SHARE,
        moved=False,
        dry_run=False,
        forecast=ForecastOptions(),
    )
    write_atomic(config.run_dir / CONFIG, json.dumps(asdict(kept), indent=2, default=str) + "\n")


def archive_request(config: IndexConfig | VerifyConfig) -> ArchiveRequest:
    """Which archive a command is about, and what the run folder knows of it."""
    path = config.run_dir / CONFIG
    recorded: dict[str, Any] = {}
    if path.exists():
        with suppress(ValueError, TypeError):  # a damaged file: the collection knows its archives
            recorded = dict(parse_json(path.read_text()))
    here = (config.collection, public_uri(absolute(config.milvus_uri)))
    return ArchiveRequest(
        source=public_uri(absolute(config.clips)),
        name=config.archive,
        is_moved=isinstance(config, IndexConfig) and config.moved,
        # Run folders of earlier versions record no name: their rows have none.
        recorded=(recorded.get("archive") or "", str(recorded["clips"]))
        if "clips" in recorded
        else None,
        is_recorded_here=(recorded.get("collection"), recorded.get("milvus_uri")) == here,
    )


def read_config(run_dir: Path) -> IndexConfig:
    """The settings of the folder's last run; ValueError when there was none."""
    path = run_dir / CONFIG
    if not path.exists():
        raise ValueError(f"{path} is not there; give the --run-dir of an earlier `tfcovr index`")
    try:
        values = dict(parse_json(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); run `tfcovr index` of this archive again, which writes it anew"
        ) from error
    if strange := set(values) ^ {field.name for field in fields(IndexConfig)}:
        raise ValueError(
            f"{path} was written by another version: it lacks or adds {', '.join(sorted(strange))}; "
            "run `tfcovr index` of this archive again, which does only what is missing and writes it anew"
        )
    return from_dict(IndexConfig, values | {"run_dir": str(run_dir)}, str(path))


def earlier_settings(run_dir: Path, **places: Any) -> IndexConfig:
    """The settings of the folder's last run, if there was one, with these in place of its own."""
    has_run = (run_dir / CONFIG).exists()
    earlier = replace(read_config(run_dir), **places) if has_run else None
    return earlier or IndexConfig(run_dir=run_dir, **places)


def absolute(place: str) -> str:
    """A path without its working folder; a URI as it is."""
    return place if "://" in place else str(Path(place).resolve())
