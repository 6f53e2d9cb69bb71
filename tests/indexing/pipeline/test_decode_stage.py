"""A worker decodes the local file that was planned, or says which of three things is wrong with it."""

import os
import socket

import pytest

from encoders.media.errors import DecodeError, DecodeSetupError
from indexing.pipeline.decode_stage import _require_planned
from indexing.sources.content import hash_file


@pytest.fixture
def row(tmp_path):
    path = tmp_path / "a b.mp4"
    path.write_bytes(b"v" * 100)
    return {
        "video_uri": f"file://{tmp_path}/a%20b.mp4",
        "size_bytes": 100,
        "mtime_ns": path.stat().st_mtime_ns,
        "content_hash": hash_file(path),
        "planned_on": socket.gethostname(),
    }


def test_a_file_that_changed_or_went_on_the_planning_machine_is_a_dead_letter(row, tmp_path):
    _require_planned(row)
    path = tmp_path / "a b.mp4"
    os.utime(path, ns=(0, 0))
    _require_planned(row)  # touched, and the same
    path.write_bytes(b"w" * 100)
    with pytest.raises(DecodeError, match=r"fetch_failed: .* changed since it was planned"):
        _require_planned(row)
    path.write_bytes(b"v" * 101)
    os.utime(path, ns=(row["mtime_ns"], row["mtime_ns"]))
    with pytest.raises(DecodeError, match="changed since it was planned"):
        _require_planned(row)
    path.unlink()
    with pytest.raises(DecodeError, match="went away since it was planned"):
        _require_planned(row)


def test_a_machine_without_the_videos_ends_the_run(row, tmp_path):
    elsewhere = row | {"planned_on": "head-node"}
    path = tmp_path / "a b.mp4"
    os.utime(path, ns=(0, 0))  # a copy may have a time of its own
    _require_planned(elsewhere)
    path.write_bytes(b"w" * 100)
    with pytest.raises(DecodeError, match="changed since it was planned"):
        _require_planned(elsewhere)  # of the same size, seen from another machine
    path.write_bytes(b"v" * 101)
    with pytest.raises(DecodeSetupError, match=r"has 100 bytes on head-node, .* has 101"):
        _require_planned(elsewhere)
    path.unlink()
    with pytest.raises(DecodeSetupError, match="has no such file; give videos that every node"):
        _require_planned(elsewhere)
