import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from encoders.media.container import local_path
from indexing.ledger.ledger import Ledger
from indexing.sources import content
from indexing.sources.content import Content, FileStamp, hash_file, read_contents


def test_a_hash_covers_every_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192 + b"end"  # more than one piece
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert hash_file(path) == hashlib.blake2b(data, digest_size=16).hexdigest()
    path.write_bytes(data[:-1] + b"D")
    assert hash_file(path) != hashlib.blake2b(data, digest_size=16).hexdigest()


def test_only_a_file_whose_size_or_time_changed_is_read_again(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    uris = [f"file://{path}", f"file://{path}"]
    first = read_contents(uris, {})
    reads: list[str] = []
    monkeypatch.setattr(content, "hash_file", lambda one: reads.append(str(one)) or "again")
    assert read_contents(uris, first) == first
    assert reads == []
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read_contents(uris, first)[uris[0]].content_hash == "again"
    assert len(reads) == 1


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_read_again(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    status = path.stat()
    first = read_contents([str(path)], {})
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read_contents([str(path)], first)[str(path)].content_hash == hash_file(path)


def test_stamps_of_earlier_versions_are_believed_and_completed(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    (now,) = read_contents([str(path)], {}).values()
    assert now.stamp is not None
    earlier = replace(now, stamp=replace(now.stamp, version=""))
    monkeypatch.setattr(content, "hash_file", lambda _: pytest.fail("it was read"))
    assert read_contents([str(path)], {str(path): earlier}) == {str(path): now}
    remote = FileStamp(size_bytes=1, mtime_ns=0, version="etag")
    assert not remote.is_same(replace(remote, version=""))


@pytest.mark.parametrize("name", ["gone.mp4", ".", "nu\0ll.mp4"])
def test_what_cannot_be_read_has_a_problem_and_no_hash(tmp_path: Path, name: str) -> None:
    uri = str(tmp_path / name)
    (found,) = read_contents([uri], {}).values()
    assert found.content_hash == ""
    assert found.problem
    known = Content(content_hash="old", stamp=None)
    assert read_contents([uri], {uri: replace(known)})[uri].problem


def test_a_uri_is_the_file_that_decoding_opens(tmp_path: Path) -> None:
    (tmp_path / "a b.mp4").write_bytes(b"spaced")
    (tmp_path / "a%20b.mp4").write_bytes(b"percent")
    for uri, name in ((f"file://{tmp_path}/a%20b.mp4", "a b.mp4"), (f"{tmp_path}/a%20b.mp4", "a%20b.mp4")):  # fmt: skip
        assert read_contents([uri], {})[uri].content_hash == hash_file(tmp_path / name)
        assert local_path(uri) == tmp_path / name
    (found,) = read_contents(["file://host/a.mp4"], {}).values()
    assert "only local paths" in found.problem


def test_what_was_read_is_kept_while_the_rest_is_read(tmp_path) -> None:
    """A run that is interrupted has what came before; nothing that was known is told again."""
    for number in range(5):
        (tmp_path / f"{number}.mp4").write_bytes(bytes([number]) * 100)
    uris = [str(tmp_path / f"{number}.mp4") for number in range(5)]
    known = read_contents(uris[:2], {})
    kept: dict[str, Content] = {}
    found = read_contents(uris, known, keep=kept.update)
    assert kept == {uri: found[uri] for uri in uris[2:]}
    with Ledger(tmp_path / "run") as ledger:
        ledger.keep_contents(known)
        ledger.keep_contents(kept)
        assert ledger.contents(uris) == found
