"""What of a URI is stored and shown: no user info, no fragment, and only parameters that name a file."""

import pytest

from indexing.sources.uris import NAMING_PARAMETERS, public_uri, unsigned_uri, without_secrets

S3_QUERY = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Feu%2Fs3%2Faws4_request"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=SECRET"
    "&X-Amz-Security-Token=SECRET&response-content-type=video%2Fmp4"
)
GCS_QUERY = "GoogleAccessId=me%40project.iam&Expires=1767225600&Signature=SECRET%2B%3D"
AZURE_QUERY = "sv=2024-11-04&ss=b&srt=o&sp=r&se=2026-01-01T00:00:00Z&spr=https&sig=SECRET%3D"
CASES = [
    # Not remote: a path may hold any character.
    ("/videos/a?b.mp4", "/videos/a?b.mp4"),
    ("file:///a.mp4", "file:///a.mp4"),
    # User info, fragments, ports.
    ("s3://KEY:SECRET@bucket/a b.mp4", "s3://bucket/a b.mp4"),
    ("https://me:p%40ss@w@host:8080/v?id=7#t=1", "https://host:8080/v?id=7"),
    ("https://token@[::1]:80/a.mp4#access_token=SECRET", "https://[::1]:80/a.mp4"),
    # Signed by the three large stores, and by others.
    (f"https://b.s3.amazonaws.com/a.mp4?{S3_QUERY}", "https://b.s3.amazonaws.com/a.mp4"),
    (f"https://storage.googleapis.com/b/a.mp4?{GCS_QUERY}", "https://storage.googleapis.com/b/a.mp4"),
    (f"https://x.blob.core.windows.net/c/a.mp4?{AZURE_QUERY}", "https://x.blob.core.windows.net/c/a.mp4"),
    (f"https://b.s3/a.mp4?versionId=3&{S3_QUERY}", "https://b.s3/a.mp4?versionId=3"),
    (f"https://gcs/b/a.mp4?generation=7&{GCS_QUERY}", "https://gcs/b/a.mp4?generation=7"),
    ("https://cdn/a.mp4?Policy=P&Key-Pair-Id=K&Signature=S", "https://cdn/a.mp4"),
    ("https://cdn/a.mp4?md5=S&expires=1767225600", "https://cdn/a.mp4"),
    ("https://cdn/a.mp4?hdnea=exp=1~hmac=S", "https://cdn/a.mp4"),
    # What no list of secrets would know.
    ("https://cdn/a.mp4?my-own-way-in=SECRET", "https://cdn/a.mp4"),
    ("https://cdn/a.mp4?SECRET", "https://cdn/a.mp4"),
    ("https://cdn/a.mp4?=SECRET", "https://cdn/a.mp4"),
    ("https://cdn/a.mp4?key=AIzaSy.SECRET", "https://cdn/a.mp4"),
    # Upper case, quoted names, other separators.
    ("https://cdn/a.mp4?X-AMZ-SIGNATURE=S&ID=7", "https://cdn/a.mp4?ID=7"),
    ("HTTPS://cdn/a.mp4?SIG=S&Video_ID=7&file.name=a", "https://cdn/a.mp4?Video_ID=7&file.name=a"),
    ("https://cdn/a.mp4?%73ig=S&%69d=7", "https://cdn/a.mp4?%69d=7"),
    ("https://cdn/a.mp4?id=1;token=S", "https://cdn/a.mp4?id=1"),
    ("https://cdn/a.mp4?id=1&amp;token=S", "https://cdn/a.mp4?id=1"),
    # Repeated, empty and unsorted parameters keep their order.
    ("https://cdn/get?part=2&sig=A&id=1&id=2&sig=B", "https://cdn/get?part=2&id=1&id=2"),
    ("https://cdn/get?id=&&v", "https://cdn/get?id=&v"),
    ("https://cdn/get?", "https://cdn/get"),
    # A parameter that names a file, and brings a signed URI or user info with it.
    ("https://proxy/get?file=https%3A%2F%2Fb.s3%2Fa.mp4%3Fsig%3DS", "https://proxy/get"),
    ("https://proxy/get?path=%252Fa.mp4%253Fsig%253DS&id=1", "https://proxy/get?id=1"),
    ("https://proxy/get?path=/a.mp4?sig=S", "https://proxy/get"),
    ("https://proxy/get?name=me:pw@host", "https://proxy/get"),
    ("https://b/get?path=dives/a%20b.mp4&author=me", "https://b/get?path=dives/a%20b.mp4"),
]  # fmt: skip


@pytest.mark.parametrize(("uri", "shown"), CASES)
def test_a_stored_uri_names_the_file_and_nothing_else(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown
    assert public_uri(shown) == shown
    text = f"404 for '{uri.replace(' ', '%20')}'"
    assert without_secrets(text) == f"404 for '{shown.replace(' ', '%20')}'"


@pytest.mark.parametrize("name", NAMING_PARAMETERS)
def test_every_naming_parameter_is_kept(name: str) -> None:
    uri = f"https://host/get?{name}=a.mp4"
    assert public_uri(f"{uri}&token=SECRET") == uri


def test_only_signatures_may_differ_between_uris_of_one_file() -> None:
    signed = [
        f"https://b.s3/a.mp4?id=1&X-Amz-Signature={name}&exp={time}"
        for name, time in (("A", 1767225600), ("B", 1767225999))
    ]
    assert len({unsigned_uri(uri) for uri in signed}) == 1
    others = [f"https://b.s3/a.mp4?camera={number}" for number in (1, 2)]
    assert len({public_uri(uri) for uri in others}) == 1
    assert len({unsigned_uri(uri) for uri in others}) == 2
