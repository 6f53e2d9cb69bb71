"""The whole flow, tiny: every step is real, and a second run repeats nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tfcovr
from tests.support.shown_commands import LONG, QUICK, prepare, shown_commands

ROOT = Path(__file__).resolve().parents[2]
SUMMARY_KEYS = {
    "seconds_total", "peak_memory_gb", "num_classes", "top1", "top1_shuffled", "top1_single_frame",
    "map50_composed", "map50_composed_low", "map50_video_only", "map50_text_only", "map50_mean",
    "map50_raw", "map50_best_other_high", "clips_indexed", "dead_letters", "onnx_min_cosine",
}  # fmt: skip


def demo(run_dir: Path) -> str:
    command = [sys.executable, "-m", "tfcovr", "demo", "--tiny", "--run-dir", str(run_dir)]
    shown = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert shown.returncode == 0, f"{shown.stdout}\n{shown.stderr[-3000:]}"
    return shown.stdout


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    demo(folder)
    return folder


def test_every_figure_is_there_and_the_archive_is_complete(run_dir: Path) -> None:
    summary = json.loads((run_dir / "summary.json").read_text())
    assert set(summary) >= SUMMARY_KEYS
    assert all(isinstance(summary[key], (int, float)) for key in SUMMARY_KEYS)
    videos = list((run_dir / "archive").rglob("*.mp4"))
    assert summary["clips_indexed"] == len(videos) > 0
    assert summary["dead_letters"] == 0
    assert summary["onnx_min_cosine"] >= 0.9999


def test_answers_and_report_are_written(run_dir: Path) -> None:
    answers = json.loads((run_dir / "answers.json").read_text())
    assert len(answers) == 3
    assert all(answer["hits"] for answer in answers)
    assert (run_dir / "answers.png").stat().st_size > 10_000
    assert "<html" in (run_dir / "report.html").read_text()[:500]


def test_a_second_run_repeats_nothing(run_dir: Path) -> None:
    before = (run_dir / "parts.json").read_text()
    started = time.monotonic()
    shown = demo(run_dir)
    assert shown.count("(finished before)") == len(json.loads(before))
    assert (run_dir / "parts.json").read_text() == before
    assert time.monotonic() - started < 60


@pytest.fixture(scope="module")
def work(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("docs")
    return folder, prepare(folder, run_dir)


def run_shown(arguments: list[str], work: tuple[Path, str], monkeypatch) -> None:
    """As typed, but for the clip: the tiny demo has fewer classes. Tables that a command makes get names of their own."""
    folder, clip_id = work
    monkeypatch.chdir(folder)
    shown_ids = ("test-5152b-0003", "IMG_0001.mp4")
    words = [clip_id if word in shown_ids else word for word in arguments]
    if "--out" in words:
        place = words.index("--out") + 1
        words[place] = f"made_{Path(words[place]).name}"
    assert tfcovr.main(words) == 0, words


@pytest.mark.parametrize("arguments", list(shown_commands(QUICK)), ids=" ".join)
def test_a_command_of_the_pages_runs(arguments: list[str], work, monkeypatch) -> None:
    run_shown(arguments, work, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("arguments", list(shown_commands(LONG)), ids=" ".join)
def test_a_slower_command_of_the_pages_runs(arguments: list[str], work, monkeypatch) -> None:
    run_shown(arguments, work, monkeypatch)


def test_the_pages_show_commands_of_every_verb_that_runs() -> None:
    shown = [" ".join(arguments) for arguments in shown_commands(QUICK | LONG)]
    assert all(any(line.startswith(verb) for line in shown) for verb in QUICK | LONG)
