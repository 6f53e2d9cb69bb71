from dataclasses import replace
from pathlib import Path

from encoders.clips import Clip
from indexing.ledger.planned_clip import plan_clips
from indexing.ledger.reconcile import compare
from indexing.pipeline.shards import make_shards
from indexing.sources.content import Content, read_contents
from indexing.store.rows import clip_key

CLIP = Clip(clip_id="a", video_uri="/v/1.mp4", start_s=1.5, end_s=4.0)


def contents_of(*uris: str, content_hash: str = "h1") -> dict[str, Content]:
    return {uri: Content(content_hash=content_hash, stamp=None) for uri in uris}


def test_the_key_changes_with_everything_that_decides_a_vector() -> None:
    base = ("encoder", "clip", "hash", 1.0, 2.0)
    variants = [
        base,
        ("encoder2", *base[1:]),
        ("encoder", "clip2", *base[2:]),
        ("encoder", "clip", "hash2", 1.0, 2.0),
        ("encoder", "clip", "hash", 1.000001, 2.0),
        ("encoder", "clip", "hash", 1.0, 2.000001),
        ("encoder", "clip", "hash", 1.0, None),
        ("encoderc", "lip", "hash", 1.0, 2.0),
    ]
    assert len({clip_key(*variant) for variant in variants}) == len(variants)
    assert clip_key(*base) == clip_key(*base[:3], 1.0 + 1e-9, 2.0)


def test_shards_hold_the_clips_of_one_video_and_every_clip_once() -> None:
    clips = [
        Clip(clip_id=f"{v}-{i}", video_uri=f"/v/{v}.mp4", start_s=i, end_s=None if i else 0.5)
        for i in range(300)
        for v in (0, 1)
    ]
    uris = {clip.video_uri for clip in clips}
    shards = make_shards(plan_clips(clips, contents_of(*uris), encoder_id="e"))
    assert sorted(clip_id for shard in shards for clip_id in shard["clip_ids"]) == sorted(
        clip.clip_id for clip in clips
    )
    for shard in shards:
        video = Path(shard["video_uri"]).stem
        assert all(clip_id.startswith(f"{video}-") for clip_id in shard["clip_ids"])
        starts_s = [span["start_s"] for span in shard["spans"]]
        assert starts_s == sorted(starts_s)
        for span in shard["spans"]:
            assert (span["end_s"] is None) == (span["start_s"] > 0)


def shard_sizes(starts_s: list[float], num_workers: int = 1) -> list[int]:
    clips = [
        Clip(clip_id=f"{i}", video_uri="/v/0.mp4", start_s=s, end_s=s + 2)
        for i, s in enumerate(starts_s)
    ]
    planned = plan_clips(clips, contents_of("/v/0.mp4"), encoder_id="e")
    return [len(shard["clip_ids"]) for shard in make_shards(planned, num_workers=num_workers)]


def test_long_videos_are_cut_for_all_workers_and_never_finer_than_a_minute() -> None:
    two_hours = [30.0 * i for i in range(240)]
    assert shard_sizes(two_hours) == [60] * 4
    assert shard_sizes(two_hours, num_workers=16) == [16] * 15
    # Dense spans: decoding a minute costs more than one group of pictures twice.
    dense = [0.06 * i for i in range(10_000)]
    assert shard_sizes(dense, num_workers=16) == [1000] * 10
    assert shard_sizes([0.5 * i for i in range(100)], num_workers=16) == [100]
    assert shard_sizes([0.0] * 5000) == [4096, 904]


def test_comparison_sorts_every_clip_and_row_into_its_kind() -> None:
    clips = [replace(CLIP, clip_id=name) for name in ("ok", "new", "moved", "bad", "gone")]
    planned = plan_clips(clips, contents_of("/v/1.mp4"), encoder_id="e")
    planned[4] = replace(planned[4], problem="no such file")
    key = {one.clip.clip_id: one.clip_key for one in planned}
    stored = [
        (key["ok"], "ok"),
        (key["ok"], "ok"),
        ("old-moved", "moved"),
        (key["moved"], "moved"),
        ("old-bad", "bad"),
        ("old-gone", "gone"),
        ("k", "sold"),
    ]
    found = compare(planned, stored, dead_keys={key["bad"], "unrelated"})
    assert [one.clip.clip_id for one in found.present] == ["ok", "moved"]
    assert [one.clip.clip_id for one in found.missing] == ["new"]
    assert [one.clip.clip_id for one in found.dead] == ["bad"]
    assert [one.clip.clip_id for one in found.unreadable] == ["gone"]
    assert found.stale == {"moved": ("old-moved",), "bad": ("old-bad",)}
    assert found.orphaned == {"k": "sold"}
    assert found.duplicate == {key["ok"]: "ok"}


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(tmp_path, monkeypatch) -> None:
    first, second = tmp_path / "1.mp4", tmp_path / "2.mp4"
    first.write_bytes(b"same" * 1000)
    second.write_bytes(b"same" * 1000)
    missing = str(tmp_path / "3.mp4")
    uris = [str(first), str(second), missing, "ftp://host/4.mp4", str(tmp_path)]
    seen = read_contents(uris, {})
    assert seen[uris[0]].content_hash == seen[uris[1]].content_hash != ""
    assert "FileNotFoundError" in seen[missing].problem
    assert "scheme 'ftp' is not read" in seen["ftp://host/4.mp4"].problem
    assert seen[str(tmp_path)].problem == "not a file"

    first.write_bytes(b"same" * 999 + b"SAME")
    read: list[str] = []
    from indexing.sources import content

    original = content.hash_file
    monkeypatch.setattr(
        content, "hash_file", lambda path: (read.append(str(path)), original(path))[1]
    )
    again = read_contents(uris, seen)
    assert read == [str(first)]
    assert again[uris[0]].content_hash != seen[uris[0]].content_hash
    assert again[uris[1]] == seen[uris[1]]
