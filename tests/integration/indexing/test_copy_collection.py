"""A collection is the same in another Milvus, after a kill too, and only what is missing or differs is copied."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pymilvus.exceptions import MilvusException

from encoders.clips import Clip
from indexing.store.client import CallOptions, MilvusBusyError
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.rows import collection_row
from indexing.store.schema import ROW_FIELDS
from tfcovr import main as tfcovr

DIM, NUM_ROWS = 8, 3300


def rows_of(numbers: range, *, label: str = "305b") -> list[dict]:
    vectors_ND = np.random.default_rng(1).normal(size=(NUM_ROWS, DIM)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return [
        collection_row(
            Clip(clip_id=f"c{i}", video_uri=f"/v/{i}.mp4", start_s=i / 4, end_s=None if i % 2 else i + 1.0, label=label,
                 attributes={"twists": f"{i % 5}"} if i % 3 else {}),
            key=f"k{i}", embedding_D=vectors_ND[i], backend="onnx", precision="float32",
        )
        for i in numbers
    ]  # fmt: skip


def fill(uri: str, name: str, rows: list[dict], *, encoder_id: str = "encoder") -> None:
    with open_collection(uri, name) as collection:
        collection.create_or_check(encoder_id=encoder_id, embedding_dim=DIM)
        collection.upsert(rows)
        collection.flush()


def content(uri: str, name: str) -> dict[str, tuple]:
    with open_collection(uri, name) as collection:
        collection.check(encoder_id="encoder")
        rows = list(collection.rows((*ROW_FIELDS, "embedding")))
    assert len(rows) == len({row["clip_key"] for row in rows})
    return {
        row["clip_key"]: (
            json.dumps({name: row[name] for name in ROW_FIELDS}, sort_keys=True),
            np.asarray(row["embedding"], np.float32).tobytes(),
        )
        for row in rows
    }


def command(source: str, target: str, *more: str) -> list[str]:
    given = ["collections", "copy", "--milvus-uri", source, "--to-milvus-uri", target]
    return [*given, "--collection", "clips", *more]


def copied(capsys, *arguments: str) -> dict:
    assert tfcovr([*command(*arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_only_what_is_missing_or_differs_is_copied(tmp_path: Path, capsys) -> None:
    source, target = str(tmp_path / "one"), str(tmp_path / "two")
    fill(source, "clips", rows_of(range(NUM_ROWS)))
    fill(target, "mine", [*rows_of(range(100)), rows_of(range(1))[0] | {"clip_key": "only-there"}])
    first = copied(capsys, source, target, "--to-collection", "mine")
    assert (first["num_rows"], first["num_copied"], first["num_extra"]) == (NUM_ROWS, NUM_ROWS - 100, 1)  # fmt: skip
    there = content(target, "mine")
    assert there.pop("only-there")
    assert there == content(source, "clips")

    fill(source, "clips", rows_of(range(7, 9), label="another"))
    second = copied(capsys, source, target, "--to-collection", "mine")
    assert second["num_copied"] == 2
    assert content(target, "mine")["k7"] == content(source, "clips")["k7"]
    assert tfcovr(command(source, target, "--to-collection", "mine")) == 0
    assert f"0 of {NUM_ROWS} rows copied" in " ".join(capsys.readouterr().out.split())


def killed_with_some_rows(run: list[str], collection: ClipCollection) -> bool:
    """Start a copy and kill it; False where it had ended by then, and the copy is gone again."""
    copying = subprocess.Popen(run, start_new_session=True, stderr=subprocess.DEVNULL)
    num_rows = 0
    while copying.poll() is None and not num_rows:
        with suppress(MilvusBusyError, MilvusException):  # it is being made
            num_rows = collection.count()
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(copying.pid, signal.SIGKILL)
    copying.wait()
    if 0 < num_rows < NUM_ROWS:
        return True
    collection.drop()
    return False


@pytest.mark.long
def test_from_a_folder_to_a_server_through_a_kill(milvus_server: str, tmp_path: Path) -> None:
    source, name = str(tmp_path / "one"), "copied_through_a_kill"
    fill(source, "clips", rows_of(range(NUM_ROWS)))
    arguments = command(source, milvus_server, "--to-collection", name)
    run = [sys.executable, "-m", "tfcovr", *arguments]
    with open_collection(milvus_server, name, call_options=CallOptions(attempts=1)) as collection:
        assert any(killed_with_some_rows(run, collection) for _ in range(5))
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert content(milvus_server, name) == content(source, "clips")
    with open_collection(milvus_server, name) as collection:
        collection.drop()


def test_what_cannot_be_copied_says_why(tmp_path: Path, capsys) -> None:
    source, other = str(tmp_path / "one"), str(tmp_path / "two")
    fill(source, "clips", rows_of(range(3)))
    fill(other, "clips", rows_of(range(3)), encoder_id="another")

    def refused(*arguments: str) -> str:
        assert tfcovr(command(*arguments)) == 2
        return capsys.readouterr().err

    assert "would be copied onto itself" in refused(source, source)
    assert "would be copied onto itself" in refused(source, f"{tmp_path}/two/../one/")
    assert "holds vectors of encoder 'another'" in refused(source, other)
    assert "is not a Milvus Lite folder" in refused(str(tmp_path / "nothing"), other)
    assert "no collection 'gone'; it has: clips" in refused(source, other, "--collection", "gone")
    assert not (tmp_path / "nothing").exists()


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
