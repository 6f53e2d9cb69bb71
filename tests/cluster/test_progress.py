"""One progress bar for reported and for polled work."""

import io
import threading

import pytest
from rich.console import Console

from cluster import progress
from cluster.progress import progress_bar


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=False)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_reported_steps_and_note_are_shown(console: Console) -> None:
    with progress_bar("clips", 7, console=console) as update:
        update(3, "val_top1 0.5")
    assert "clips" in shown(console)
    assert "3/7" in shown(console)
    assert "val_top1 0.5" in shown(console)


def test_polled_work_is_full_at_its_end_with_the_last_note(console: Console, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_POLL_S", 0.01)
    polled = threading.Event()

    def poll() -> tuple[int, str]:
        if not polled.is_set():
            polled.set()
            raise OSError("an update that is skipped")
        return 2, "last"

    with progress_bar("copy", 5, console=console, poll=poll):
        assert polled.wait(10)
    assert "5/5" in shown(console)
    assert "last" in shown(console)


def test_a_failed_block_is_not_polled_again_and_not_full(console: Console) -> None:
    def poll() -> tuple[int, str]:
        raise AssertionError("polled after the failure")

    with (
        pytest.raises(ValueError, match="lost"),
        progress_bar("copy", 5, console=console, poll=poll),
    ):
        raise ValueError("lost")
    assert "5/5" not in shown(console)


def test_a_hidden_bar_starts_no_thread(console: Console) -> None:
    def poll() -> tuple[int, str]:
        raise AssertionError("polled")

    with progress_bar("copy", 5, console=console, shown=False, poll=poll) as update:
        update(1)
    assert shown(console).strip() == ""
