"""Where Milvus answers: folders are served once, named as folders, and never made by who only wants to read."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from pymilvus.exceptions import MilvusException

from indexing.store import bulk_import, client
from indexing.store.bulk_import import BulkImport
from indexing.store.client import connect
from indexing.store.collection import open_collection
from indexing.store.endpoint import place_of, require_archive, serve_milvus


def test_a_folder_is_served_at_one_address_and_known_by_its_name(tmp_path):
    folder = tmp_path / "milvus"
    with serve_milvus(str(folder)) as address, serve_milvus(str(folder)) as again:
        assert address == again
        assert place_of(address) == str(folder)
        with (
            open_collection(str(folder), "nothing") as collection,
            pytest.raises(ValueError, match=rf"Milvus at '{folder}' has no collection 'nothing'"),
        ):
            collection.check(encoder_id="encoder")
    assert place_of(address) == address


def test_a_server_is_named_without_its_password():
    assert place_of("http://user:secret@host:19530") == "http://host:19530"


@pytest.mark.parametrize(
    ("uri", "variable", "token"),
    [
        ("http://HOST", "root:Milvus", "root:Milvus"),
        ("http://HOST", "an/api@key", "an/api@key"),
        ("http://root:of%2Fthe%40uri@HOST", "root:of-the-variable", "root:of/the@uri"),
        ("http://apikey@HOST", "", "apikey"),
        ("http://HOST", "", ""),
    ],
)
def test_a_server_gets_the_token_of_its_uri_or_of_the_environment(
    monkeypatch, uri, variable, token
):
    """What a server that knows nothing else sees of the two clients: that of all calls, and that of bulk imports."""
    seen = []

    class Listening(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            seen.append(dict(details.invocation_metadata).get("authorization", ""))
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
            )

    server = grpc.server(ThreadPoolExecutor(2), interceptors=[Listening()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("MILVUS_TOKEN", variable)
    monkeypatch.setattr(client, "_CONNECT_S", 1.0)
    monkeypatch.setattr(bulk_import, "_TIMEOUT_S", 1.0)
    monkeypatch.setattr(bulk_import, "call_milvus", lambda call: call())
    try:
        with serve_milvus(uri.replace("HOST", f"127.0.0.1:{port}")) as address:
            assert place_of(address) == f"http://127.0.0.1:{port}"
            for open_client in (
                lambda: connect(address, attempts=1),
                lambda: BulkImport(SimpleNamespace(address=address, name="c"), Path("nowhere")),
            ):
                seen.clear()
                with pytest.raises((MilvusException, OSError, grpc.RpcError)):  # refused at once
                    open_client()
                assert seen
                assert {base64.b64decode(one).decode() for one in seen} == {token}
    finally:
        server.stop(None)


def test_reading_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="is not a Milvus Lite folder; run `tfcovr index` first"):
        require_archive(str(tmp_path / "nowhere"))
    require_archive(str(tmp_path))
    require_archive("http://host:19530")
