"""Milvus as the tests of this folder need it: Milvus Lite, and where `pip install '.[server]'` was done the server."""

import pytest


@pytest.fixture(scope="module", params=["lite", "server"])
def milvus_uri(request, tmp_path_factory) -> str:
    if request.param == "server":
        return request.getfixturevalue("milvus_server")
    return str(tmp_path_factory.mktemp("milvus"))
