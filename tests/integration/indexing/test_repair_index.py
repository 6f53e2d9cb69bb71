"""What goes wrong with a collection is found, named and mended: lost, doubled, outdated and foreign rows, and dead letters."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

from cluster.ray_session import ray_session
from encoders.bundle.card import read_card
from encoders.clips import Clip, write_clips
from encoders.stages.base import ClipError
from encoders.stages.embed_stage import CheckedEmbedStage
from indexing.ledger.dead_letters import DEAD_LETTERS
from indexing.ledger.ledger import Ledger, Outcome
from indexing.pipeline import index_archive as index_module
from indexing.pipeline import stream
from indexing.pipeline.config import IndexConfig, read_config
from indexing.pipeline.decode_stage import ArchiveVectorStage
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.recompute import VectorMismatchError
from indexing.pipeline.workers import WorkerOptions
from indexing.sources.content import hash_file
from indexing.sources.fetch_cache import FetchOptions
from indexing.store.collection import open_collection
from indexing.store.rows import clip_key
from indexing.store.schema import stored_row
from tests.support.remote_server import serve_folder
from tests.support.small_videos import write_video
from tfcovr import run_command

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
NUM_VIDEOS = 6


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_bundle) -> IndexConfig:
    folder = tmp_path_factory.mktemp("repair")
    (folder / "videos").mkdir()
    for number in range(NUM_VIDEOS):
        write_video(folder / "videos" / f"{number}.mp4", number)
    (folder / "videos" / "text.mp4").write_text("no video")
    config = IndexConfig(
        bundle=tiny_bundle,
        clips=str(folder / "videos"),
        milvus_uri=str(folder / "milvus"),
        run_dir=folder / "run",
    )
    summary = index_archive(config)
    assert (summary.written, summary.dead_by_reason) == (NUM_VIDEOS, {"container_not_allowed": 1})
    shares = {one.name: one.share for one in summary.speeds}
    assert list(shares) == ["decode", "embed", "write"]
    assert all(share > 0 for share in shares.values())
    assert "speed of light: " in "\n".join(summary.lines())
    assert f"bottleneck {summary.bottleneck.replace('embed', 'encode')}" in summary.speed_of_light
    return config


def verify_arguments(config: IndexConfig) -> list[str]:
    arguments = ["--bundle", str(config.bundle), "--clips", config.clips]
    return [*arguments, "--milvus-uri", config.milvus_uri, "--run-dir", str(config.run_dir)]


def run_verify(config: IndexConfig, *extra: str) -> int:
    return run_command("verify", [*verify_arguments(config), "--json", *extra])


def vectors(config: IndexConfig) -> dict[str, np.ndarray]:
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=read_card(config.bundle).encoder_id)
        rows = list(collection.rows(("clip_key", "embedding")))
    assert len({row["clip_key"] for row in rows}) == len(rows)
    return {row["clip_key"]: np.asarray(row["embedding"]) for row in rows}


def test_repair_mends_exactly_what_is_wrong(config, capsys) -> None:
    before = vectors(config)
    lost, doubled, *_ = sorted(before)
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=read_card(config.bundle).encoder_id)
        (row,) = collection.rows_of_keys([doubled])
        collection.upsert([row | {"clip_key": "old", "video_uri": "/former"}])
        collection.upsert([row | {"clip_key": "foreign", "clip_id": "sold.mp4"}])
        collection.delete([lost])
        collection.flush()
    capsys.readouterr()
    assert run_verify(config) == 1
    found = json.loads(capsys.readouterr().out)
    assert [found[kind] for kind in ("missing", "duplicate", "stale", "orphaned")] == [1, 0, 1, 1]
    assert run_verify(config, "--repair") == 0
    assert json.loads(capsys.readouterr().out)["is_right"]
    after = vectors(config)
    assert after.keys() == before.keys()
    assert max(float(np.abs(after[key] - before[key]).max()) for key in before) < 1e-5


def test_retry_takes_only_dead_letters_of_its_reason(config, capsys) -> None:
    card = read_card(config.bundle)
    path = Path(config.clips) / "0.mp4"
    key = clip_key(card.encoder_id, "0.mp4", hash_file(path), 0.0, None)
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=card.encoder_id)
        collection.delete([key])
        collection.flush()
    timeout = ClipError(stage="decode", reason="decode_timeout", detail="nothing came")
    with Ledger(config.run_dir) as ledger:
        ledger.record([Outcome(clip_key=key, clip_id="0.mp4", video_uri=str(path), error=timeout)])
    assert index_archive(config).dead_by_reason == {"container_not_allowed": 1, "decode_timeout": 1}
    arguments = ["--run-dir", str(config.run_dir), "--reason"]
    assert run_command("retry", [*arguments, "codec_unsupported"]) == 1
    assert key not in vectors(config)
    assert run_command("retry", [*arguments, "decode_timeout"]) == 1
    assert "dead: 1 x container_not_allowed" in capsys.readouterr().out
    assert key in vectors(config)
    with pytest.raises(ValueError, match=r"reason 'tired' is unknown; choose of all, codec_"):
        run_command("retry", [*arguments, "tired"])


def test_a_dead_letter_that_came_alive_is_dead_no_more(config) -> None:
    """`tfcovr retry` was killed between Milvus and the ledger; lost later, the clip must be missing and not dead."""
    key = sorted(vectors(config))[0]
    timeout = ClipError(stage="decode", reason="decode_timeout", detail="")
    with Ledger(config.run_dir) as ledger:
        (known,) = [outcome for outcome in ledger.outcomes() if outcome.clip_key == key]
        ledger.record([replace(known, error=timeout)])
    assert index_archive(config).refreshed == 1
    with Ledger(config.run_dir) as ledger:
        assert ledger.outcome(known.clip_id, key) == known


def test_rows_that_go_while_a_run_goes_on_are_told_at_its_end(config, monkeypatch, capsys) -> None:
    before = vectors(config)
    lost = sorted(before)[:2]
    real = stream.Flow.stream

    def losing(self, pending):
        yield from real(self, pending)
        self.collection.delete(lost)

    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.delete([lost[0]])
        collection.flush()
    monkeypatch.setattr(stream.Flow, "stream", losing)
    assert run_command("index", verify_arguments(config)) == 1
    assert "missing: 2 clips have no row and no reason why; run the same" in capsys.readouterr().out
    monkeypatch.undo()
    assert run_command("index", verify_arguments(config)) == 1  # one is dead
    assert vectors(config).keys() == before.keys()


def test_a_video_that_cannot_be_read_is_unread_until_a_run_has_said_why(
    tmp_path, tiny_bundle, capsys
) -> None:
    clips = [Clip(clip_id=f"{n}", video_uri=str(tmp_path / f"{n}.mp4")) for n in range(3)]
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", number)
    write_clips(tmp_path / "clips.parquet", clips)
    config = IndexConfig(
        bundle=tiny_bundle,
        clips=str(tmp_path / "clips.parquet"),
        milvus_uri=str(tmp_path / "milvus"),
        run_dir=tmp_path / "run",
    )
    assert index_archive(config).written == 3
    capsys.readouterr()
    (tmp_path / "0.mp4").rename(tmp_path / "away.mp4")
    assert run_verify(config) == 1
    assert run_verify(config, "--repair") == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["is_right"], one["unread"], one["clips"]["unread"]) for one in found] == [(False, 1, ["0"])] * 2  # fmt: skip
    assert run_command("verify", verify_arguments(config)) == 1
    assert "unread: FileNotFoundError" in capsys.readouterr().out
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=read_card(config.bundle).encoder_id)
        (row,) = (row for row in collection.rows() if row["clip_id"] == "1")
        collection.delete([row["clip_key"]])
        collection.flush()
    assert run_verify(config, "--repair") == 1  # mends the one, and says nothing of the other
    found = json.loads(capsys.readouterr().out)
    assert (found["present"], found["missing"], found["clips"]["unread"]) == (2, 0, ["0"])
    (config.run_dir / DEAD_LETTERS).unlink()
    assert run_verify(config) == 1
    assert index_archive(config).dead_by_reason == {"fetch_failed": 1}
    assert run_verify(config) == 0


def test_a_doubled_row_is_found_where_queries_show_one_and_mended_as_it_was_made(
    milvus_server, tmp_path, tiny_bundle, capsys
) -> None:
    """Milvus Lite keeps one row of a key; a server keeps both, and gives one of them to whoever asks."""
    (tmp_path / "videos").mkdir()
    for number in range(3):
        write_video(tmp_path / "videos" / f"{number}.mp4", number)
    config = IndexConfig(
        bundle=tiny_bundle,
        clips=str(tmp_path / "videos"),
        milvus_uri=milvus_server,
        collection="doubled",
        run_dir=tmp_path / "run",
        decode_deadline_s=77,
        index="flat",
        workers=WorkerOptions(num_decode_workers=1),
    )
    assert index_archive(config).written == 3
    before = vectors(config)
    key = sorted(before)[1]
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=read_card(config.bundle).encoder_id)
        (row,) = collection.rows_of_keys([key])
        collection.pymilvus.insert(collection.name, [stored_row(row, "float32")])
        collection.flush()
        assert (len(list(collection.rows())), collection.count()) == (3, 4)
    capsys.readouterr()
    arguments = ["--collection", config.collection]
    assert run_verify(config, *arguments) == 1
    assert json.loads(capsys.readouterr().out)["clips"]["duplicate"] == [key]
    assert run_verify(config, *arguments, "--repair") == 0
    after = vectors(config)
    assert after.keys() == before.keys()
    assert max(float(np.abs(after[one] - before[one]).max()) for one in before) < 1e-5
    kept = read_config(config.run_dir)
    assert (kept.decode_deadline_s, kept.index, kept.workers) == (77, "flat", config.workers)
    with open_collection(config.milvus_uri, config.collection) as collection:
        assert collection.count() == 3
        collection.drop()


def test_dead_letters_are_tried_again_from_where_their_videos_are_now(
    tmp_path, tiny_bundle
) -> None:
    """As under a fresh signature: a run folder keeps none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "0.mp4", 0)
    with serve_folder(folder) as server:
        server.needs_signature = "FRESH"
        tables = {}
        for signature in ("STALE", "FRESH"):
            uri = f"{server.url}/0.mp4?X-Amz-Signature={signature}"
            tables[signature] = tmp_path / f"{signature}.parquet"
            write_clips(tables[signature], [Clip(clip_id="c", video_uri=uri)])
        config = IndexConfig(
            bundle=tiny_bundle,
            clips=str(tables["STALE"]),
            milvus_uri=str(tmp_path / "milvus"),
            run_dir=tmp_path / "run",
            fetch=FetchOptions(cache_dir=tmp_path / "cache"),
        )
        assert index_archive(config).dead_by_reason == {"fetch_failed": 1}
        arguments = ["--run-dir", str(config.run_dir), "--reason", "fetch_failed"]
        assert run_command("retry", [*arguments, "--clips", str(tables["FRESH"])]) == 0
        assert len(vectors(config)) == 1


class MixedUpEmbedStage(CheckedEmbedStage):
    """Gives every row the vector of the row before it."""

    _last_D: np.ndarray | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = super().__call__(batch)
        mixed_ND = batch["embedding"].copy()
        for i, (vector_D, error) in enumerate(zip(batch["embedding"], batch["error"], strict=True)):
            if not error["reason"]:
                mixed_ND[i] = vector_D if self._last_D is None else self._last_D
                self._last_D = vector_D
        return batch | {"embedding": mixed_ND}


class MixedUpVectorStage(ArchiveVectorStage):
    """The same where decoding and encoding are one stage."""

    _last_D: np.ndarray | None = None

    def __call__(self, videos: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in super().__call__(videos):
            if row["error"]["reason"]:
                yield row
                continue
            last_D, self._last_D = self._last_D, row["embedding"]
            yield row if last_D is None else row | {"embedding": last_D}


class SwappedVideosStage(ArchiveVectorStage):
    """Decodes the first two videos in each other's place."""

    def clips(self, video: str, clip_rows: Any, **others: Any) -> Iterator[dict[str, Any]]:
        path = Path(video)
        other = {"0.mp4": "1.mp4", "1.mp4": "0.mp4"}.get(path.name, path.name)
        return super().clips(str(path.with_name(other)), clip_rows, **others)


def planted(monkeypatch, factories: dict[str, type]) -> list[str]:
    """Put other stages into the next run, though not into its recomputation; the names of those that were."""
    names: list[str] = []
    vector_stages = stream.vector_stages

    def with_factories(*arguments, **keywords):
        stages = vector_stages(*arguments, **keywords)
        names.extend(stage.name for stage in stages if stage.name in factories)
        return [replace(one, factory=factories.get(one.name, one.factory)) for one in stages]

    monkeypatch.setattr(stream, "vector_stages", with_factories)
    return names


@pytest.mark.parametrize(
    ("share_device", "factories", "num_wrong"),
    [
        ("on", {"decode_embed": MixedUpVectorStage}, 3),
        ("off", {"embed": MixedUpEmbedStage}, 3),
        ("on", {"decode_embed": SwappedVideosStage}, 2),
    ],
)
def test_mixed_up_vectors_end_the_run_with_the_clips_named_and_leave_nothing(
    config, tmp_path, monkeypatch, share_device, factories, num_wrong
) -> None:
    other = replace(
        config,
        run_dir=tmp_path / "run",
        milvus_uri=str(tmp_path / "milvus"),
        workers=WorkerOptions(share_device=share_device),
        batch_size=8,
    )
    names = planted(monkeypatch, factories)
    with pytest.raises(VectorMismatchError, match="stored vectors are not those of their") as error:
        index_archive(other)
    assert names == list(factories)
    named = {f"{n}.mp4" for n in range(NUM_VIDEOS) if f"{n}.mp4 (" in str(error.value)}
    assert len(named) >= num_wrong  # a worker's first row has its own vector
    assert num_wrong > 2 or named == {"0.mp4", "1.mp4"}
    assert vectors(other) == {}
    monkeypatch.undo()
    summary = index_archive(other)
    assert summary.written == NUM_VIDEOS
    assert summary.recomputed.startswith(f"recomputed {NUM_VIDEOS} clips: lowest cosine")
    same = vectors(config)
    assert all(np.abs(vector - same[key]).max() < 1e-5 for key, vector in vectors(other).items())


def test_a_run_that_ended_before_its_vectors_were_compared_is_compared_by_the_next(
    config, tmp_path, monkeypatch
) -> None:
    other = replace(config, run_dir=tmp_path / "run", milvus_uri=str(tmp_path / "milvus"))

    def interrupt(*_arguments, **_keywords):
        raise KeyboardInterrupt

    planted(monkeypatch, {"decode_embed": SwappedVideosStage})
    monkeypatch.setattr(index_module, "recompute_clips", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index_archive(other)
    assert len(vectors(other)) == NUM_VIDEOS
    with Ledger(other.run_dir, reads_only=True) as ledger:
        assert ledger.has_unchecked()
    monkeypatch.undo()
    with pytest.raises(VectorMismatchError, match=r"2 stored vectors .* 0\.mp4 .*1\.mp4"):
        index_archive(other)
    assert vectors(other) == {}
    assert index_archive(other).written == NUM_VIDEOS
    with Ledger(other.run_dir, reads_only=True) as ledger:
        assert not ledger.has_unchecked()


def test_a_damaged_vector_is_named_by_verify_and_made_again_by_its_repair(config, capsys) -> None:
    before = vectors(config)
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=read_card(config.bundle).encoder_id)
        (row,) = collection.rows_of_clips(["3.mp4"])
        collection.upsert([row | {"embedding": list(np.roll(row["embedding"], 1))}])
        collection.flush()
    assert run_verify(config) == 0  # keys alone do not tell
    capsys.readouterr()
    assert run_verify(config, "--recompute", "100") == 1
    assert json.loads(capsys.readouterr().out)["clips"]["wrong"] == ["3.mp4"]
    assert run_verify(config, "--recompute", "100", "--repair") == 0
    after = vectors(config)
    assert after.keys() == before.keys()
    assert max(float(np.abs(after[key] - before[key]).max()) for key in before) < 1e-5
