"""tfcovr mcp: the archive as read-only tools of an agent, over MCP on stdin and stdout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from indexing.archive_folder import locate
from indexing.commands.search import open_client

EXAMPLES = """
  tfcovr mcp runs/mine
  tfcovr mcp --bundle runs/demo/stage2/bundle --milvus-uri runs/demo/milvus
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Serve an indexed archive to an agent, which starts this command itself."""

    archive: tyro.conf.Positional[Path | None] = None
    """Folder that `tfcovr build` made; it names bundle, collection and videos."""
    bundle: Path | None = None
    """Without an archive folder: the bundle that indexed the archive, or one with the same encoder id."""
    milvus_uri: str = ""
    """Without an archive folder: a folder (Milvus Lite) or http://HOST:19530."""
    videos_root: str | None = None
    """Where the videos of the archive folder are now, if they were moved."""
    collection: str = "clips"
    backend: Literal["onnx", "torch"] = "onnx"
    """What runs the encoder."""


def run(config: Config) -> int:
    """Serve until stdin ends."""
    from indexing.agents.mcp_server import build_server
    from indexing.agents.tools import SearchTools

    archive = locate(
        config.archive,
        bundle=config.bundle,
        milvus_uri=config.milvus_uri,
        collection=config.collection,
        videos_root=config.videos_root,
    )
    with open_client(archive, backend=config.backend) as client:
        build_server(SearchTools(client)).run()
    return 0
