"""Milvus as the tests of this folder need it: Milvus Lite, and where `pip install '.[server]'` was done one server for all."""

from collections.abc import Iterator

import pytest

from indexing import milvus_command


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory) -> Iterator[str]:
    pytest.importorskip("milvus")
    folder = tmp_path_factory.mktemp("milvus-server")
    yield milvus_command.start(folder)
    assert milvus_command.stop(folder)


@pytest.fixture(scope="module", params=["lite", "server"])
def milvus_uri(request, tmp_path_factory) -> str:
    if request.param == "server":
        return request.getfixturevalue("milvus_server")
    return str(tmp_path_factory.mktemp("milvus"))
