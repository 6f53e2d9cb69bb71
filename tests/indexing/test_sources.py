import pytest

from indexing.sources import RemoteStamp, is_remote, public_uri, without_secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/videos/a?b.mp4", "/videos/a?b.mp4"),
        ("file:///a.mp4", "file:///a.mp4"),
        ("s3://KEY:SECRET@bucket/a b.mp4", "s3://bucket/a b.mp4"),
        ("https://host:8080/v?id=7", "https://host:8080/v?id=7"),
        ("https://me:pw@host/v?id=7#t=1", "https://host/v?id=7"),
        ("https://b.s3/a.mp4?X-Amz-Credential=A&X-Amz-Signature=B&id=1", "https://b.s3/a.mp4"),
        ("https://x.blob/a.mp4?sv=2024&sig=Z%3D", "https://x.blob/a.mp4"),
        ("https://cdn/a.mp4?Expires=1&Key-Pair-Id=K&Signature=S", "https://cdn/a.mp4"),
        ("https://cdn/a.mp4?access_token=1", "https://cdn/a.mp4"),
    ],
)
def test_a_stored_uri_has_no_user_and_no_signature(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown
    assert (
        without_secrets(f"404 for '{uri.replace(' ', '%20')}'")
        == f"404 for '{shown.replace(' ', '%20')}'"
    )


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
