"""Labelling over HTTP, over a small archive in Milvus Lite: what is stored, asked and exported."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from encoders.clips import Clip, read_clips, write_clips
from indexing.labelling.journal import JOURNAL_NAME, read_journal
from tests.support.labelled_archive import NUM_CLIPS, NUM_KINDS, kind_of, open_app
from tfcovr import main
from training.annotations.readers.import_clips import import_annotations
from training.annotations.readers.label_file import ImportLabelFile
from training.annotations.readers.label_studio import ImportLabelStudio
from training.annotations.readers.osl import ImportOsl

ORIGIN = {"origin": "http://testserver"}


def open_client(archive: Path, bundle: Path, labels: Path | None, **limits) -> TestClient:
    return TestClient(open_app(archive, bundle, labels, **limits), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def labels_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def client(unlabelled, tiny_bundle, labels_dir) -> Iterator[TestClient]:
    with open_client(unlabelled, tiny_bundle, labels_dir) as opened:
        yield opened


def send(client: TestClient, *clicks: dict, **headers):
    return client.post("/v1/labels/clicks", json={"clicks": list(clicks)}, headers=headers)


def label(number: int, text: str | None = None, serial: str = "") -> dict:
    return {"click_id": f"click-{number:04d}{serial}", "kind": "label", "clip_id": f"clip/{number}", "label": text or kind_of(number)}  # fmt: skip


def test_without_a_folder_nothing_can_be_written(unlabelled, tiny_bundle) -> None:
    with open_client(unlabelled, tiny_bundle, None) as reading:
        assert reading.get("/v1/collections").json()["collections"][0]["can_label"] is False
        assert send(reading, label(0)).status_code == 404
        assert reading.get("/v1/labels").status_code == 404


def test_what_is_asked_next_comes_from_all_groups_and_is_labelled_right(client) -> None:
    asked = client.get("/v1/labels/next?limit=9").json()
    assert asked[0]["suggestions"] == []  # nobody has said anything yet
    numbers = [int(clip["clip_id"].partition("/")[2]) for clip in asked]
    assert {number % NUM_KINDS for number in numbers} == set(range(NUM_KINDS))
    reply = send(client, *(label(number) for number in numbers))
    assert reply.status_code == 200, reply.text
    assert reply.json()["num_labelled"] == 9
    # The next clips come at once, without those that were answered.
    others = client.get("/v1/labels/next?limit=32").json()
    assert not {clip["clip_id"] for clip in asked} & {clip["clip_id"] for clip in others}
    for _ in range(200):
        heads = client.get("/v1/labels").json()["heads"]
        if heads["num_clicks"] == 9:
            break
    assert heads["num_labelled"] == 9
    clip = client.get("/v1/labels/clip", params={"id": "clip/59"}).json()
    assert clip["suggestions"][0]["label"] == kind_of(59)
    groups = client.get("/v1/labels/groups").json()
    assert sum(group["num_clips"] for group in groups) == NUM_CLIPS - 9
    for group in groups:
        of_group = {int(c["clip_id"].partition("/")[2]) % NUM_KINDS for c in group["clips"]}
        assert len(of_group) == 1


def test_a_click_is_on_the_disk_when_it_is_answered_and_is_stored_once(client, labels_dir) -> None:
    click = label(30, serial="-once")
    assert [send(client, click).status_code for _ in range(2)] == [200, 200]
    clicks, _ = read_journal(labels_dir / JOURNAL_NAME)
    assert clicks.find("click-0030-once") is not None
    lines = (labels_dir / JOURNAL_NAME).read_text()
    assert lines.count("click-0030-once") == 1


def test_thumbs_undo_and_spans_are_seen_in_the_clip(client) -> None:
    show = {"id": "clip/33"}
    best = client.get("/v1/labels/clip", params=show).json()["suggestions"][0]["label"]
    send(client, {"click_id": "thumb-0033", "kind": "not", "clip_id": "clip/33", "label": best})
    suggested = [one["label"] for one in client.get("/v1/labels/clip", params=show).json()["suggestions"]]  # fmt: skip
    assert suggested
    assert best not in suggested
    send(client, {"click_id": "span-0033", "kind": "span", "clip_id": "clip/33", "start_s": 0.25, "end_s": 1.5})  # fmt: skip
    assert client.get("/v1/labels/clip", params=show).json()["end_s"] == 1.5
    undo = {"click_id": "undo-0033", "kind": "undo", "clip_id": "clip/33", "undoes": "span-0033"}
    send(client, undo)
    assert client.get("/v1/labels/clip", params=show).json()["end_s"] == pytest.approx(1 + 33 / 60)


@pytest.mark.parametrize(
    ("clicks", "status"),
    [
        ([{"click_id": "wrong-0001", "kind": "label", "clip_id": "nowhere", "label": "x"}], 422),
        ([{"click_id": "short", "kind": "skip", "clip_id": "clip/1"}], 422),
        ([{"click_id": "wrong-0002", "kind": "label", "clip_id": "clip/1", "label": "x" * 300}], 422),
        ([{"click_id": "wrong-0003", "kind": "label", "clip_id": "clip/1", "label": "a\nb"}], 422),
        ([{"click_id": "wrong-0004", "kind": "undo", "clip_id": "clip/1", "undoes": "nothing-1"}], 422),
        ([{"click_id": "wrong-0005", "kind": "span", "clip_id": "clip/1", "start_s": 2.0, "end_s": 1.0}], 422),
        ([{"click_id": f"many-{n:04d}", "kind": "skip", "clip_id": "clip/1"} for n in range(65)], 422),
        ([], 422),
    ],
)  # fmt: skip
def test_clicks_that_cannot_be_are_refused_and_not_stored(
    client, labels_dir, clicks: list[dict], status: int
) -> None:
    size = (labels_dir / JOURNAL_NAME).stat().st_size
    reply = send(client, label(40, serial="-beside"), *clicks) if clicks else send(client)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")  # fmt: skip
    assert str(labels_dir) not in reply.text
    assert (labels_dir / JOURNAL_NAME).stat().st_size == size


def test_a_foreign_page_and_a_missing_token_write_nothing(
    unlabelled, tiny_bundle, tmp_path: Path
) -> None:
    limits = {"token": "right", "allowed_hosts": ("testserver",)}
    with open_client(unlabelled, tiny_bundle, tmp_path, **limits) as guarded:
        right = {"authorization": "Bearer right"}
        assert send(guarded, label(1)).status_code == 401
        for foreign in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert send(guarded, label(1), **right, **foreign).status_code == 403
        assert send(guarded, label(1), **right, host="evil.example").status_code == 403
        assert (tmp_path / JOURNAL_NAME).stat().st_size == 0
        assert send(guarded, label(1), **right, **ORIGIN).status_code == 200


def test_every_export_is_read_again_with_the_same_labels_and_spans(
    client, unlabelled: Path, tmp_path: Path
) -> None:
    assert send(client, *(label(number, serial="-export") for number in range(12))).status_code == 200  # fmt: skip
    texts = {kind: client.get(f"/v1/labels/export?format={kind}") for kind in ("csv", "label-studio", "osl")}  # fmt: skip
    for kind, reply in texts.items():
        assert reply.status_code == 200, (kind, reply.text)
        assert str(unlabelled) not in reply.text
    rows = list(csv.DictReader(io.StringIO(texts["csv"].text)))
    expected = {row["clip_id"]: row["label"] for row in rows}
    assert len(expected) >= 10
    assert {row["video_uri"] for row in rows} == {"day 1/a.mp4", "b.mp4"}
    for name, kind in (("labels.csv", "csv"), ("tasks.json", "label-studio"), ("osl.json", "osl")):
        (tmp_path / name).write_text(texts[kind].text)
    for name in ("day 1", "b.mp4"):
        (tmp_path / name).symlink_to(unlabelled / name)
    out = tmp_path / "clips.parquet"
    videos = str(unlabelled)
    for config in (
        ImportLabelFile(labels=tmp_path / "labels.csv", videos=videos, out=out),
        ImportLabelStudio(annotations=tmp_path / "tasks.json", videos=videos, out=out),
        ImportOsl(annotations=tmp_path / "osl.json", out=out),
    ):
        import_annotations(config)
        clips = {clip.clip_id: clip for clip in read_clips(out)}
        assert {clip_id: clip.label for clip_id, clip in clips.items()} == expected
        for row in rows:
            clip = clips[row["clip_id"]]
            assert clip.start_s == pytest.approx(float(row["start_s"]), abs=0.041)  # of a frame
            assert clip.end_s == pytest.approx(float(row["end_s"]), abs=0.041)
            assert Path(clip.video_uri).name == Path(row["video_uri"]).name
    assert json.loads(texts["osl"].text)["version"] == "2.0"


def test_the_command_adds_imports_asks_and_exports(
    unlabelled: Path, tiny_bundle, tmp_path: Path, capsys
) -> None:
    table = tmp_path / "clips.parquet"
    clips = [
        # One file in another folder, nearly the same span, and one that the archive does not have.
        Clip(clip_id="clip/7", video_uri="/else/a.mp4", start_s=7 / 60, end_s=67 / 60, label="kind 1"),
        Clip(clip_id="other", video_uri="/elsewhere/b.mp4", start_s=0.13, end_s=1.13, label="kind 2"),
        Clip(clip_id="none", video_uri="/elsewhere/b.mp4", start_s=50.0, end_s=51.0, label="kind 0"),
    ]  # fmt: skip
    write_clips(table, clips)
    out = tmp_path / "labels.csv"
    common = ["--bundle", tiny_bundle, "--milvus-uri", unlabelled / "milvus", "--labels", tmp_path]
    for more in (["--add", "clip/3=kind 0", "--import-from", table], ["--import-from", table, "--export", out]):  # fmt: skip
        assert main(["labels", *map(str, common + more)]) == 0
    shown = capsys.readouterr().out
    assert "2 clips got their label, 0 had it before" in shown
    assert "0 clips got their label, 2 had it before" in shown
    assert "1 have the video and span of no clip of the archive, first: none" in shown
    assert "3 clips labelled by clicks" in shown
    rows = list(csv.DictReader(out.open()))
    assert {row["clip_id"]: row["label"] for row in rows} == {
        "clip/3": "kind 0", "clip/7": "kind 1", "clip/8": "kind 2",
    }  # fmt: skip
    assert len(read_journal(tmp_path / JOURNAL_NAME)[0]) == 3  # imported again, stored once
