"""Good and bad files in one folder: every good clip gets in, every bad file its own reason, reruns do what changed."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from cluster.ray_session import RaySession, ray_session
from encoders.backends.registry import open_backend
from encoders.bundle.canaries import CANARY_FILE, read_canaries, write_canaries
from encoders.bundle.card import BundleMismatchError, read_card, with_bundle_id, write_card
from encoders.clips import Clip, write_clips
from encoders.files import hash_file
from indexing.ledger.dead_letters import read_dead_letters
from indexing.ledger.summary import IndexSummary
from indexing.pipeline import index_archive as index_module
from indexing.pipeline import stream
from indexing.pipeline.config import IndexConfig, VerifyConfig
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.verify import verify_archive
from indexing.pipeline.workers import WorkerOptions
from indexing.search.client import SearchClient
from indexing.search.types import ComposedQuery
from indexing.store.collection import EncoderMismatchError, open_collection
from tfcovr import run_command

NUM_GOOD = 5


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with ray_session(num_cpus=2):
        yield
    after = {process.pid for process in psutil.Process().children(recursive=True)}
    assert after <= before


def write_video(path: Path, seed: int, *, num_frames: int = 20) -> Path:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for turn in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * turn, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(np.zeros(1024, np.float32).tobytes())
        frame.sample_rate = 16000
        for number in range(10):
            frame.pts = number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in range(NUM_GOOD):
        write_video(folder / f"good-{number}.mp4", number)
    whole = write_video(folder / "truncated.mp4", 99, num_frames=50).read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("these are words\n" * 100)
    write_sound(folder / "sound.mp4")
    write_video(folder / "one-frame.mp4", 98, num_frames=1)
    return folder


@pytest.fixture(scope="module")
def config(archive, tiny_bundle, tmp_path_factory) -> IndexConfig:
    folder = tmp_path_factory.mktemp("index")
    return IndexConfig(
        bundle=tiny_bundle,
        clips=str(archive),
        milvus_uri=str(folder / "milvus"),
        run_dir=folder / "run",
        workers=WorkerOptions(decode="pyav", device="cpu"),
    )


@pytest.fixture(scope="module")
def first_run(config) -> IndexSummary:
    return index_archive(config)


def stored_rows(config: IndexConfig, encoder_id: str) -> dict[str, str]:
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=encoder_id)
        rows = [(row["clip_id"], row["clip_key"]) for row in collection.rows()]
    assert len(rows) == len(dict(rows))
    return dict(rows)


def verified(config: IndexConfig) -> int:
    arguments = ["--bundle", str(config.bundle), "--clips", config.clips]
    return run_command(
        "verify", [*arguments, "--milvus-uri", config.milvus_uri, "--run-dir", str(config.run_dir)]
    )


def test_every_good_file_is_in_and_every_bad_one_has_its_reason(config, first_run) -> None:
    good = {f"good-{number}.mp4" for number in range(NUM_GOOD)}
    assert stored_rows(config, first_run.encoder_id).keys() == good
    assert (first_run.clips_in, first_run.written, first_run.dead) == (NUM_GOOD + 5, NUM_GOOD, 5)
    letters = read_dead_letters(config.run_dir)
    assert {letter.clip_id: letter.error.reason for letter in letters} == {
        "truncated.mp4": "corrupt_container",
        "empty.mp4": "empty_file",
        "text.mp4": "container_not_allowed",
        "sound.mp4": "no_video_stream",
        "one-frame.mp4": "too_short",
    }
    assert all(letter.error.detail and letter.error.stage == "decode" for letter in letters)
    assert first_run.embed_backends == {"onnx": NUM_GOOD}
    assert first_run.decode_backends == {"pyav": NUM_GOOD}
    assert first_run.canary_min_cosine is not None
    assert first_run.canary_min_cosine > 0.9999
    assert verified(config) == 0


def test_changes_and_only_changes_are_worked_on(config, archive, first_run, capsys) -> None:
    before = stored_rows(config, first_run.encoder_id)
    again = index_archive(config)
    assert (again.written, again.skipped, again.dead, again.seconds) == (0, NUM_GOOD, 5, 0.0)

    write_video(archive / "good-0.mp4", 1000)  # new content
    shutil.copy(archive / "good-1.mp4", archive / "copy.mp4")  # the same content twice
    write_video(archive / "one-frame.mp4", 98)  # mended
    (archive / "good-2.mp4").write_text("spoiled")  # a good one goes bad
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=first_run.encoder_id)
        collection.delete([before["good-3.mp4"]])  # a row is lost
    capsys.readouterr()
    assert verified(config) == 1
    assert "5 missing, 0 duplicate, 2 stale, 0 orphaned" in capsys.readouterr().out
    changed = index_archive(config)
    assert (changed.written, changed.deleted, changed.dead) == (4, 2, 5)
    after = stored_rows(config, first_run.encoder_id)
    assert after.keys() == (before.keys() - {"good-2.mp4"}) | {"copy.mp4", "one-frame.mp4"}
    same = {name for name in before if after.get(name) == before[name]}
    assert same == {"good-1.mp4", "good-3.mp4", "good-4.mp4"}
    assert verified(config) == 0

    (archive / "copy.mp4").unlink()  # the archive loses a clip
    assert verified(config) == 1
    assert "1 orphaned" in capsys.readouterr().out


def test_only_what_changed_since_is_looked_at(config, archive, first_run) -> None:
    index_archive(config)
    before = stored_rows(config, first_run.encoder_id)
    letters = read_dead_letters(config.run_dir)
    time.sleep(0.05)
    since = datetime.now(UTC).isoformat()
    time.sleep(0.05)
    write_video(archive / "late.mp4", 77)
    (archive / "good-4.mp4").touch()
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=first_run.encoder_id)
        collection.delete([before["good-3.mp4"]])
    summary = index_archive(replace(config, since=since))
    assert (summary.clips_in, summary.written, summary.skipped, summary.dead) == (2, 1, 1, 0)
    after = stored_rows(config, first_run.encoder_id)
    assert after.keys() == before.keys() - {"good-3.mp4"} | {"late.mp4"}
    assert read_dead_letters(config.run_dir) == letters != []
    assert index_archive(config).written == 1
    assert verified(config) == 1  # of a clip that the archive lost
    (archive / "late.mp4").unlink()
    with pytest.raises(ValueError, match="since is '1h' and prune is asked for"):
        replace(config, since="1h", prune=True)


def test_a_rerun_of_an_unchanged_archive_plans_nothing_until_somebody_changes_its_rows(
    config, archive, first_run, tmp_path, monkeypatch
) -> None:
    seen = index_archive(config)
    plan = Mock(side_effect=RuntimeError("planned"))
    monkeypatch.setattr(index_module, "plan_archive", plan)
    again = index_archive(config)
    assert (again.written, again.skipped, again.seconds) == (0, seen.skipped + seen.written, 0.0)
    assert (again.clips_in, again.dead, again.dead_by_reason) == (seen.clips_in, seen.dead, seen.dead_by_reason)  # fmt: skip
    for changed in (replace(config, prune=True, max_delete_share=1.0), replace(config, retry=("all",)), replace(config, moved=True)):  # fmt: skip
        with pytest.raises(RuntimeError, match="planned"):
            index_archive(changed)
    (archive / "good-0.mp4").touch()
    with pytest.raises(RuntimeError, match="planned"):
        index_archive(config)
    monkeypatch.undo()
    index_archive(config)
    index_archive(replace(config, run_dir=tmp_path / "other"))  # writes nothing, and might have
    monkeypatch.setattr(index_module, "plan_archive", plan)
    with pytest.raises(RuntimeError, match="planned"):
        index_archive(config)


def test_rows_that_another_run_folder_wrote_are_compared_with_the_table(
    config, archive, first_run, tmp_path
) -> None:
    def labelled(label: str) -> str:
        clips = [Clip(clip_id="good-1.mp4", video_uri=str(archive / "good-1.mp4"), label=label)]
        write_clips(tmp_path / "clips.parquet", clips)
        return str(tmp_path / "clips.parquet")

    def stored_label() -> str:
        with open_collection(config.milvus_uri, collection) as opened:
            opened.check(encoder_id=read_card(config.bundle).encoder_id)
            (row,) = opened.rows_of_clips(["good-1.mp4"])
        return row["label"]

    def outdated(run_dir: Path, *, read_all: bool = False) -> int:
        given = VerifyConfig(
            bundle=config.bundle, clips=mine.clips, milvus_uri=config.milvus_uri,
            collection=collection, run_dir=run_dir, read_all=read_all,
        )  # fmt: skip
        return verify_archive(given).faults["outdated"].count

    collection = "two_folders"
    mine = replace(config, collection=collection, clips=labelled("103b"), run_dir=tmp_path / "one")
    index_archive(mine)
    labelled("other")
    assert outdated(tmp_path / "never") == 1  # a folder that knows nothing
    index_archive(replace(mine, run_dir=tmp_path / "two"))
    assert stored_label() == "other"
    labelled("103b")
    assert outdated(tmp_path / "one") == 1
    index_archive(mine)
    assert stored_label() == "103b"
    assert outdated(tmp_path / "one") == 0
    with open_collection(config.milvus_uri, collection) as opened:
        opened.check(encoder_id=read_card(config.bundle).encoder_id)
        (row,) = opened.rows_of_clips(["good-1.mp4"])
        (whole,) = opened.rows_of_keys([row["clip_key"]])
        opened.upsert([whole | {"label": "by hand"}])
    assert (outdated(tmp_path / "one"), outdated(tmp_path / "one", read_all=True)) == (0, 1)


def test_labels_follow_without_a_new_vector(config, archive, first_run, tmp_path) -> None:
    videos = [archive / "good-1.mp4", archive / "good-4.mp4"]

    def clips(label: str) -> str:
        listed = [
            Clip(clip_id=path.name, video_uri=str(path), label=label, attributes={"twists": "1"})
            for path in videos
        ]
        write_clips(tmp_path / "clips.parquet", listed)
        return str(tmp_path / "clips.parquet")

    labelled = replace(config, clips=clips("5253b"), moved=True)
    assert index_archive(labelled).refreshed == 2
    summary = index_archive(replace(labelled, clips=clips("301c")))
    assert (summary.refreshed, summary.written, summary.seconds) == (2, 0, 0.0)
    with SearchClient(config.milvus_uri, config.collection, config.bundle) as client:
        result = client.search(clip="good-1.mp4", limit=50)
        by_file = client.search(clip=str(archive / "good-1.mp4"), limit=50)
    assert result.query.label == "301c"
    assert {hit.label for hit in result.hits if hit.clip_id == "good-4.mp4"} == {"301c"}
    assert "good-1.mp4" not in {hit.clip_id for hit in (*result.hits, *by_file.hits)}
    for one, other in zip(result.hits, by_file.hits, strict=True):
        assert one.clip_id == other.clip_id
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_composed_query_equals_exact_search_in_numpy(config, first_run) -> None:
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=first_run.encoder_id)
        rows = list(collection.rows(("clip_id", "embedding")))
    ids = [row["clip_id"] for row in rows]
    vectors_ND = np.array([row["embedding"] for row in rows], np.float32)
    query = ids.index("good-3.mp4")
    encoder = open_backend(config.bundle, "torch")
    query_D = encoder.embed_queries(vectors_ND[[query]], ["with two and a half twists"])[0]
    cosines = vectors_ND @ query_D
    best = sorted((float(cosine) for i, cosine in enumerate(cosines) if i != query), reverse=True)
    with SearchClient(config.milvus_uri, config.collection, config.bundle) as client:
        plain = client.search(clip="good-3.mp4", limit=3)
        composed = client.search(clip="good-3.mp4", edit="with 2.5 twists", limit=3)
        unexplained, kept = client.search_many(
            [
                ComposedQuery(clip="good-3.mp4", edits=("with 2.5 twists",), limit=3, explain=False, **wish)
                for wish in ({}, {"keep": "in tuck"})
            ]
        )  # fmt: skip
        with pytest.raises(ValueError, match=r"'dive-9' is neither a clip id .* nor a video file"):
            client.search(clip="dive-9")
        with pytest.raises(ValueError, match="empty_file"):
            client.search(clip=str(Path(config.clips) / "empty.mp4"))
    assert composed.backend_used == "onnx"
    # By score: copy.mp4 and good-1.mp4 are the same video, and either may come first.
    in_search_order = [float(cosines[ids.index(hit.clip_id)]) for hit in composed.hits]
    assert in_search_order == pytest.approx(best[:3], abs=1e-6)
    assert len({hit.clip_id for hit in composed.hits} - {"good-3.mp4"}) == 3
    for hit in composed.hits:
        assert hit.score == pytest.approx(float(cosines[ids.index(hit.clip_id)]), abs=1e-4)
    assert [hit.score for hit in plain.hits] != [hit.score for hit in composed.hits]
    assert any(hit.from_edit for hit in composed.hits)
    for one, other in zip(unexplained.hits, composed.hits, strict=True):
        assert (one.clip_id, one.start_s, one.label) == (other.clip_id, other.start_s, other.label)
        assert one.score == pytest.approx(other.score, abs=1e-5)
    assert not any(hit.from_edit or hit.predicted for hit in (*unexplained.hits, *kept.hits))


def test_the_command_answers_in_json_and_as_film_strips(
    config, first_run, tmp_path, capsys
) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["--bundle", str(config.bundle), "--milvus-uri", config.milvus_uri]
    arguments += [
        "--clip",
        f"{config.clips}/good-4.mp4@0.1-0.6",
        "--edit",
        "in tuck",
        "--limit",
        "2",
    ]
    assert run_command("search", [*arguments, "--json", "--sheet", str(sheet)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["query"]["end_s"] == 0.6
    assert len(answer["hits"]) == 2
    picture = Image.open(sheet)
    assert picture.height > 3 * 100
    assert len(set(picture.convert("L").tobytes())) > 20
    assert run_command("search", arguments) == 0
    assert answer["hits"][0]["clip_id"][:6] in capsys.readouterr().out


def test_another_encoder_and_a_bundle_that_is_not_itself_are_refused(
    config, first_run, other_bundle, tmp_path
) -> None:
    with pytest.raises(EncoderMismatchError, match=first_run.encoder_id):
        index_archive(replace(config, bundle=other_bundle))
    with pytest.raises(EncoderMismatchError, match=first_run.encoder_id):
        SearchClient(config.milvus_uri, config.collection, other_bundle)
    broken = shutil.copytree(config.bundle, tmp_path / "broken")
    frames_NTHWC, vectors_ND = read_canaries(broken)
    write_canaries(broken / CANARY_FILE, frames_NTHWC, np.roll(vectors_ND, 1, axis=1))
    card = read_card(broken)
    files = dict(card.files) | {CANARY_FILE: hash_file(broken / CANARY_FILE)}
    write_card(broken, with_bundle_id(replace(card, files=files)))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", 1)
    wrong = replace(
        config,
        bundle=broken,
        clips=str(tmp_path / "videos"),
        run_dir=tmp_path / "run",
        milvus_uri=str(tmp_path / "milvus"),
    )
    with pytest.raises(BundleMismatchError, match="canary clips come back with cosine"):
        index_archive(wrong)


def test_storage_of_one_node_is_refused_when_there_are_two(config, tmp_path, monkeypatch) -> None:
    @contextmanager
    def two_nodes() -> Iterator[RaySession]:
        yield RaySession(num_nodes=2, num_cpus=4, num_gpus=0, started_here=False, address="")

    monkeypatch.setattr(stream, "ray_session", two_nodes)
    fresh = replace(config, run_dir=tmp_path / "run", milvus_uri=str(tmp_path / "milvus"))
    with pytest.raises(ValueError, match=r"Milvus URI .*milvus.* 2 nodes.*http://HOST:19530"):
        index_archive(fresh)
    with pytest.raises(ValueError, match=r"run folder .*run"):
        index_archive(replace(fresh, milvus_uri="http://milvus.internal:19530"))
