"""What Ray on this machine opens to other machines: the sockets of its processes that listen beyond loopback.

A Ray that a command of this project starts listens on loopback only; one that was started by `ray start` does not.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

_RAY_PROGRAMS = ("gcs_server", "raylet", "plasma_store")
_RAY_SCRIPTS = ("/ray/dashboard/", "/ray/_private/", "/ray/util/client/server", "/ray/autoscaler/")


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPort:
    """A port of a Ray process that other machines reach."""

    process: str
    pid: int
    address: str
    port: int

    def text(self) -> str:
        """As one line of the report."""
        return f"{self.process} (pid {self.pid}) on {self.address}:{self.port}"


def ray_ports_beyond_loopback() -> list[OpenPort]:
    """Of the processes that may be looked at: those of this user, or all for root."""
    return sorted(_open_ports(), key=lambda port: (port.pid, port.port))


def _open_ports() -> Iterator[OpenPort]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            name = _ray_name(process.cmdline())
            if not name:
                continue
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and not _is_loopback(
                    connection.laddr.ip
                ):
                    yield OpenPort(
                        process=name,
                        pid=process.pid,
                        address=connection.laddr.ip,
                        port=connection.laddr.port,
                    )


def _ray_name(command: list[str]) -> str:
    """What a process of Ray is called; "" for any other."""
    if not command:
        return ""
    program = command[0].rpartition("/")[2]
    if program in _RAY_PROGRAMS:
        return program
    if command[0].startswith("ray::"):
        return command[0].strip()
    scripts = [part for part in command[1:] if any(place in part for place in _RAY_SCRIPTS)]
    return scripts[0].rpartition("/ray/")[2] if scripts else ""


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
