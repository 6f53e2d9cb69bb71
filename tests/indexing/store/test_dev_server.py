import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cluster.network import is_loopback
from indexing.store import dev_server
from indexing.store.dev_server import STATE, start, status, stop
from tfcovr import run_command


def test_a_folder_without_a_server_has_none(tmp_path: Path, capsys) -> None:
    assert status(tmp_path) is None
    assert stop(tmp_path) is False
    assert run_command("milvus", ["status", "--folder", str(tmp_path)]) == 1
    assert run_command("milvus", ["stop", "--folder", str(tmp_path)]) == 0
    assert "no server runs" in capsys.readouterr().out


def test_a_process_that_a_stale_record_names_is_left_alone(tmp_path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        state = {"pid": process.pid, "uri": "http://127.0.0.1:1"}
        (tmp_path / STATE).write_text(json.dumps(state))
        assert status(tmp_path) is None
        assert stop(tmp_path) is False
        assert process.poll() is None
        process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    pytest.importorskip("milvus", reason="needs a Milvus server: pip install '.[server]'")
    folder = tmp_path_factory.mktemp("server")
    yield folder
    stop(folder)


def servers(folder: Path) -> list[psutil.Process]:
    program = str(folder / "bin" / "milvus")
    return [p for p in psutil.process_iter(["exe"]) if p.info["exe"] == program]


def test_one_server_serves_a_folder_whoever_starts_it_and_dies(folder: Path, monkeypatch) -> None:
    with ThreadPoolExecutor(2) as pool:  # two commands at the same time
        uris = list(pool.map(start, [folder, folder]))
    assert len(set(uris)) == 1
    (server,) = servers(folder)
    listening = [c.laddr for c in server.net_connections("inet") if c.status == "LISTEN"]
    assert len(listening) > 5
    assert [address for address in listening if not is_loopback(address.ip)] == []

    (holder,) = dev_server._holders(folder)
    holder.kill()
    holder.wait()
    (folder / STATE).unlink()
    assert status(folder) == uris[0]
    assert start(folder) == uris[0]
    assert servers(folder) == [server]
    assert json.loads((folder / STATE).read_text())["pid"] == server.pid

    with monkeypatch.context() as patch:  # as a server that an earlier version started
        patch.setattr(dev_server, "is_loopback", lambda _ip: False)
        with pytest.raises(OSError, match="beyond loopback, without a password"):
            start(folder)

    assert stop(folder) is True
    assert servers(folder) == []
    assert not psutil.pid_exists(server.pid)
    assert stop(folder) is False


class _Server:
    """A server that somebody else has started."""

    pid = 12

    def create_time(self) -> float:
        return 0.0

    def send_signal(self, _number: int) -> None:
        raise psutil.AccessDenied(self.pid)


@pytest.mark.parametrize("config", [None, b"\xff\xfe\xfd", b"proxy: {port: abc}", b"[]", b"proxy: {port: 99999}"])  # fmt: skip
def test_a_server_whose_configuration_cannot_be_read_is_told_as_that(
    tmp_path: Path, monkeypatch, config: bytes | None
) -> None:
    monkeypatch.setattr(dev_server, "_server", lambda _folder: _Server())
    if config is not None:
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "milvus.yaml").write_bytes(config)
    for ask in (status, start):
        with pytest.raises(OSError, match=r"a Milvus server runs in .*milvus\.yaml does not tell"):
            ask(tmp_path)


def test_a_server_of_another_user_is_told_as_that(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(dev_server, "_server", lambda _folder: _Server())
    with pytest.raises(OSError, match=r"process 12\) belongs to another user"):
        stop(tmp_path)


def test_an_end_at_once_is_told_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    pytest.importorskip("milvus", reason="needs a Milvus server: pip install '.[server]'")
    (tmp_path / "configs").write_text("not a folder")
    with pytest.raises(OSError, match=r"ended at once: .*configs"):
        start(tmp_path)


def test_a_server_that_runs_is_found_by_its_uri(milvus_server: str) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(uri=milvus_server, timeout=10)
    assert isinstance(client.list_collections(), list)
    client.close()
