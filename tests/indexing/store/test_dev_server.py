import json
import os
from pathlib import Path

import psutil

from indexing.store.dev_server import STATE, status, stop
from tfcovr import run_command


def test_a_folder_without_a_server_has_none(tmp_path: Path, capsys) -> None:
    assert status(tmp_path) is None
    assert stop(tmp_path) is False
    assert run_command("milvus", ["status", "--folder", str(tmp_path)]) == 1
    assert run_command("milvus", ["stop", "--folder", str(tmp_path)]) == 0
    assert "no server runs" in capsys.readouterr().out


def test_another_process_with_the_number_of_a_server_that_is_gone_is_left_alone(tmp_path) -> None:
    mine = psutil.Process(os.getpid())
    state = {"pid": mine.pid, "started": mine.create_time() - 60, "uri": "http://127.0.0.1:1"}
    (tmp_path / STATE).write_text(json.dumps(state))
    assert status(tmp_path) is None
    assert stop(tmp_path) is False  # this test still runs


def test_a_server_that_runs_is_found_by_its_uri(milvus_server: str, tmp_path: Path) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(uri=milvus_server, timeout=10)
    assert isinstance(client.list_collections(), list)
    client.close()
