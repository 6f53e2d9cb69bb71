"""Archives of one collection: who owns which rows, and which name an archive gets."""

import hashlib

import numpy as np
import pytest

from encoders.clips import Clip
from indexing.ledger.archives import (
    ArchiveRows,
    choose_archive,
    find_archive,
    open_archive,
)
from indexing.sources.archive import ArchiveRequest
from indexing.store.collection import open_collection
from indexing.store.rows import collection_row

CAM1, CAM2 = "/videos/cam1", "/videos/cam2"


def request(source: str, **changes) -> ArchiveRequest:
    return ArchiveRequest(source=source, **changes)


@pytest.mark.parametrize(
    ("asked", "sources", "has_rows", "name"),
    [
        (request(CAM1), {}, False, ""),
        (request(CAM1), {"": CAM1}, True, ""),
        (request(CAM2), {"": CAM1}, True, "cam2"),
        (request(CAM2), {"": CAM1, "cam2": CAM2}, True, "cam2"),
        (
            request("/other/cam2"),
            {"": CAM1, "cam2": CAM2},
            True,
            "cam2-" + hashlib.sha256(b"/other/cam2").hexdigest()[:6],
        ),
        (request(CAM2, name="left"), {"": CAM1}, True, "left"),
        (request(CAM2, name="left"), {}, False, "left"),
        (request(CAM1, recorded=("cam1", CAM1)), {"": CAM2}, True, "cam1"),
        (request(CAM1, recorded=("", CAM1)), {}, True, ""),  # rows of an earlier version
        (request(CAM1, name=""), {}, True, ""),
        (request(CAM1, recorded=("cam1", CAM1), is_recorded_here=False), {}, False, ""),
        (request(CAM2, recorded=("cam1", CAM1), is_recorded_here=False), {"": "/x"}, True, "cam2"),
        (request("/moved", recorded=("cam1", CAM1), is_moved=True), {"cam1": CAM1}, True, "cam1"),
        (request("/moved", name="cam1", is_moved=True), {"cam1": CAM1}, True, "cam1"),
        (request("/a/dives/clips.parquet"), {"": CAM1}, True, "dives"),
        (request("/a/my dives.parquet"), {"": CAM1}, True, "my-dives"),
        (request("/a/cam3/**/*.mp4"), {"": CAM1}, True, "cam3"),
        (request("s3://bucket/cam4/"), {"": CAM1}, True, "cam4"),
    ],
)
def test_the_first_archive_keeps_its_ids_and_every_other_gets_a_name(
    asked, sources, has_rows, name
) -> None:
    assert choose_archive(asked, sources, has_rows=has_rows) == name


@pytest.mark.parametrize(
    ("asked", "sources", "has_rows", "message"),
    [
        (request(CAM1), {}, True, "no record of their archive"),
        (request(CAM2, recorded=("", CAM1)), {"": CAM1}, True, "the run folder is that of '/videos/cam1'"),
        (request(CAM2, recorded=("", CAM1)), {}, True, "the run folder is that of '/videos/cam1'"),
        (request(CAM2, recorded=("", CAM1), is_recorded_here=False), {"": CAM1}, True, "the run folder is that of '/videos/cam1'"),
        (request(CAM2, name=""), {"": CAM1}, True, "archive '' of the collection is '/videos/cam1'"),
        (request(CAM2, name="", recorded=("", CAM1)), {}, True, "archive '' of the collection is '/videos/cam1'"),
        (request(CAM2, name="cam1"), {"cam1": CAM1}, True, "archive 'cam1' of the collection"),
        (request(CAM1, recorded=("", CAM1)), {"": CAM2}, True, "archive '' of the collection is '/videos/cam2'"),
    ],
)  # fmt: skip
def test_an_archive_that_may_be_another_is_refused(asked, sources, has_rows, message) -> None:
    with pytest.raises(ValueError, match=message):
        choose_archive(asked, sources, has_rows=has_rows)


@pytest.mark.parametrize("name", ["a:b", "a/b", "-a", "a" * 65, "a b"])
def test_a_name_that_no_id_can_carry_is_refused(name) -> None:
    with pytest.raises(ValueError, match="it must be 1 to 64 letters"):
        request(CAM1, name=name)


def test_every_row_has_one_owner() -> None:
    archives = [
        ArchiveRows(others=frozenset({"cam1", "cam10"})),
        ArchiveRows(name="cam1", others=frozenset({"cam10"})),
        ArchiveRows(name="cam10", others=frozenset({"cam1"})),
    ]
    ids = [archive.stored_id("a:b.mp4") for archive in archives]
    assert ids == ["a:b.mp4", "cam1:a:b.mp4", "cam10:a:b.mp4"]
    assert [[archive.owns(clip_id) for clip_id in ids] for archive in archives] == np.eye(
        3, dtype=bool
    ).tolist()
    with pytest.raises(ValueError, match="would be taken for one of archive 'cam1'"):
        archives[0].stored_id("cam1:a.mp4")


def test_a_collection_records_its_archives(milvus_uri) -> None:
    def row(clip_id: str) -> dict:
        clip = Clip(clip_id=clip_id, video_uri="v")
        return collection_row(clip, key=clip_id, embedding_D=np.eye(8)[0], backend="", precision="")

    with open_collection(milvus_uri, "archives") as collection:
        collection.create_or_check(encoder_id="encoder-1", embedding_dim=8)
        first = open_archive(collection, request(CAM1))
        collection.upsert([row(first.stored_id("a.mp4")), row("cam_2:x")])
        second = open_archive(collection, request(CAM2))
        collection.upsert([row(second.stored_id("a.mp4"))])
        assert collection.archives() == {"": CAM1, "cam2": CAM2}
        assert find_archive(collection, request(CAM1)) == ArchiveRows(others=frozenset({"cam2"}))
        rows = [r["clip_id"] for r in collection.rows(condition=second.condition())]
        assert rows == ["cam2:a.mp4"]
        with pytest.raises(
            ValueError, match="holds clips of another archive whose ids begin with 'cam_2:'"
        ):
            open_archive(collection, request("/c", name="cam_2"))  # fmt: skip
        assert open_archive(collection, request("/c/cam_2")).name.startswith("cam_2-")
        assert (
            open_archive(collection, request("/new/cam2", name="cam2", is_moved=True)).name
            == "cam2"
        )
        assert collection.archives()["cam2"] == "/new/cam2"
