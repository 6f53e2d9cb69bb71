"""One command from a folder of videos to an archive: its time, its CPU-seconds by step, and mAP beside a pipeline put together by hand.

Renders dives; a CSV names each file and its dive, and nothing else. By hand: the demo's recipes, command by command, on the same clips,
splits and composed queries. A second folder has no labels: from the command to the first answer to a clip.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.demo.build import Paths
from benchmarks.demo.steps import CLASSES
from benchmarks.dives.archive import ArchiveConfig, write_archive
from benchmarks.harness.parts import RECORDS
from benchmarks.harness.steps import tfcovr_command, tree_cpu_s
from benchmarks.report.run_files import BUILD_FILE
from cluster.progress import progress_bar
from encoders.clips import read_clips
from indexing.archive_folder import ARCHIVE_NAME

_POLL_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Build archives from rendered videos, with and without labels."""

    clips_per_class: tuple[int, int, int] = (15, 3, 5)
    """Videos of each of 18 dives: 414."""
    num_unlabelled: int = 40
    """Videos of the folder without labels."""
    work_dir: Path | None = None
    """Keep everything here, and take rendered videos from here; None = a temporary folder."""

    def __post_init__(self) -> None:
        if min(self.clips_per_class) < 3 or self.num_unlabelled < 2:
            raise ValueError(
                f"clips_per_class is {self.clips_per_class} and num_unlabelled {self.num_unlabelled}; at least 3 and 2"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One command with all the processes that it started."""

    seconds: float
    cpu_s: float
    load: float
    """Mean number of processes that wanted a core, those of others among them."""
    output: str
    until: Mapping[str, tuple[float, float]]
    """Name of a file -> seconds and CPU-seconds when it was there."""


def measure(config: Config) -> dict[str, object]:
    """Seconds are wall time; `*_cpu_s` are summed over all processes."""
    with tempfile.TemporaryDirectory() as name, progress_bar("building", 4) as update:
        work = config.work_dir or Path(name)
        videos, labels = render(work, config.clips_per_class)
        update(1, "with labels")
        figures = _with_labels(videos, labels, work)
        update(2, "by hand")
        figures |= _by_hand(work)
        update(3, "without labels")
        figures |= _without_labels(videos, work, config.num_unlabelled)
        update(4)
    gap = float(str(figures["map50_by_hand"])) - float(str(figures["map50_composed"]))
    return figures | {"map50_behind_hand": gap}


def render(work: Path, clips_per_class: tuple[int, int, int]) -> tuple[Path, Path]:
    """A flat folder of videos, and the CSV."""
    archive = ArchiveConfig(classes=CLASSES, clips_per_class=clips_per_class)
    clips = read_clips(write_archive(work / "archive", archive, quiet=True))
    videos, labels = work / "videos", work / "labels.csv"
    shutil.rmtree(videos, ignore_errors=True)
    videos.mkdir()
    rows = ["file,dive"]
    for clip in clips:
        path = Path(clip.video_uri)
        os.link(path, videos / path.name)
        rows.append(f"{path.name},{clip.label}")
    labels.write_text("\n".join(rows) + "\n")
    return videos, labels


def run_command(command: Sequence[str | Path], *, wait_for: Sequence[Path] = ()) -> Run:
    """Run to the end; RuntimeError with the last lines where it fails."""
    started = time.monotonic()
    cpu_s, loads = 0.0, []
    until: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)
        while process.poll() is None:
            time.sleep(_POLL_S)
            cpu_s = max(cpu_s, tree_cpu_s(process.pid))
            loads.append(os.getloadavg()[0])
            for path in wait_for:
                if path.name not in until and path.exists():
                    until[path.name] = (time.monotonic() - started, cpu_s)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}: {text[-2000:]}")
    seconds = time.monotonic() - started
    load = sum(loads) / len(loads) if loads else os.getloadavg()[0]
    return Run(seconds=seconds, cpu_s=cpu_s, load=load, output=text, until=until)


def _with_labels(videos: Path, labels: Path, work: Path) -> dict[str, object]:
    out = work / "built"
    shutil.rmtree(out, ignore_errors=True)
    run = run_command(
        tfcovr_command("build", videos, "--labels", labels, "--out", out),
        wait_for=[out / ARCHIVE_NAME],
    )
    searchable_s, searchable_cpu_s = run.until[ARCHIVE_NAME]
    records = json.loads((out / RECORDS).read_text())
    return {
        "num_videos": len(read_clips(out / "labelled.parquet")),
        "searchable_s": searchable_s,
        "searchable_cpu_s": searchable_cpu_s,
        "build_s": run.seconds,
        "build_cpu_s": run.cpu_s,
        "build_load": run.load,
        "seconds_by_step": {record["name"]: record["seconds"] for record in records},
        "cpu_s_by_step": {
            record["name"]: record["figures"]["cpu_s"]
            for record in records
            if "cpu_s" in record["figures"]
        },
        "map50_composed": map50(_model(out) / "evaluate"),
    }


def _model(out: Path) -> Path:
    """Folder of what was trained."""
    return out / json.loads((out / BUILD_FILE).read_text())["model"]


def _by_hand(work: Path) -> dict[str, object]:
    """The demo's recipes with their own lengths of training."""
    built, out = Paths(work / "built"), Paths(work / "by_hand")
    shutil.rmtree(out.out, ignore_errors=True)
    out.out.mkdir()
    clips, triplets = built.labelled, _model(built.out) / "triplets.parquet"
    first = out.stage1 / "bundle"
    commands = (
        tfcovr_command("train", "--recipe", "demo_actions", "--clips", clips, "--run-dir", out.stage1),
        tfcovr_command("vectors", "--clips", clips, "--bundle", first, "--out", out.vectors),
        tfcovr_command("train", "--recipe", "demo_fusion", "--vectors", out.vectors, "--triplets", triplets,
                       "--init", first, "--run-dir", out.stage2),
        tfcovr_command("evaluate", "--stage2", out.stage2, "--vectors", out.vectors, "--triplets", triplets,
                       "--clips", clips, "--run-dir", out.evaluation, "--rows", "composed", "raw"),
    )  # fmt: skip
    runs = [run_command(command) for command in commands]
    return {
        "map50_by_hand": map50(out.evaluation),
        "by_hand_cpu_s": sum(run.cpu_s for run in runs),
    }


def _without_labels(videos: Path, work: Path, num_videos: int) -> dict[str, object]:
    folder, out = work / "unlabelled_videos", work / "unlabelled"
    for path in (folder, out):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir()
    for path in sorted(videos.iterdir())[:num_videos]:
        os.link(path, folder / path.name)
    built = run_command(tfcovr_command("build", folder, "--out", out))
    clip = read_clips(out / "clips.parquet")[0].clip_id
    asked = run_command(tfcovr_command("search", out, "--clip", clip, "--limit", "5", "--json"))
    answer: dict[str, Any] = json.loads(asked.output.strip().splitlines()[-1])
    if not answer["hits"]:
        raise RuntimeError(f"{clip} has no answer")
    return {
        "num_unlabelled": num_videos,
        "first_answer_s": built.seconds + asked.seconds,
        "first_answer_cpu_s": built.cpu_s + asked.cpu_s,
        "unlabelled_load": built.load,
    }


def map50(evaluation: Path) -> float:
    """Of composed queries on the test split."""
    rows = json.loads((evaluation / "metrics.json").read_text())["rows"]
    return next(row["map@50"] for row in rows if row["name"] == "composed")
