"""tfcovr mcp: the archive as read-only tools of an agent, over MCP on stdin and stdout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexing.commands.search import open_client

EXAMPLES = """
  tfcovr mcp --bundle runs/demo/stage2/bundle --milvus-uri runs/demo/milvus
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Serve an indexed archive to an agent, which starts this command itself."""

    bundle: Path
    """Bundle that indexed the archive, or one with the same encoder id."""
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    collection: str = "clips"
    backend: Literal["onnx", "torch"] = "onnx"
    """What runs the encoder."""


def run(config: Config) -> int:
    """Serve until stdin ends."""
    from indexing.agents.mcp_server import build_server
    from indexing.agents.tools import SearchTools

    with open_client(
        config.bundle, config.milvus_uri, config.collection, backend=config.backend
    ) as client:
        build_server(SearchTools(client)).run()
    return 0
