"""Skips and groups of tests, and what all of them share: tiny bundles and a Milvus server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported, here and in what the tests start: several processes share the cores, and with two threads each they wait for
# one another's threads. It takes two fifths of the CPU time off the tests of training.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

_SLOW = Path(__file__).parent / "integration"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU tests skip where there is no GPU, unless FAIL_WITHOUT_GPU=1 says that there must be one; long ones run with LONG_TESTS=1.

    Tests that start Ray or Milvus stay together by file for `pytest -n 3 --dist loadgroup`: they share what they started, and they wait
    more than they compute, so three processes fill two cores.
    """
    has_gpu = torch.cuda.is_available() or os.environ.get("FAIL_WITHOUT_GPU") == "1"
    for item in items:
        if item.get_closest_marker("needs_gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
        if item.get_closest_marker("long") and os.environ.get("LONG_TESTS") != "1":
            item.add_marker(pytest.mark.skip(reason="takes minutes; LONG_TESTS=1 runs it"))
        needs_milvus = (
            "milvus_server" in getattr(item, "fixturenames", ()) or "[server" in item.name
        )
        if needs_milvus or item.path.is_relative_to(_SLOW):
            name = str(item.path.relative_to(Path(__file__).parent))
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """An exported bundle for the tests that index, search and serve."""
    from tests.support.bundles import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "first", seed=1)


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory) -> Path:
    """Another encoder with the same widths."""
    from tests.support.bundles import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "other", seed=2)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory) -> Iterator[str]:
    """The address of a standalone server."""
    pytest.importorskip("milvus", reason="needs a Milvus server: pip install '.[server]'")
    # Here and not above: the tests of a GPU run on machines that have torch and little else.
    from cluster.network import require_listener
    from indexing.store import dev_server

    folder = tmp_path_factory.mktemp("milvus-server")
    uri = dev_server.start(folder)
    yield uri
    try:  # its holder lives on where the server itself dies
        require_listener(uri)
    except OSError as error:
        logs = sorted((folder / "logs").glob("milvus-std*.log"))
        log_tails = "\n".join(
            f"{log.name}: {log.read_text(errors='replace')[-4000:]}" for log in logs
        )
        raise RuntimeError(f"the Milvus server of the tests died: {error}\n{log_tails}") from error
    finally:
        assert dev_server.stop(folder)
