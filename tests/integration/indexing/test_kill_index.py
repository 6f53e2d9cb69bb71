"""SIGKILL to the indexing driver alone, then to its whole process group; the third run completes the same collection."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil

from encoders.backends import open_backend
from encoders.card import read_card
from encoders.clips import Clip, read_clips, write_clips
from encoders.decode import Span, decode_clips
from indexing import verify
from indexing.content import hash_file
from indexing.milvus import open_collection
from indexing.plan import clip_key

NUM_VIDEOS, CLIPS_PER_VIDEO = 60, 4


def write_archive(folder: Path) -> Path:
    folder.mkdir()
    clips = []
    for number in range(NUM_VIDEOS):
        rng = np.random.default_rng(number)
        path = folder / f"{number:02d}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width = stream.height = 48
            stream.pix_fmt = "yuv420p"
            picture = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            for turn in range(6 * CLIPS_PER_VIDEO):
                frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * turn, 1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        clips += [
            Clip(
                clip_id=f"{number:02d}-{i}",
                video_uri=str(path),
                start_s=i * 0.24,
                end_s=(i + 1) * 0.24,
            )
            for i in range(CLIPS_PER_VIDEO)
        ]
    write_clips(folder / "clips.parquet", clips)
    return folder / "clips.parquet"


def expected_vectors(bundle_dir: Path, clips_path: Path) -> dict[str, np.ndarray]:
    """Key -> vector, computed here without Ray, Milvus or a ledger."""
    card, encoder = read_card(bundle_dir), open_backend(bundle_dir, "onnx")
    vectors = {}
    for clip in read_clips(clips_path):
        span = Span(start_s=clip.start_s, end_s=clip.end_s)
        frames_NTHWC = decode_clips(clip.video_uri, [span], card.sampling).frames_NTHWC
        content_hash = hash_file(clip.video_uri)
        key = clip_key(card.encoder_id, clip.clip_id, content_hash, clip.start_s, clip.end_s)
        vectors[key] = encoder.embed_clips(frames_NTHWC)[0]
    return vectors


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "indexing.pipeline", *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def num_recorded(run_dir: Path) -> int:
    path = run_dir / "ledger" / "outcomes.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until_more_is_recorded(driver: subprocess.Popen, run_dir: Path, log: Path) -> None:
    before, deadline = num_recorded(run_dir), time.monotonic() + 120
    while num_recorded(run_dir) <= before:
        assert driver.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)


def test_a_killed_run_goes_on_and_ends_with_the_same_collection(tmp_path, tiny_bundle) -> None:
    clips_path, run_dir, log = (
        write_archive(tmp_path / "videos"),
        tmp_path / "run",
        tmp_path / "log",
    )
    uri = str(tmp_path / "milvus")
    arguments = ["--bundle-dir", str(tiny_bundle), "--clips", str(clips_path)]
    arguments += ["--milvus-uri", uri, "--run-dir", str(run_dir)]
    family: set[psutil.Process] = set()
    counts = []
    drivers = []
    try:
        for kill_group in (False, True):
            driver = start([*arguments, "--batch-size", "1"], log)
            drivers.append(driver)
            wait_until_more_is_recorded(driver, run_dir, log)
            family |= set(psutil.Process(driver.pid).children(recursive=True))
            if kill_group:
                os.killpg(driver.pid, signal.SIGKILL)
            else:
                driver.kill()
            driver.wait()
            counts.append(num_recorded(run_dir))
        assert 0 < counts[0] < counts[1] < NUM_VIDEOS * CLIPS_PER_VIDEO, counts
        last = start(arguments, log)
        drivers.append(last)
        assert last.wait(120) == 0, log.read_text()
    finally:
        for driver in drivers:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
    leftovers = [process for process in family if process.is_running()]
    assert not [one for one in leftovers if one.status() != psutil.STATUS_ZOMBIE]
    assert len(family) > 5  # Ray's own processes were among them

    expected = expected_vectors(tiny_bundle, clips_path)
    with open_collection(uri, "clips") as collection:
        collection.check(encoder_id=read_card(tiny_bundle).encoder_id)
        rows = list(collection.rows(("clip_key", "embedding")))
    assert len(rows) == len(expected)
    stored = {row["clip_key"]: np.asarray(row["embedding"]) for row in rows}
    assert stored.keys() == expected.keys()
    worst = max(float(np.abs(stored[key] - expected[key]).max()) for key in expected)
    assert worst < 1e-5
    assert verify.main(arguments) == 0
