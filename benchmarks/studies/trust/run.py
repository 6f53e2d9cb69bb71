"""Kills and shared collections, part by part: `python -m benchmarks trust-runs --work-dir runs/trust_runs` writes one record.

Resumable: rerun the same command after an interruption; a finished trial is not repeated. Needs the package of the Milvus server
(pip install '.[server]'). Two cores take about 40 minutes.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from benchmarks.harness.parts import Part, PartRunner
from benchmarks.harness.record import capture_environment, write_record
from benchmarks.studies.trust.jobs import (
    COLLECTION,
    Archive,
    make_archive,
    make_bundle,
    stored_vectors,
)
from benchmarks.studies.trust.kills import TARGETS, kill_of_seed, run_kill, run_undisturbed
from benchmarks.studies.trust.two_drivers import (
    index_change,
    running_server,
    two_archives,
    two_drivers,
)

_NUM_VIDEOS = 24
_CHANGE_ROWS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustRuns:
    """Kill commands at random moments, run two at once, change an index under load; count what is lost, doubled or refused."""

    work_dir: Path
    """Folder of the archives, the results and the figures of finished trials."""
    num_kills: int = 30
    """Kills, of each target in turn: index, vectors, training, milvus."""
    pair_seeds: tuple[int, ...] = (0, 15)
    """Of pairs of drivers and of archives; where it is odd, both drivers have one run folder."""
    change_seeds: tuple[int, ...] = (0, 15)
    """Of collections whose index changes to a graph and back."""

    def __post_init__(self) -> None:
        if self.num_kills < 1 or not self.pair_seeds or not self.change_seeds:
            raise ValueError(
                f"num_kills is {self.num_kills}, pair_seeds {self.pair_seeds}, change_seeds {self.change_seeds}; give at least one of each"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """0 when nothing was lost, doubled, wrong or refused."""
    config = tyro.cli(
        TrustRuns, args=argv, prog="python -m benchmarks trust-runs", description=__doc__
    )
    say = Console(stderr=True, highlight=False).print
    work_dir = config.work_dir.resolve()
    # A trial that went wrong is a figure; what is measured is the code as it is when a part runs.
    runner = PartRunner(work_dir, settings={"videos": _NUM_VIDEOS}, say=say)
    records = runner.run(_parts(config, work_dir))
    figures = _figures({record.name: record.figures for record in records})
    path = write_record("trust_runs", config=asdict(config), metrics=figures)
    sys.stdout.write(json.dumps(figures, indent=2) + f"\n{path}\n")
    return int(any(figures[name] for name in _MUST_BE_ZERO))


_MUST_BE_ZERO = (
    *("two_drivers_lost", "two_archives_lost", "queries_failed_at_index_change"),
    *("kills_lost", "kills_doubled", "kills_wrong", "kills_hung", "kills_left_processes"),
)


def _parts(config: TrustRuns, work_dir: Path) -> list[Part]:
    cam1, cam2 = (Archive(clips=work_dir / cam / "clips.parquet", bundle=work_dir / "bundle") for cam in ("cam1", "cam2"))  # fmt: skip
    return [
        Part(name="archive", run=partial(_make, work_dir), outputs=(cam2.clips,)),
        *(
            Part(
                name=f"undisturbed-{target}",
                run=partial(_undisturbed, target, cam1, work_dir),
                outputs=(_reference(work_dir, target),),
            )
            for target in TARGETS
            if target != "milvus"
        ),
        Part(name="undisturbed-cam2", run=partial(_undisturbed_cam2, cam2, work_dir)),
        *(
            Part(name=f"drivers-{seed}", run=partial(_drivers, seed, cam1, cam2, work_dir), weight=3, describe=_line)
            for seed in config.pair_seeds
        ),
        *(
            Part(name=f"change-{seed}", run=partial(_change, seed, cam1, work_dir), weight=4, describe=_line)
            for seed in config.change_seeds
        ),
        *(
            Part(name=f"kill-{seed}", run=partial(_kill, seed, cam1, work_dir), weight=2, describe=_line)
            for seed in range(config.num_kills)
        ),
    ]  # fmt: skip


def _line(figures: Mapping[str, Any]) -> str:
    return json.dumps(figures)


def _make(work_dir: Path) -> dict[str, int]:
    bundle = work_dir / "bundle"
    if not (bundle / "canaries.safetensors").exists():
        make_bundle(bundle)
    for number, name in enumerate(("cam1", "cam2")):
        make_archive(work_dir / name, bundle=bundle, num_videos=_NUM_VIDEOS, seed=number)
    return {"clips": 4 * _NUM_VIDEOS}


def _reference(work_dir: Path, target: str) -> Path:
    return work_dir / "undisturbed" / ("index" if target == "milvus" else target)


def _undisturbed(target: Any, archive: Archive, work_dir: Path) -> dict[str, float]:
    place = _reference(work_dir, target)
    return {f"undisturbed_{target}_s": round(run_undisturbed(target, archive, place), 2)}


def _undisturbed_cam2(archive: Archive, work_dir: Path) -> dict[str, float]:
    run_undisturbed("index", archive, work_dir / "undisturbed" / "cam2")
    return {}


def _kill(seed: int, archive: Archive, work_dir: Path) -> dict[str, Any]:
    kill = kill_of_seed(seed)
    target = "index" if kill.target == "milvus" else kill.target
    seconds = json.loads((work_dir / "parts.json").read_text())
    taken = {name: value for row in seconds for name, value in row["figures"].items()}
    result = run_kill(
        kill,
        archive,
        work_dir / "kills" / str(seed),
        reference=_reference(work_dir, kill.target),
        seconds=taken[f"undisturbed_{target}_s"],
    )
    return result.figures() | _commit()


def _drivers(seed: int, cam1: Archive, cam2: Archive, work_dir: Path) -> dict[str, Any]:
    references = [(cam1, "index"), (cam2, "cam2")]
    expected = [
        dict(stored_vectors(str(work_dir / "undisturbed" / name / "milvus"), COLLECTION, archive.bundle))
        for archive, name in references
    ]  # fmt: skip
    folder = work_dir / "drivers" / str(seed)
    with running_server(folder / "server") as uri:
        one = two_drivers(uri, cam1, folder / "one", seed=seed, expected=expected[0])
        both = (expected[0], expected[1])
        two = two_archives(uri, (cam1, cam2), folder / "two", seed=seed, expected=both)
    return {"one_archive": one, "two_archives": two} | _commit()


def _change(seed: int, archive: Archive, work_dir: Path) -> dict[str, Any]:
    folder = work_dir / "changes" / str(seed)
    with running_server(folder / "server") as uri:
        figures = index_change(uri, archive, folder / "run", num_rows=_CHANGE_ROWS, seed=seed)
    return figures | _commit()


def _commit() -> dict[str, str]:
    """What a trial ran: a trial that has finished is not repeated for a later commit."""
    environment = capture_environment()
    changed = "" if environment["git_is_dirty"] is False else " with changes"
    return {"commit": f"{str(environment['git_commit'])[:7]}{changed}"}


def _figures(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    kills, pairs, changes = (
        [figures for name, figures in parts.items() if name.startswith(kind)]
        for kind in ("kill-", "drivers-", "change-")
    )
    terminated = [
        kill["end_s"]
        for kill in kills
        if kill["kill"]["signal"] == "SIGTERM" and kill["kill"]["target"] != "milvus"
    ]
    return {
        "two_drivers": len(pairs),
        "two_drivers_lost": sum(pair["one_archive"]["lost"] for pair in pairs),
        "two_archives": len(pairs),
        "two_archives_lost": sum(pair["two_archives"]["lost"] for pair in pairs),
        "index_changes": 2 * len(changes),
        "queries_at_index_change": sum(change["queries"] for change in changes),
        "queries_failed_at_index_change": sum(change["failed"] for change in changes),
        "kills": len(kills),
        "kills_hit": sum(kill["has_hit"] for kill in kills),
        "kills_lost": sum(kill["difference"]["lost"] for kill in kills),
        "kills_doubled": sum(kill["difference"]["doubled"] for kill in kills),
        "kills_wrong": sum(kill["difference"]["wrong"] for kill in kills),
        "kills_hung": sum(kill["is_hung"] for kill in kills),
        "kills_left_processes": sum(kill["left"] for kill in kills),
        "kills_by_target": dict(Counter(kill["kill"]["target"] for kill in kills)),
        "kills_by_signal": dict(Counter(kill["kill"]["signal"] for kill in kills)),
        "kills_runs": sum(len(kill["statuses"]) for kill in kills),
        "sigterm_end_s": max(terminated, default=0.0),
        "commits": sorted({trial["commit"] for trial in (*pairs, *changes, *kills)}),
    }


if __name__ == "__main__":
    raise SystemExit(main())
