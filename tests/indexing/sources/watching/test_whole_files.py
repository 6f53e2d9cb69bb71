import os
import subprocess
import sys
from pathlib import Path

import pytest

from indexing.sources.watching.whole_files import CUT, WRITTEN, has_writer, reason_to_wait
from tests.support.small_videos import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("whole") / "a.mp4", 1)


def test_a_file_waits_while_a_process_has_it_open_for_writing(video) -> None:
    assert reason_to_wait(video) == ""
    with video.open("rb"):
        assert not has_writer(video)
    command = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", command, str(video)], stdin=-1, stdout=-1, text=True
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert reason_to_wait(video) == WRITTEN
        writer.communicate("")
    assert reason_to_wait(video) == ""


def test_who_opens_a_file_for_writing_is_not_held_up(video) -> None:
    """The lease is given back at once, and its signal ends nobody."""
    for _ in range(200):
        assert not has_writer(video)
        os.close(os.open(video, os.O_WRONLY))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_a_file_waits_while_its_container_is_not_complete(video, tmp_path, share) -> None:
    content = video.read_bytes()
    path = tmp_path / "copy.mp4"
    path.write_bytes(content[: int(share * len(content))])
    assert reason_to_wait(path) == CUT
    path.write_bytes(content)
    assert reason_to_wait(path) == ""


def test_a_file_that_is_not_there_waits(tmp_path) -> None:
    assert not has_writer(tmp_path / "gone.mp4")
    assert reason_to_wait(tmp_path / "gone.mp4") == CUT
