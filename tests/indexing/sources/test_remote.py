import socket

import pytest

from indexing.sources.remote import RemoteStamp, SourceError, stat_remote
from indexing.sources.uris import is_remote


def test_a_refused_connection_does_not_tell_the_signature() -> None:
    """requests names the path and query of a URL without its scheme."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://me:TOPSECRET@127.0.0.1:{port}/it's(1).mp4?id=7&X-Amz-Signature=TOPSECRET&name=it's(1)&token=TOPSECRET"
    with pytest.raises(SourceError) as caught:
        stat_remote(uri)
    assert "TOPSECRET" not in str(caught.value)
    assert "(1).mp4?id=7&name=it's(1)" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_only_what_has_to_be_fetched_is_remote() -> None:
    assert [is_remote(uri) for uri in ("/a", "a.mp4", "file:///a", "s3://b/k", "HTTP://h/a")] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_the_hash_of_a_remote_file_depends_on_version_and_size() -> None:
    stamps = [("a", 1), ("b", 1), ("a", 2)]
    hashes = {RemoteStamp(size_bytes=size, version=v).content_hash for v, size in stamps}
    assert len(hashes) == 3
    assert {len(one) for one in hashes} == {32}
