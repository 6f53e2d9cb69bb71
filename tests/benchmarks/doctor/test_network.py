"""Processes with the names of Ray's, which listen where they are told."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.doctor.network import ray_ports_beyond_loopback

LISTEN = """
import socket, sys
kept = []
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kept.append(socket.socket(family))
    if family == socket.AF_INET6:
        kept[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    kept[-1].bind((address, 0))
    kept[-1].listen()
    print(kept[-1].getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(name: str, *addresses: str) -> Iterator[tuple[int, list[int]]]:
    """(pid, ports) of a process of this name."""
    command = [name, "-c", LISTEN, *addresses]
    with subprocess.Popen(command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stdout is not None
        yield process.pid, [int(process.stdout.readline()) for _ in addresses]


@pytest.mark.parametrize(
    "name", ["ray::ServeReplica:tfcovr", "/x/ray/core/src/ray/raylet/raylet", "gcs_server"]
)
def test_a_port_of_ray_that_other_machines_reach_is_listed(name: str) -> None:
    with listening(name, "127.0.0.1", "0.0.0.0", "::") as (pid, ports):
        found = [port for port in ray_ports_beyond_loopback() if port.pid == pid]
    assert sorted(port.port for port in found) == sorted(ports[1:])
    assert all(name.rpartition("/")[2] == port.process for port in found)
    assert f"pid {pid}" in found[0].text()


@pytest.mark.parametrize(("name", "addresses"), [("ray::IDLE", ("127.0.0.1", "::1", "::ffff:127.0.0.1")), ("python", ("0.0.0.0",)), ("arrayd", ("0.0.0.0",))])  # fmt: skip
def test_loopback_and_other_programs_are_not(name: str, addresses: tuple[str, ...]) -> None:
    with listening(name, *addresses) as (pid, _ports):
        assert pid not in [port.pid for port in ray_ports_beyond_loopback()]
