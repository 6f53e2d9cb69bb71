"""Videos on a web server and in object storage: found, fetched once, within bounds, and without a secret on any disk."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.ray_session import ray_session
from encoders.clips import Clip, read_clips, write_clips
from encoders.media.errors import DecodeError
from indexing.clipping.cut_video import CutSettings
from indexing.clipping.split_videos import SplitConfig, split_videos
from indexing.ledger.dead_letters import read_dead_letters
from indexing.ledger.ledger import Ledger
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.index_archive import index_archive
from indexing.sources.archive import list_archive
from indexing.sources.content import read_contents
from indexing.sources.fetch_cache import FetchCache, FetchOptions
from indexing.sources.fetch_stage import FetchStage
from indexing.sources.remote import RemoteStamp, stat_remote
from indexing.store.collection import open_collection
from tests.support.remote_server import RemoteServer, serve_folder
from tests.support.small_videos import write_video


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[RemoteServer]:
    (tmp_path / "web").mkdir()
    with serve_folder(tmp_path / "web") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
        yield server


def cache_of(folder: Path, **options) -> FetchCache:
    return FetchCache(FetchOptions(cache_dir=folder, **options))


def test_a_bucket_lists_its_videos_by_folder_and_by_glob(server) -> None:
    for name in ("a.mp4", "deep/b c.webm", "deep/notes.txt"):
        (server.folder / "bucket/top" / name).parent.mkdir(parents=True, exist_ok=True)
        (server.folder / "bucket/top" / name).write_bytes(b"x" * 10)
    clips = list_archive("s3://bucket/top/").clips
    assert [clip.clip_id for clip in clips] == ["a.mp4", "deep/b c.webm"]
    assert clips[1].video_uri == "s3://bucket/top/deep/b c.webm"
    assert [clip.clip_id for clip in list_archive("s3://bucket/top/*.mp4").clips] == ["a.mp4"]
    clip = Clip(clip_id="c", video_uri=str(server.folder / "bucket/top/a.mp4"))
    write_clips(server.folder / "bucket/clips.parquet", [clip])
    table = server.folder / "bucket/clips.parquet"
    assert list_archive("s3://bucket/clips.parquet").clips[0].video_uri == "s3://bucket/top/a.mp4"
    web = list_archive(f"{server.url}/bucket/{table.name}").clips
    assert web[0].video_uri == f"{server.url}/bucket/top/a.mp4"


@pytest.mark.parametrize("kind", ["http", "s3", "http without ranges"])
def test_a_file_comes_whole_over_a_connection_that_breaks(server, tmp_path, kind) -> None:
    data = np.random.default_rng(0).bytes(300_000)
    (server.folder / "b").mkdir()
    (server.folder / "b" / "v.mp4").write_bytes(data)
    uri = "s3://b/v.mp4" if kind == "s3" else f"{server.url}/b/v.mp4"
    stamp = stat_remote(uri)
    assert stamp.size_bytes == len(data)
    assert stamp.version
    server.has_ranges = kind != "http without ranges"
    server.num_breaks = 2
    with cache_of(tmp_path / "cache").local_copy(uri, "hash", stamp) as path:
        assert path.read_bytes() == data
    assert server.num_breaks == 0
    num_requests, first = len(server.requests), path.stat()
    with cache_of(tmp_path / "cache").local_copy(uri, "hash", stamp) as path:
        assert path.read_bytes() == data
        assert path.stat() == first  # who keeps what it read of a file by its time finds it again
    assert len(server.requests) == num_requests
    (server.folder / "b" / "v.mp4").write_bytes(data[::-1])
    with (
        pytest.raises(DecodeError, match=r"fetch_failed: .*changed while it was read"),
        cache_of(tmp_path / "other").local_copy(uri, "hash", stamp),
    ):
        pass


def test_the_cache_keeps_its_bound_and_the_files_in_use(server, tmp_path) -> None:
    for name in "abc":
        (server.folder / name).write_bytes(name.encode() * 400_000)
    cache = cache_of(tmp_path / "cache", cache_gib=0.0009, max_video_gib=0.0005)

    def copy_of(name: str):
        uri = f"{server.url}/{name}"
        return cache.local_copy(uri, name, stat_remote(uri))

    with copy_of("a") as first:
        with copy_of("b") as second:
            pass
        with copy_of("c"):
            assert first.exists()
            assert not second.exists()
    assert not cache.has_room(10**6)
    assert sum(one.stat().st_size for one in (tmp_path / "cache").iterdir()) <= 0.0009 * 2**30
    large = RemoteStamp(size_bytes=10**6, version="v")
    with (
        pytest.raises(DecodeError, match="limit_exceeded"),
        cache.local_copy("s3://b/k", "h", large),
    ):
        pass


def test_a_fetch_worker_tells_what_its_first_seconds_came_to(server, tmp_path, monkeypatch) -> None:
    for name in "abc":
        (server.folder / name).write_bytes(name.encode() * 400_000)
    stage = FetchStage(options=FetchOptions(cache_dir=tmp_path / "cache"))

    def fetched(name: str) -> dict:
        uri = f"{server.url}/{name}"
        stamp = stat_remote(uri)
        row = {"video_uri": uri, "fetch_uri": uri, "content_hash": name}
        (done,) = stage(row | {"size_bytes": stamp.size_bytes, "version": stamp.version})
        return done

    first = fetched("a")
    assert first["fetch_bytes"] == 400_000
    assert first["fetch_ceiling_bytes_per_s"] == 400_000 / first["fetch_busy_s"]
    again = fetched("a")
    assert again["fetch_bytes"] == 0
    assert again["fetch_ceiling_bytes_per_s"] == first["fetch_ceiling_bytes_per_s"]
    monkeypatch.setattr("indexing.sources.fetch_stage.CEILING_S", 0.0)
    assert fetched("b")["fetch_ceiling_bytes_per_s"] == first["fetch_ceiling_bytes_per_s"]


def test_content_of_remote_files_follows_version_or_bytes(server) -> None:
    (server.folder / "a.mp4").write_bytes(b"first")
    uri, missing = f"{server.url}/a.mp4", f"{server.url}/none.mp4?sig=SECRET"
    seen = read_contents(
        [uri, f"{server.url}/none.mp4"], {}, fetch_uris={f"{server.url}/none.mp4": missing}
    )
    problem = seen[f"{server.url}/none.mp4"].problem
    assert "404" in problem
    assert "SECRET" not in problem
    assert read_contents([uri], seen)[uri] == seen[uri]
    (server.folder / "a.mp4").write_bytes(b"other")
    assert read_contents([uri], seen)[uri].content_hash != seen[uri].content_hash
    server.has_versions = False
    by_bytes = read_contents([uri], {})[uri]
    (server.folder / "a.mp4").write_bytes(b"again")
    assert read_contents([uri], {uri: by_bytes})[uri].content_hash != by_bytes.content_hash


def test_a_signed_archive_is_indexed_and_its_secret_is_nowhere(
    server, tmp_path, tiny_bundle, capfd
) -> None:
    for number in range(3):
        write_video(server.folder / f"{number}.mp4", number)
    (server.folder / "3.mp4").write_bytes(b"broken")
    server.needs_signature = "TOP-SECRET"
    clips = [
        Clip(
            clip_id=f"clip-{number}",
            video_uri=f"{server.url.replace('//', '//user:PASSWORD@')}/{number}.mp4?X-Amz-Signature=TOP-SECRET",
        )
        for number in range(5)
    ]
    write_clips(tmp_path / "clips.parquet", clips)
    config = IndexConfig(
        bundle=tiny_bundle,
        clips=str(tmp_path / "clips.parquet"),
        milvus_uri=str(tmp_path / "milvus"),
        run_dir=tmp_path / "run",
        fetch=FetchOptions(cache_dir=tmp_path / "cache"),
    )
    with ray_session(num_cpus=2):
        summary = index_archive(config)
        again = index_archive(replace(config, run_dir=tmp_path / "again"))
    assert (summary.written, summary.dead) == (3, 2)
    assert (again.written, again.skipped, again.dead) == (0, 3, 2)
    reasons = {letter.clip_id: letter.error.reason for letter in read_dead_letters(config.run_dir)}
    assert reasons == {"clip-3": "container_not_allowed", "clip-4": "fetch_failed"}
    assert [one.name for one in summary.speeds] == ["fetch", "decode", "embed", "write"]
    with open_collection(config.milvus_uri, "clips") as collection:
        collection.check(encoder_id=summary.encoder_id)
        uris = {row["video_uri"] for row in collection.rows(("clip_key", "video_uri"))}
    assert uris == {f"{server.url}/{number}.mp4" for number in range(3)}
    uris = [f"{server.url}/{number}.mp4" for number in range(5)]
    with Ledger(config.run_dir, reads_only=True) as ledger:
        assert len(ledger.contents(uris)) == 4
    stored = [tmp_path / "run", tmp_path / "milvus", tmp_path / "again", tmp_path / "cache"]
    for path in (one for folder in stored for one in folder.rglob("*") if one.is_file()):
        assert b"SECRET" not in path.read_bytes(), path
        assert b"PASSWORD" not in path.read_bytes(), path
    shown = capfd.readouterr()
    assert "SECRET" not in shown.out + shown.err


def test_a_bucket_is_indexed_with_the_keys_of_the_environment(
    server, tmp_path, tiny_bundle, monkeypatch
) -> None:
    """Listed in pages, every request signed; the same clips and vectors as of the folder, and of wrong keys nothing."""
    (server.folder / "b" / "top" / "deep").mkdir(parents=True)
    for number, name in enumerate(("0.mp4", "deep/1 é.mp4", "deep/2.mp4", "3.mp4", "4.mp4")):
        write_video(server.folder / "b" / "top" / name, number)
    (server.folder / "b" / "top" / "5.mp4").write_bytes(b"broken" * 9)
    server.s3_secret, server.keys_per_page = "very-secret", 2
    config = IndexConfig(
        bundle=tiny_bundle,
        clips="s3://b/top/",
        milvus_uri=str(tmp_path / "milvus"),
        run_dir=tmp_path / "run",
        fetch=FetchOptions(cache_dir=tmp_path / "cache"),
    )
    local = replace(
        config,
        clips=str(server.folder / "b" / "top"),
        milvus_uri=str(tmp_path / "local"),
        run_dir=tmp_path / "local_run",
    )
    with ray_session(num_cpus=2):
        summary = index_archive(config)
        again = index_archive(config)
        index_archive(local)
    assert (summary.written, summary.dead_by_reason) == (5, {"container_not_allowed": 1})
    assert (again.written, again.skipped, again.dead) == (0, 5, 1)
    assert sum("continuation-token" in request for request in server.requests) >= 2
    expected = vectors_by_clip(local, summary.encoder_id)
    found = vectors_by_clip(config, summary.encoder_id)
    assert found.keys() == expected.keys()
    for clip_id, vector_D in found.items():
        np.testing.assert_allclose(vector_D, expected[clip_id], atol=1e-5)
    stored = b"".join(one.read_bytes() for one in tmp_path.rglob("*.json*") if one.is_file())
    assert b"very-secret" not in stored
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ValueError, match=r"SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY"):
        list_archive("s3://b/top/")


def vectors_by_clip(config: IndexConfig, encoder_id: str) -> dict[str, np.ndarray]:
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=encoder_id)
        return {
            row["clip_id"]: np.asarray(row["embedding"])
            for row in collection.rows(("clip_id", "embedding"))
        }


def test_remote_videos_are_cut_where_they_are_and_named_without_secrets(server, tmp_path) -> None:
    (server.folder / "b").mkdir()
    write_video(server.folder / "b" / "v.mp4", 0, num_frames=75)
    (server.folder / "b" / "broken.mp4").write_bytes(b"\0" * 100)
    config = SplitConfig(
        videos="s3://b/",
        out=tmp_path / "clips.parquet",
        cut=CutSettings(length_s=2.0),
        cache_dir=tmp_path / "cache",
    )
    summary = split_videos(config)
    assert list(summary.problems) == ["s3://b/broken.mp4"]
    found = [(clip.clip_id, clip.video_uri) for clip in read_clips(config.out)]
    assert found == [
        ("v.mp4@0.000-2.000", "s3://b/v.mp4"),
        ("v.mp4@2.000-3.000", "s3://b/v.mp4"),
    ]
    num_requests = len(server.requests)
    assert split_videos(config).num_cut_now == 1  # the broken one is tried again
    assert not [one for one in server.requests[num_requests:] if "v.mp4" in one and "GET" in one]
    written = b"".join(path.read_bytes() for path in tmp_path.glob("clips.*"))
    assert b"very-secret" not in written
