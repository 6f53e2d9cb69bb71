"""tfcovr milvus: a Milvus server on this machine."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from indexing.store.dev_server import start, status, stop


@dataclass(frozen=True, kw_only=True, slots=True)
class MilvusConfig:
    """A Milvus server of this machine.

    Example: tfcovr milvus start --folder runs/milvus-server
    """

    do: Annotated[Literal["start", "stop", "status"], tyro.conf.Positional]
    folder: Path
    """Its data, its log and server.json."""
    port: int = 0
    """0 = a free one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Say what was done."""
    config = tyro.cli(MilvusConfig, args=argv, prog="tfcovr milvus")
    if config.do == "start":
        sys.stdout.write(f"Milvus answers at {start(config.folder, config.port)}\n")
        return 0
    if config.do == "stop":
        sys.stdout.write("stopped\n" if stop(config.folder) else "no server runs in this folder\n")
        return 0
    uri = status(config.folder)
    sys.stdout.write(f"Milvus answers at {uri}\n" if uri else "no server runs in this folder\n")
    return 0 if uri else 1


if __name__ == "__main__":
    raise SystemExit(main())
