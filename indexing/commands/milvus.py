"""tfcovr milvus: a Milvus server on this machine."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

EXAMPLES = """
  tfcovr milvus start --folder runs/milvus-server
  tfcovr milvus status --folder runs/milvus-server
  tfcovr milvus stop --folder runs/milvus-server
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """A Milvus server of this machine."""

    do: Annotated[Literal["start", "stop", "status"], tyro.conf.Positional]
    folder: Path
    """Folder of its data, its log and server.json."""
    port: int = 0
    """Port to listen on; 0 = a free one."""


def run(config: Config) -> int:
    """Say what was done; status 1 where `status` finds no server."""
    from indexing.store.dev_server import start, status, stop

    if config.do == "start":
        sys.stdout.write(f"Milvus answers at {start(config.folder, config.port)}\n")
        return 0
    if config.do == "stop":
        sys.stdout.write("stopped\n" if stop(config.folder) else "no server runs in this folder\n")
        return 0
    uri = status(config.folder)
    sys.stdout.write(f"Milvus answers at {uri}\n" if uri else "no server runs in this folder\n")
    return 0 if uri else 1
