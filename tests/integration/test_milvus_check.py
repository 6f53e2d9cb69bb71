"""`make milvus-check` against both kinds of Milvus, and against one that does something wrong."""

from pathlib import Path

import pytest
from pymilvus import MilvusClient

from benchmarks.fidelity.milvus import Config, run
from indexing.store.collection import ClipCollection


@pytest.mark.long
def test_a_server_does_all_that_is_asked_and_keeps_nothing(
    milvus_server: str, tmp_path: Path, capsys
) -> None:
    client = MilvusClient(uri=milvus_server, timeout=10)
    before = client.list_collections()
    assert run(Config(milvus_uri=milvus_server, import_folder=str(tmp_path / "parts"))) == 0
    lines = capsys.readouterr().out.splitlines()
    verdicts = {line.split()[0]: line.split(" s  ", 1)[1] for line in lines[1:-1]}
    assert list(verdicts) == ["sink", "search", "filters", "verify", "aliases", "copy", "import", "float16", "index"]  # fmt: skip
    assert all(v.startswith("ok: ") for name, v in verdicts.items() if name != "float16")
    assert verdicts["float16"].startswith("not run: refused as it should be")  # of 2.3
    assert lines[-1] == "left: nothing"
    assert sorted(client.list_collections()) == sorted(before)
    client.close()


@pytest.mark.long
def test_milvus_lite_does_all_but_imports_and_float16(tmp_path: Path, capsys) -> None:
    assert run(Config(milvus_uri=str(tmp_path / "lite"))) == 0
    shown = capsys.readouterr().out
    assert shown.count("  ok: ") == 7
    assert shown.count("not run: ") == 2


def test_a_milvus_that_loses_a_row_is_found(tmp_path: Path, monkeypatch, capsys) -> None:
    upsert = ClipCollection.upsert
    monkeypatch.setattr(ClipCollection, "upsert", lambda self, rows: upsert(self, rows[1:]))
    monkeypatch.setattr("benchmarks.fidelity.milvus.copy_collection", lambda _plan: 1 / 0)
    assert run(Config(milvus_uri=str(tmp_path / "lite"))) == 1
    shown = capsys.readouterr().out
    assert "WRONG: AssertionError" in shown
    assert "WRONG: ZeroDivisionError" in shown
    assert shown.endswith("left: nothing\n")
