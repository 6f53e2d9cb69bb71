"""Archives are real video, the same bytes for the same config, and go on where they were stopped."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.dives.archive import ArchiveConfig, write_archive
from benchmarks.dives.broadcast import write_broadcasts
from benchmarks.dives.broadcast_plan import BroadcastConfig, RawConfig, plan_broadcast
from benchmarks.dives.random_streams import clip_index
from benchmarks.dives.rendering.pose import POSE_COLUMNS, render_clip, stage_clip
from benchmarks.dives.video import write_video
from encoders.clips import read_clips

SMALL = ArchiveConfig(classes=("103b", "5152b"), clips_per_class=(1, 1, 1), size=32)


def rendered(label: str = "105b", **changes) -> np.ndarray:
    arguments = {"seed": 0, "split": "train", "index": 5, "difficulty": "open", "size": 32}
    return render_clip(label, **(arguments | changes)).frames_THWC


def test_the_same_arguments_render_the_same_bytes() -> None:
    assert np.array_equal(rendered(), rendered())


@pytest.mark.parametrize(
    "changes", [{"split": "test"}, {"split": "pretrain"}, {"seed": 1}, {"index": 6}, {"difficulty": "full"}]
)  # fmt: skip
def test_every_other_stream_shows_something_else(changes: dict) -> None:
    one, other = rendered(), rendered(**changes)
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize("difficulty", ["open", "full"])
def test_appearance_does_not_know_the_class(difficulty: str) -> None:
    def look(label: str) -> tuple:
        _, scene = stage_clip(label, seed=0, split="train", index=9, difficulty=difficulty, size=64)
        return (scene.diver.front_NC.tobytes(), scene.camera.focal_px_T.tobytes(), scene.board)

    assert repr(look("101b")) == repr(look("5156b")) == repr(look("614b"))


def test_two_clips_of_an_archive_never_share_their_streams() -> None:
    indices = {clip_index(label, n) for label in ("103b", "105b", "1011b") for n in range(200)}
    assert len(indices) == 600


@pytest.mark.parametrize(
    "changes", [{"label": "999b"}, {"split": "dev"}, {"difficulty": "hard"}, {"size": 33}]
)
def test_bad_arguments_are_named(changes: dict) -> None:
    arguments = {
        "label": "105b",
        "seed": 0,
        "split": "train",
        "index": 0,
        "difficulty": "open",
        "size": 32,
    }
    with pytest.raises(ValueError, match=str(next(iter(changes.values())))):
        render_clip(**(arguments | changes))


def test_the_pose_has_unit_directions_and_cosines() -> None:
    pose_TP = render_clip(
        "5253b", seed=0, split="pretrain", index=0, difficulty="full", size=32
    ).pose_TP
    assert pose_TP.shape[1] == len(POSE_COLUMNS)
    chest = [POSE_COLUMNS.index(f"chest_axis_{axis}") for axis in "xyz"]
    assert np.allclose(np.linalg.norm(pose_TP[:, chest], axis=1), 1, atol=1e-5)
    cosines = [n for n, name in enumerate(POSE_COLUMNS) if name.endswith("_cos")]
    assert np.abs(pose_TP[:, cosines]).max() <= 1 + 1e-5


@pytest.mark.parametrize(("codec", "decoder"), [("h264", "h264"), ("vp9", "vp9")])
def test_files_are_video_of_25_frames_a_second(tmp_path: Path, codec: str, decoder: str) -> None:
    config = ArchiveConfig(classes=("103b",), clips_per_class=(1, 0, 0), size=32, codec=codec)
    (clip,) = read_clips(write_archive(tmp_path, config, num_workers=1, quiet=True))
    index = clip_index("103b", 0)
    expected = rendered("103b", index=index)
    with av.open(clip.video_uri) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name.startswith(decoder)
        assert float(stream.average_rate) == 25
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert frames.shape == expected.shape
    assert np.abs(frames.astype(int) - expected).mean() < 16  # lossy, but the same pictures


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_the_same_frames_are_the_same_file(tmp_path: Path, codec: str) -> None:
    frames_THWC = rendered("5152b", size=64)
    files = set()
    for n in range(8):
        path = tmp_path / f"{n}.video"
        assert write_video(path, [frames_THWC[:9], frames_THWC[9:]], codec=codec) == len(
            frames_THWC
        )
        files.add(path.read_bytes())
    assert len(files) == 1


def test_a_second_run_renders_nothing_and_a_lost_clip_comes_back_the_same(tmp_path: Path) -> None:
    write_archive(tmp_path, SMALL, num_workers=1, quiet=True)
    videos = sorted(tmp_path.rglob("*.mp4"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in videos}
    lost = videos[0]
    lost.unlink()
    write_archive(tmp_path, SMALL, num_workers=1, quiet=True)
    assert lost.read_bytes() == before[lost][1]
    assert all(path.stat().st_mtime_ns == before[path][0] for path in videos[1:])
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_with_another_archive_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path, SMALL, num_workers=1, quiet=True)
    with pytest.raises(ValueError, match="holds another archive"):
        write_archive(tmp_path, ArchiveConfig(classes=("103b",), size=32), quiet=True)


def test_a_broadcast_holds_its_dives_apart_in_one_file(tmp_path: Path) -> None:
    config = BroadcastConfig(archive=SMALL, num_dives=3, dead_time_s=(0.5, 1.0))
    clips = read_clips(write_broadcasts(tmp_path, config, num_workers=1, quiet=True))
    assert len(clips) == 9
    assert len({clip.video_uri for clip in clips}) == 3
    of_test = [clip for clip in clips if clip.split == "test"]
    spans = [(clip.start_s, clip.end_s) for clip in of_test]
    assert all(end + 0.5 <= start for (_, end), (start, _) in itertools.pairwise(spans))
    with av.open(of_test[0].video_uri) as container:
        num_frames = sum(1 for _ in container.decode(video=0))
    assert num_frames == round(spans[-1][1] * 25)


def test_a_raw_broadcast_shows_dives_again_slower_and_names_them(tmp_path: Path) -> None:
    raw = RawConfig(replay_share=1.0, speed=(1.5, 2.0))
    config = BroadcastConfig(archive=SMALL, num_dives=2, dead_time_s=(0.9, 1.1), raw=raw)
    path = write_broadcasts(tmp_path, config, splits=("test",), num_workers=1, quiet=True)
    clips = read_clips(path)
    live, replays = clips[::2], clips[1::2]
    assert [clip.attributes["replay_of"] for clip in replays] == [clip.clip_id for clip in live]
    for clip, again in zip(live, replays, strict=True):
        assert again.label == clip.label
        assert again.start_s > clip.end_s
        slower = (again.end_s - again.start_s) / (clip.end_s - clip.start_s)
        assert 1 / 0.65 * 0.9 < slower < 1 / 0.45 * 1.1
    with av.open(clips[0].video_uri) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    last = plan_broadcast(config, "test", 0)[-1]
    assert len(frames) == last.end_frame
    # The diver waits: the last frames before the truth begins hardly change, those after it do.
    dive = next(d for d in plan_broadcast(config, "test", 0) if d.lead_frames > 4)
    first = dive.live.first_frame
    moved = [
        np.abs(frames[n].astype(float) - frames[n - 3]).mean() for n in (first - 1, first + 12)
    ]
    assert moved[1] > 2 * moved[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"replay_share": 1.5}, "must be 0 to 1"), ({"speed": (2.0, 1.0)}, "slowest <= fastest"), ({"replay_speed": (0.0, 1.0)}, "0.1 <=")],
)  # fmt: skip
def test_a_raw_broadcast_that_cannot_be_is_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        RawConfig(**changes)
