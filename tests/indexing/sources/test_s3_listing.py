"""A listing of a bucket beside what a HEAD says of each object, signed as a server checks it."""

from collections.abc import Iterator

import pytest

from indexing.sources.content import read_contents
from indexing.sources.remote import SourceGoneError, list_remote, stat_remote
from indexing.sources.s3_listing import list_objects
from tests.support.remote_server import RemoteServer, serve_folder

NAMES = ("top/a b.mp4", "top/a+b%20c.mp4", "top/deep/ü & <x>.mp4", "top/z.mp4", "topmost.mp4")


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[RemoteServer]:
    for number, name in enumerate(NAMES):
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).write_bytes(b"x" * number)
    with serve_folder(tmp_path) as server:
        server.s3_secret, server.keys_per_page = "very-secret", 2
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
        yield server


def test_a_listing_has_the_stamp_of_each_object_as_a_head_has_it(server) -> None:
    listed = dict(list_remote("s3://b/top"))
    assert list(listed) == [f"s3://b/{name}" for name in NAMES[:4]]
    assert sum("list-type" in request for request in server.requests) == 2
    assert not any(request.startswith("HEAD") for request in server.requests)
    assert listed == {uri: stat_remote(uri) for uri in listed}


def test_listed_objects_are_asked_for_nothing_more(server) -> None:
    listed = dict(list_remote("s3://b/top"))
    stamps = {uri: stamp for uri, stamp in listed.items() if stamp is not None}
    server.requests.clear()
    contents = read_contents(listed, {}, stamps=stamps)
    assert server.requests == []
    assert contents == read_contents(listed, {})
    assert len(server.requests) == len(listed)  # one HEAD each


def test_keys_of_the_uri_are_used_before_those_of_the_environment(server, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert len(list(list_remote("s3://id:very-secret@b/top/"))) == 4
    with pytest.raises(
        SourceGoneError, match=r"s3://b/top/: HTTP 403 SignatureDoesNotMatch.*AWS_SECRET"
    ):
        list(list_remote("s3://b/top/"))


def test_keys_of_profiles_and_roles_are_left_to_pyarrow(monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_NO_SIGN_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    assert list_objects("s3://b/top/") is None
