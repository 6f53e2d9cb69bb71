"""Leases: of any number of contenders one gets in, and the lease of a dead process is taken over."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymilvus import MilvusClient

from indexing.store import lease as leases
from indexing.store.aliases import Catalog
from indexing.store.endpoint import serve_milvus
from indexing.store.lease import LeaseBusyError, LeaseLostError, Protected, hold_lease, is_lease

BUSY = "collection 'clips' is being written"


def protected(name: str, part: str | None = None) -> Protected:
    return Protected(whole=name, part=part, busy=BUSY)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Heartbeats that tests can wait for."""
    monkeypatch.setattr(leases, "_BEAT_S", 0.1)
    monkeypatch.setattr(leases, "_SILENT_S", 1.5)
    monkeypatch.setattr(leases, "_POLL_S", 0.05)


@pytest.fixture
def address(milvus_uri: str) -> Iterator[str]:
    """Of a Milvus Lite folder and of a Milvus server."""
    with serve_milvus(milvus_uri) as served:
        yield served


def left_over(address: str) -> list[str]:
    return [name for name in MilvusClient(uri=address).list_collections() if is_lease(name)]


@pytest.mark.parametrize("seed", range(4))
def test_one_of_many_contenders_gets_in_at_a_time(seed, milvus_server, quick) -> None:
    rng = random.Random(seed)
    waits_s = [rng.choice((0.0, rng.random() / 4)) for _ in range(4)]
    inside, most_inside, entered = 0, 0, 0
    lock = threading.Lock()

    def contend(wait_s: float) -> str:
        nonlocal inside, most_inside, entered
        time.sleep(wait_s)
        try:
            with hold_lease(milvus_server, protected(f"many {seed}")) as lease:
                with lock:
                    inside, entered = inside + 1, entered + 1
                    most_inside = max(most_inside, inside)
                time.sleep(0.3)
                lease.check()
                with lock:
                    inside -= 1
        except LeaseBusyError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        errors = [error for error in pool.map(contend, waits_s) if error]
    assert entered >= 1
    assert most_inside == 1
    assert entered + len(errors) == 4
    assert all(f"{BUSY} by process " in error for error in errors)
    assert left_over(milvus_server) == []


def test_parts_exclude_themselves_and_the_whole_but_not_each_other(address, quick) -> None:
    with hold_lease(address, protected("parts", "a")) as held:
        with hold_lease(address, protected("parts", "b")):
            for part in ("a", "b", None):
                with (
                    pytest.raises(LeaseBusyError),
                    hold_lease(address, protected("parts", part)),
                ):
                    pass  # fmt: skip
        with (
            hold_lease(address, protected("parts"), beside=held),
            pytest.raises(LeaseBusyError),
            hold_lease(address, protected("parts", "c")),
        ):
            pass
        with hold_lease(address, protected("another whole", "a")):
            pass


def test_who_waits_gets_in_when_the_holder_is_done(address, quick) -> None:
    entered = threading.Event()

    def hold() -> None:
        with hold_lease(address, protected("wait")):
            entered.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(20)
    with hold_lease(address, protected("wait"), wait_s=20):
        thread.join(0)
    thread.join()


_HOLD = """
import sys, time
from indexing.store.lease import Protected, hold_lease
with hold_lease(sys.argv[1], Protected(whole="dead", busy="busy")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lease_of_a_killed_process_is_free_at_once(milvus_server) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, milvus_server], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "held\n"
        with (
            pytest.raises(LeaseBusyError, match=f"by process {child.pid} on "),
            hold_lease(milvus_server, protected("dead")),
        ):
            pass  # fmt: skip
    finally:
        child.kill()
        child.wait()
    assert left_over(milvus_server)
    started = time.monotonic()
    with hold_lease(milvus_server, protected("dead")):
        assert time.monotonic() - started < leases._SILENT_S
    assert left_over(milvus_server) == []


def test_a_silent_holder_on_another_machine_loses_its_lease_and_is_told(
    milvus_server, quick, monkeypatch
) -> None:
    with hold_lease(milvus_server, protected("silent")) as held:
        held._stop.set()  # it hangs: no heartbeat
        time.sleep(0.3)
        monkeypatch.setattr(leases, "_this_machine", lambda: "another machine")
        with hold_lease(milvus_server, protected("silent")) as taken:
            held._stop.clear()  # it answers again
            with pytest.raises(LeaseLostError, match="took over while this one did not answer"):
                held.check()
            taken.check()


def test_a_folder_needs_no_lease_and_leases_are_no_collections(milvus_uri) -> None:
    with serve_milvus(milvus_uri) as address, hold_lease(address, protected("listed")) as lease:
        lease.check()
        assert not any(map(is_lease, Catalog(address).names()))
