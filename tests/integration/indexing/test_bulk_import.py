"""Rows that a Milvus server imports from Parquet files are in once, whatever is killed or breaks meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pymilvus import utility
from pymilvus.exceptions import MilvusException

from encoders.bundle.card import read_card
from encoders.clips import Clip, write_clips
from indexing.store import bulk_import
from indexing.store.bulk_import import MARKER, BulkImport, BulkImportError, finish_earlier_import
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.rows import collection_row
from indexing.store.schema import TO_THE_END, lengthened
from tests.support.expected_vectors import expected_vectors
from tests.support.small_videos import write_video
from tfcovr import run_command

DIM, NUM_ROWS = 8, 300


@pytest.fixture
def collection(milvus_server: str, request) -> Iterator[ClipCollection]:
    with open_collection(milvus_server, request.node.name.split("[")[0][:60]) as opened:
        opened.create_or_check(encoder_id="encoder", embedding_dim=DIM)
        yield opened


def rows_of(numbers: range, dim: int = DIM) -> list[dict]:
    vectors_ND = np.random.default_rng(0).normal(size=(NUM_ROWS, dim)).astype(np.float32)
    return [
        collection_row(
            Clip(
                clip_id=f"clip-{i}",
                video_uri=f"/v/{i}.mp4",
                start_s=i / 4,
                end_s=None if i % 2 else i + 1.0,
                label="305b",
                attributes={"twists": "2.5", "take_off": "für"},
            ),
            key=f"key-{i}",
            embedding_D=vectors_ND[i],
            backend="onnx",
            precision="float32",
        )
        for i in numbers
    ]


def keys(collection: ClipCollection) -> list[str]:
    return sorted(row["clip_key"] for row in collection.rows(("clip_key",)))


def wanted_keys() -> list[str]:
    return sorted(f"key-{i}" for i in range(NUM_ROWS))


def test_what_was_imported_is_what_an_upsert_would_have_stored(collection, tmp_path: Path) -> None:
    rows = rows_of(range(NUM_ROWS))
    with closing(BulkImport(collection, tmp_path)) as importer:
        importer.load(rows[:100], str(tmp_path / "parts"))
        importer.load(rows[100:], str(tmp_path / "parts"))
    assert keys(collection) == wanted_keys()
    (stored,) = collection.rows_of_keys(["key-7"])
    assert stored["attributes"] == {"twists": "2.5", "take_off": "für"}
    assert (stored["start_s"], stored["end_s"]) == (1.75, TO_THE_END)
    length = stored.get("vector_length", 1.0)
    assert np.allclose(lengthened(stored["embedding"], length), rows[7]["embedding"])
    for number in (0, 150, 299):
        ((_score, found),) = collection.nearest(
            np.asarray(rows[number]["embedding"], np.float32), limit=1
        )
        assert found["clip_id"] == f"clip-{number}"
    collection.upsert([rows[7] | {"label": "5255b"}])
    assert keys(collection) == wanted_keys()
    assert not list((tmp_path / "parts").iterdir())
    assert not (tmp_path / MARKER).exists()


def test_what_the_server_refuses_is_told_with_its_reason(collection, tmp_path: Path) -> None:
    with (
        closing(BulkImport(collection, tmp_path)) as importer,
        pytest.raises(BulkImportError, match=r"did not import .*\.parquet': \S+.*must read "),
    ):
        importer.load(rows_of(range(5), dim=DIM + 1), str(tmp_path / "parts"))
    assert not (tmp_path / MARKER).exists()
    assert keys(collection) == []


class _Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


@pytest.mark.parametrize("was_told", [True, False])
def test_an_import_of_a_killed_run_is_waited_for(
    collection, tmp_path: Path, monkeypatch, was_told: bool
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise _Killed

    where = "_wait" if was_told else "_request_once"
    with monkeypatch.context() as patch, closing(BulkImport(collection, tmp_path)) as importer:
        patch.setattr(importer, where, killed)
        with pytest.raises(_Killed):
            importer.load(rows_of(range(NUM_ROWS)), str(tmp_path / "parts"))
    assert (tmp_path / MARKER).exists()
    finish_earlier_import(collection, tmp_path)
    assert not (tmp_path / MARKER).exists()
    assert not list((tmp_path / "parts").iterdir())
    assert keys(collection) == (wanted_keys() if was_told else [])
    collection.drop()


def test_a_connection_that_breaks_as_a_part_is_told_does_not_tell_it_twice(
    collection, tmp_path: Path, monkeypatch
) -> None:
    real, told = utility.do_bulk_insert, []

    def breaks_once(*where: object, **how: object) -> object:
        told.append(real(*where, **how))
        if len(told) == 1:
            raise MilvusException(code=2, message="the channel broke")
        return told[-1]

    monkeypatch.setattr(bulk_import.utility, "do_bulk_insert", breaks_once)
    with closing(BulkImport(collection, tmp_path)) as importer:
        importer.load(rows_of(range(NUM_ROWS)), str(tmp_path / "parts"))
    assert len(told) == 1
    assert keys(collection) == wanted_keys()


@pytest.mark.long
def test_an_archive_is_in_once_when_its_run_is_killed_while_milvus_imports(
    milvus_server: str, tmp_path: Path, tiny_bundle
) -> None:
    clips = [
        Clip(clip_id=f"{n}-{i}", video_uri=str(tmp_path / f"{n}.mp4"), start_s=i * 0.24, end_s=(i + 1) * 0.24)
        for n in range(6)
        for i in range(4)
    ]  # fmt: skip
    for n in range(6):
        write_video(tmp_path / f"{n}.mp4", n, num_frames=24)
    write_clips(tmp_path / "clips.parquet", clips)
    arguments = ["--bundle", str(tiny_bundle), "--clips", str(tmp_path / "clips.parquet"), "--collection", "archive"]  # fmt: skip
    arguments += ["--milvus-uri", milvus_server, "--run-dir", str(tmp_path / "run")]
    command = [sys.executable, "-m", "tfcovr", "index", *arguments, "--bulk-import", str(tmp_path / "parts")]  # fmt: skip
    marker, give_up_s = tmp_path / "run" / MARKER, time.monotonic() + 120
    with (tmp_path / "log").open("ab") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        while not marker.exists():
            assert first.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < give_up_s
            time.sleep(0.002)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        assert marker.exists()
        assert subprocess.run(command, stdout=log, stderr=log, check=False).returncode == 0, (
            tmp_path / "log"
        ).read_text()
    expected = expected_vectors(tiny_bundle, tmp_path / "clips.parquet")
    with open_collection(milvus_server, "archive") as collection:
        collection.check(encoder_id=read_card(tiny_bundle).encoder_id)
        rows = list(collection.rows(("clip_key", "embedding")))
    assert sorted(row["clip_key"] for row in rows) == sorted(expected)
    worst = max(
        float(np.abs(np.asarray(row["embedding"]) - expected[row["clip_key"]]).max())
        for row in rows
    )
    assert worst < 1e-5
    assert run_command("verify", arguments) == 0
