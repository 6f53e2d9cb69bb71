"""tfcovr mcp: the archive as read-only tools of an agent, over MCP on stdin and stdout."""

from dataclasses import dataclass
from typing import Literal

from indexing.archive_folder import ArchiveOptions
from indexing.commands.search import open_client

EXAMPLES = """
  tfcovr mcp runs/mine
  tfcovr mcp --bundle runs/demo/stage2/bundle --milvus-uri runs/demo/milvus
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ArchiveOptions):
    """Serve an indexed archive to an agent, which starts this command itself."""

    backend: Literal["onnx", "torch"] = "onnx"
    """What runs the encoder."""


def run(config: Config) -> int:
    """Serve until stdin ends."""
    from indexing.agents.mcp_server import build_server
    from indexing.agents.tools import SearchTools

    with open_client(config.located(), backend=config.backend) as client:
        build_server(SearchTools(client)).run()
    return 0
