"""Which tests skip, which must not run at the same time, and the Milvus server that all share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from indexing import milvus_command

_WITH_SERVERS = Path(__file__).parent / "integration"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU tests skip where there is no GPU, unless FAIL_WITHOUT_GPU=1 says that there must be one.

    Tests that start servers are one group for `pytest -n 2 --dist loadgroup`: they come one after the other in one process,
    and while they wait the other process runs the rest.
    """
    has_gpu = torch.cuda.is_available() or os.environ.get("FAIL_WITHOUT_GPU") == "1"
    for item in items:
        if item.get_closest_marker("needs_gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
        if item.path.is_relative_to(_WITH_SERVERS) or "[server" in item.name:
            item.add_marker(pytest.mark.xdist_group("servers"))


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory) -> Iterator[str]:
    """The address of a standalone server."""
    pytest.importorskip("milvus", reason="needs a Milvus server: pip install '.[server]'")
    folder = tmp_path_factory.mktemp("milvus-server")
    yield milvus_command.start(folder)
    assert milvus_command.stop(folder)
