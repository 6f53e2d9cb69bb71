import socket

import pytest

from indexing.sources.remote import RemoteStamp, SourceError, stat_remote
from indexing.sources.uris import is_remote, public_uri, without_secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/videos/a?b.mp4", "/videos/a?b.mp4"),
        ("file:///a.mp4", "file:///a.mp4"),
        ("s3://KEY:SECRET@bucket/a b.mp4", "s3://bucket/a b.mp4"),
        ("https://host:8080/v?id=7", "https://host:8080/v?id=7"),
        ("https://me:pw@host/v?id=7#t=1", "https://host/v?id=7"),
        ("https://b.s3/a.mp4?X-Amz-Credential=A&X-Amz-Signature=B", "https://b.s3/a.mp4"),
        ("https://b.s3/get?X-Amz-Signature=B&id=1&n=a%20b", "https://b.s3/get?id=1&n=a%20b"),
        ("https://x.blob/a.mp4?sv=2024&sig=Z%3D", "https://x.blob/a.mp4"),
        ("https://cdn/a.mp4?Expires=1&Key-Pair-Id=K&Signature=S", "https://cdn/a.mp4"),
        ("https://cdn/a.mp4?access_token=1", "https://cdn/a.mp4"),
        ("https://cdn/a.mp4?md5=S&expires=1767225600", "https://cdn/a.mp4"),
        ("https://cdn/a.mp4?md5=S&expires=9", "https://cdn/a.mp4?md5=S&expires=9"),
        ("https://cdn/a.mp4?md5=which-file", "https://cdn/a.mp4?md5=which-file"),
        ("https://tv/?show=x&s=1&e=2", "https://tv/?show=x&s=1&e=2"),
        ("https://tv/?s=1&e=1767225600&h=S", "https://tv/"),
        ("https://b/get?key=dives/a.mp4&author=me", "https://b/get?key=dives/a.mp4&author=me"),
        ("https://b/a.mp4?key=AIzaSyA-1234567890abcdef", "https://b/a.mp4"),
        ("https://b/a.mp4?id=1;token=S", "https://b/a.mp4?id=1"),
        ("https://x.blob/a.mp4?skoid=1&ske=2&sig=S", "https://x.blob/a.mp4"),
        ("https://b.oss/a.mp4?x-oss-date=1&x-oss-signature=S", "https://b.oss/a.mp4"),
        *(
            (f"https://cdn/a.mp4?{name}=S", "https://cdn/a.mp4")
            for name in (
                "api_key",
                "apikey",
                "hdnea",
                "hmac",
                "jwt",
                "Authorization",
                "pwd",
                "pass",
                "cred",
                "Ocp-Apim-Subscription-Key",
                "auth",
                "ticket",
            )
        ),
    ],
)
def test_a_stored_uri_has_no_user_and_no_signature(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown
    assert (
        without_secrets(f"404 for '{uri.replace(' ', '%20')}'")
        == f"404 for '{shown.replace(' ', '%20')}'"
    )


def test_a_refused_connection_does_not_tell_the_signature() -> None:
    """requests names the path and query of a URL without its scheme."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://me:TOPSECRET@127.0.0.1:{port}/it's(1).mp4?id=7&X-Amz-Signature=TOPSECRET&n=it's(1)&token=TOPSECRET"
    with pytest.raises(SourceError) as caught:
        stat_remote(uri)
    assert "TOPSECRET" not in str(caught.value)
    assert "(1).mp4?id=7&n=it's(1)" in str(caught.value)
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
