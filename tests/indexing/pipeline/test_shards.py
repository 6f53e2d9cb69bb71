from pathlib import Path

import pyarrow.parquet as pq

from encoders.clips import Clip
from indexing.ledger.planned_clip import plan_clips
from indexing.pipeline.shards import make_shards, write_work
from indexing.sources.content import Content, read_contents
from indexing.store.rows import clip_key


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


def test_blocks_on_disk_hold_the_shards_and_get_smaller_towards_the_end(tmp_path: Path) -> None:
    clips = [
        Clip(
            clip_id=f"{v:05}-{i}",
            video_uri=f"https://h/{v:05}.mp4",
            start_s=i,
            end_s=i + 1,
            label="x",
        )
        for v in range(3000)
        for i in range(4)
    ]
    contents = contents_of(*{clip.video_uri for clip in clips})
    planned = plan_clips(clips, contents, encoder_id="e")
    secret = {"https://h/00007.mp4": "https://h/00007.mp4?token=SECRET"}
    work = write_work(tmp_path, iter(planned), secret, num_clips=len(planned), num_workers=2)
    assert (work.num_clips, work.num_shards, work.num_remote) == (12_000, 3000, 3000)
    tables = [pq.read_table(block.path) for block in work.blocks]
    read = [row for table in tables for row in table.to_pylist()]
    expected = make_shards(planned, num_workers=2)
    assert read == expected
    assert b"SECRET" not in b"".join(block.path.read_bytes() for block in work.blocks)
    (opened,) = [b for b in work.blocks if b.columns]
    assert opened.columns["fetch_uri"][7] == secret["https://h/00007.mp4"]
    sizes = [sum(len(ids) for ids in table["clip_ids"].to_pylist()) for table in tables]
    assert max(sizes) == 512
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 4


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
