"""Training on a folder of released data: its triplets and vectors, converted once to the two tables that stage 2 reads.

A folder holds train, val and test CSV and embeddings (a pickle stream, or a folder of `.pth` files) in the released formats, side by
side or as the release has them: `annotations/*.csv`, `embedding_files/*.pkl`, `Embeddings/AIM/*.pth`. `triplets.parquet` may stand for
the former and `vectors.parquet` for the latter. A clip of a triplet without a vector is an error, or with `skips_missing` a row of
`vectors.dead.parquet`; a bad row or vector is an error, or with `skips_bad` a line of `problems.txt` or a row there.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage import write_atomic
from cluster.tables import wide_console
from encoders.files import read_json, read_table
from encoders.stages.base import ClipError, DeadLetter
from training.annotations.embeddings.import_embeddings import (
    BAD_VECTOR,
    ImportEmbeddingsConfig,
    import_embeddings,
)
from training.annotations.readers.rows import Problems
from training.annotations.readers.tfcovr import TfcovrFiles, read_tfcovr
from training.annotations.readers.video_folder import VideoFolder
from training.annotations.triplets.table import Triplet, read_triplets, write_triplets
from training.configs import LaunchSettings, Stage2Config
from training.evaluation.evaluate_run import METRICS_FILE, evaluate_run
from training.evaluation.paper_table import describe_data, our_rows, paper_table
from training.evaluation.tables import rows_table
from training.stage2.train import Stage2Inputs, train_stage2
from training.trainer.run_folder import hash_file
from training.vectors.tables import read_dead_rows, write_dead_letters

TRIPLETS = "triplets.parquet"
VECTORS = "vectors.parquet"
SUMMARY = "data.json"
SOURCES = "sources.json"
PROBLEMS = "problems.txt"
_SPLITS = ("train", "val", "test")
_STREAM_ENDINGS = (".pkl", ".pickle")
# Of the encoder whose vectors the paper composes, where the release has those of others beside it.
_PAPERS_ENCODER = "aim"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFiles:
    """Paths of the two tables, and a summary of their content."""

    triplets_path: Path
    vectors_path: Path
    summary: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataChoices:
    """What is read of a folder of released data, and what may be left out."""

    embeddings: str | None = None
    """Name of one of several embeddings."""
    skips_missing: bool = False
    skips_bad: bool = False


def prepare_data(data_dir: Path, out_dir: Path, choices: DataChoices | None = None) -> DataFiles:
    """Convert what is not converted yet; ValueError for a missing file or for clips without a vector."""
    choices = choices or DataChoices()
    if not data_dir.is_dir():
        raise ValueError(f"{data_dir} is not a folder; it must hold annotations and embeddings")
    vectors_path, triplets_path = out_dir / VECTORS, out_dir / TRIPLETS
    sources = _find_sources(data_dir, choices.embeddings)
    triplets, vector_ids = _convert(data_dir, out_dir, sources, choices)
    named = {clip_id for t in triplets for clip_id in (t.query_clip_id, *t.target_clip_ids)}
    letters = map(DeadLetter.from_columns, read_dead_rows(vectors_path))
    bad = [letter for letter in letters if letter.error.reason == BAD_VECTOR]
    missing = sorted(named - vector_ids - {letter.clip_id for letter in bad})
    if missing and not choices.skips_missing:
        raise ValueError(
            f"{data_dir}: {len(missing)} of {len(named)} clips that triplets name have no embedding, first: "
            f"{missing[:3]}; --skip-missing leaves their triplets out and lists them"
        )
    without = [_without_embedding(clip_id, data_dir) for clip_id in missing]
    write_dead_letters(vectors_path, [*bad, *without])
    summary: dict[str, object] = {
        "data": str(data_dir),
        "embeddings": str(sources["embeddings"]),
        "num_vectors": len(vector_ids),
        "num_bad_vectors": len(bad),
        "num_bad_rows": len((out_dir / PROBLEMS).read_text().splitlines()),
        "num_clips_named": len(named),
        "num_clips_without_vector": len(missing),
        "num_triplets": {
            split or "none": sum(t.split == split for t in triplets)
            for split in sorted({t.split for t in triplets}, key=str)
        },
    }
    write_atomic(out_dir / SUMMARY, json.dumps(summary, indent=1))
    return DataFiles(triplets_path=triplets_path, vectors_path=vectors_path, summary=summary)


def _convert(
    data_dir: Path, out_dir: Path, sources: Mapping[str, Path], choices: DataChoices
) -> tuple[list[Triplet], set[str]]:
    """Convert unless the sources are unchanged; returns triplets and clip ids of the vectors."""
    out_dir.mkdir(parents=True, exist_ok=True)
    described: dict[str, object] = {name: _fingerprint(path) for name, path in sources.items()}
    described["skips_bad"] = choices.skips_bad
    marker = out_dir / SOURCES
    if _read_or_none(marker) != described:
        marker.unlink(missing_ok=True)
        problems = Problems(skip_bad=choices.skips_bad)
        if "triplets" in sources:
            shutil.copyfile(sources["triplets"], out_dir / TRIPLETS)
        else:
            write_triplets(out_dir / TRIPLETS, _read_annotations(sources, data_dir, problems))
        lines = (" ".join(message.split()) + "\n" for message in problems.messages)
        write_atomic(out_dir / PROBLEMS, "".join(lines))
        if sources["embeddings"].name == VECTORS:
            shutil.copyfile(sources["embeddings"], out_dir / VECTORS)
        else:
            import_embeddings(
                ImportEmbeddingsConfig(
                    source=sources["embeddings"],
                    out=out_dir / VECTORS,
                    skip_bad=choices.skips_bad,
                )
            )
        write_atomic(marker, json.dumps(described, indent=1))
    return read_triplets(out_dir / TRIPLETS), _ids_of(out_dir / VECTORS)


def _read_annotations(
    sources: Mapping[str, Path], data_dir: Path, problems: Problems
) -> list[Triplet]:
    files = TfcovrFiles(train=sources["train"], val=sources["val"], test=sources["test"])
    # Videos may be missing, because only their vectors are used.
    videos = VideoFolder(data_dir, must_exist=False)
    return read_tfcovr(files, videos, problems).triplets


def _find_sources(data_dir: Path, embeddings: str | None) -> dict[str, Path]:
    """`train`, `val`, `test` (or `triplets`) and `embeddings`; ValueError for one that is missing or ambiguous."""
    sources: dict[str, Path] = {}
    if (data_dir / TRIPLETS).exists():
        sources["triplets"] = data_dir / TRIPLETS
    else:
        paths = sorted([*data_dir.glob("*.csv"), *data_dir.glob("annotations/*.csv")])
        tables = [path for path in paths if _has_queries(path)]
        for split in _SPLITS:
            of_split = [path for path in tables if split in path.stem.lower()]
            sources[split] = _only(of_split, f"CSV of the {split} split ({split}.csv)", data_dir)
    if (data_dir / VECTORS).exists():
        sources["embeddings"] = data_dir / VECTORS
        return sources
    sources["embeddings"] = _choose_embeddings(_find_embeddings(data_dir), embeddings, data_dir)
    return sources


def _find_embeddings(data_dir: Path) -> list[Path]:
    """Streams, then folders."""
    files = [*data_dir.iterdir(), *data_dir.glob("embedding_files/*")]
    streams = [path for path in files if path.suffix in _STREAM_ENDINGS]
    below = [
        path for path in (*data_dir.glob("*"), *data_dir.glob("Embeddings/*")) if path.is_dir()
    ]
    folders = [path for path in (data_dir, *below) if next(path.glob("*.pth"), None) is not None]
    return [*sorted(streams), *sorted(folders)]


def _choose_embeddings(paths: Sequence[Path], name: str | None, data_dir: Path) -> Path:
    """The one of this name; without a name the only one, of several the stream or else the folder of the paper's encoder."""
    if name is not None:
        named = [p for p in paths if name in (p.name, p.stem, str(p.relative_to(data_dir)))]
        if len(named) != 1:
            names = [str(path.relative_to(data_dir)) for path in paths]
            raise ValueError(f"embeddings is {name!r}; it must be one of {names}")
        return named[0]
    if len(paths) > 1:
        papers = [path for path in paths if _PAPERS_ENCODER in path.name.lower()]
        for kind in ([p for p in papers if p.is_file()], [p for p in papers if p.is_dir()]):
            if len(kind) == 1:
                return kind[0]
            if kind:
                break
    endings = " or ".join(_STREAM_ENDINGS)
    what = (
        f"embeddings (a file ending in {endings}, a folder of .pth files, or {VECTORS}; of several --embeddings NAME chooses one, "
        f"without it the one named {_PAPERS_ENCODER!r})"
    )
    return _only(paths, what, data_dir)


def _only(paths: Sequence[Path], what: str, data_dir: Path) -> Path:
    if len(paths) != 1:
        names = [str(path.relative_to(data_dir)) for path in paths]
        raise ValueError(f"{data_dir}: it must hold one {what}; found {names or 'none'}")
    return paths[0]


def _has_queries(path: Path) -> bool:
    """Whether the CSV holds triplets, not stage 1 labels."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return "query_video" in file.readline()


def _fingerprint(path: Path) -> list[object]:
    """Path, number, total size and latest time of a file or of the files of a folder."""
    files = sorted(path.glob("*.pth")) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return [
        str(path.absolute()),
        len(files),
        sum(stat.st_size for stat in stats),
        max(stat.st_mtime_ns for stat in stats),
    ]


def _ids_of(path: Path) -> set[str]:
    return set(read_table(path, ["clip_id"])["clip_id"].to_pylist())


def _without_embedding(clip_id: str, data_dir: Path) -> DeadLetter:
    return DeadLetter(
        clip_id=clip_id,
        video_uri=str(data_dir),
        error=ClipError(stage="embeddings", reason="no_embedding", detail="a triplet names it"),
    )


_DATA = "data"
_EVALUATE = "evaluate"


def train_on_data(  # noqa: PLR0913  # one keyword per option of the command
    config: Stage2Config,
    data_dir: Path,
    run_dir: Path,
    *,
    init_bundle: Path | None = None,
    choices: DataChoices | None = None,
    eval_split: str = "test",
    launch: LaunchSettings | None = None,
) -> dict[str, Any]:
    """Convert, train, evaluate, skipping finished steps; returns the content of result.json."""
    files = prepare_data(data_dir, run_dir / _DATA, choices)
    inputs = Stage2Inputs(
        triplets_path=files.triplets_path,
        vectors_path=files.vectors_path,
        init_bundle=init_bundle,
    )
    result = train_stage2(config, inputs, run_dir, launch)
    path = run_dir / _EVALUATE / METRICS_FILE
    made_of = {"key": result["key"], "split": eval_split, "vectors": hash_file(files.vectors_path)}
    if (_read_or_none(path) or {}).get("made_of") != made_of:
        evaluate_run(
            config,
            triplets_path=files.triplets_path,
            vectors_path=files.vectors_path,
            run_dir=run_dir,
            split=eval_split,
            about={"made_of": made_of, "data": str(data_dir), "summary": files.summary},
        )
    return result


def _read_or_none(path: Path) -> dict[str, Any] | None:
    """None for what is not there or is damaged: it is made again."""
    with suppress(OSError, ValueError):
        return read_json(path)
    return None


def print_evaluation(run_dir: Path) -> None:
    """Print the rows with their intervals, and our figures beside the published ones."""
    metrics = read_json(run_dir / _EVALUATE / METRICS_FILE)
    console = wide_console()
    title = f"{metrics['split']} split, protocol unique, percent"
    console.print(rows_table(metrics, title=title, width=console.width))
    console.print(paper_table(our_rows(metrics), data=describe_data(metrics)))
