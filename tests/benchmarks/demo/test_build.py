import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfcovr
from benchmarks.commands.build import Config
from benchmarks.demo.build import plan_parts
from benchmarks.demo.build_clips import require_edits, whole_videos, write_build_clips
from benchmarks.demo.build_encoder import Paths, write_shipped_encoder
from encoders.bundle.card import read_card
from encoders.clips import Clip, read_clips, write_clips
from encoders.decoding.isolated import iter_clip_frames
from indexing.archive_folder import Archive, read_archive, write_archive
from indexing.search.client import SearchClient
from tests.support.published_models import write_clip, write_vjepa2
from tests.support.served_archive import write_served_archive
from tests.support.videos import VideoSpec, write_video
from training.evaluation.clip_baseline import ClipLike

ROOT = Path(__file__).resolve().parents[3]


def test_an_archive_folder_is_all_that_a_search_needs(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served, folder = tmp_path / "served", tmp_path / "archive"
    served.mkdir()
    folder.mkdir()
    write_served_archive(served, tiny_bundle)
    moved = tmp_path / "moved"
    served.rename(moved)
    write_archive(
        Archive(
            folder=folder,
            bundle=tiny_bundle,
            milvus_uri=str(moved / "milvus"),
            collection="clips",
            videos=str(moved),
            indexed_from=str(served),
        )
    )
    with SearchClient(folder) as client:
        result = client.search(clip="clip/3", limit=3)
        assert len(result.hits) == 3
        assert all(hit.video_uri.startswith(f"{moved}/") for hit in (*result.hits, result.query))
        place = client.place_of("clip/3")
        assert place is not None
        assert place.video_uri == str(moved / "0.mp4")
    with SearchClient(folder, videos_root=str(tmp_path)) as client:  # as if they were there
        assert client.search(clip="clip/3", limit=1).hits[0].video_uri.startswith(f"{tmp_path}/")
    assert tfcovr.main(["search", str(folder), "with one more twist", "--clip", "clip/3", "--json"]) == 0  # fmt: skip
    assert '"edit_text": "with one more twist"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "videos is 'gone', which is not a folder; it must be a folder or a URI"),
        ([".", "--encoder", "./gone"], "encoder is './gone', which is not a folder"),
        ([".", "--encoder", "."], "neither card.json (a bundle) nor config.json"),
        (["."], "no video files"),
        ([".", "--labels", "gone.csv"], "labels is 'gone.csv', which is not a file"),
        ([".", "--columns", "label", "x"], "columns and skip_bad are for --labels"),
        ([".", "--out", "."], "the folder of the videos"),
    ],
)
def test_everyday_mistakes_are_one_line_before_anything_starts(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    assert tfcovr.main(["build", *arguments, *out]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_labels_that_no_edit_connects_say_what_to_add() -> None:
    clips = [
        Clip(clip_id=str(n), video_uri="v", label=str(n), attributes={"a": str(n), "b": str(n), "c": str(n)})
        for n in range(3)
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"no edit can be learnt\. Add a column per attribute"):
        require_edits(clips)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["encoder", "export", "index", "archive"]),
        ({"encoder": "someone/clip"}, ["encoder", "export", "index", "archive"]),
        (
            {"labels": Path(__file__)},
            ["triplets", "stage1", "vectors", "stage2", "export", "index", "archive", "evaluate"],
        ),
    ],
)  # fmt: skip
def test_the_flow_depends_on_what_there_is(
    tmp_path: Path, options: dict[str, object], expected: list[str]
) -> None:
    paths = Paths(tmp_path)
    for path in (paths.clips, paths.labelled):
        write_clips(path, [Clip(clip_id="a", video_uri="v", label="1", split="train")])
    config = Config(videos=str(tmp_path), out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert [part.name for part in plan_parts(config, paths)] == expected


def test_videos_that_no_row_names_become_clips_without_labels(tmp_path: Path) -> None:
    videos, said = tmp_path / "videos", []
    videos.mkdir()
    for n in range(7):
        write_video(videos / f"{n}.mp4", VideoSpec(num_frames=20))
    write_video(videos / "long.mp4", VideoSpec(num_frames=60))
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f"{n}.mp4,{'ab'[n % 2]}\n" for n in range(6)))
    config = Config(videos=str(videos), labels=labels, out=tmp_path / "out", window_s=0.4)
    paths = Paths(config.out)
    paths.out.mkdir()
    (videos / "torn.mp4").write_bytes(b"no video")
    notes, num_refused = write_build_clips(config, paths, said.append)
    assert num_refused == 1
    assert notes == said
    assert any("2 videos, which no row names" in line for line in notes)
    clips = read_clips(paths.clips)
    assert [clip.clip_id for clip in clips if clip.label is not None] == [
        clip.clip_id for clip in read_clips(paths.labelled)
    ]
    unlabelled = [clip for clip in clips if clip.label is None]
    assert unlabelled[0] == Clip(clip_id="6.mp4", video_uri=str(videos / "6.mp4"))
    assert {clip.video_uri for clip in unlabelled[1:]} == {str(videos / "long.mp4")}
    assert len(unlabelled) > 4  # longer than four windows
    assert whole_videos(clips[-1:])[0].end_s is None


def test_the_shipped_encoder_is_the_same_everywhere(tmp_path: Path) -> None:
    first, second = (write_shipped_encoder(tmp_path / name) for name in "ab")
    assert first.encoder_id == second.encoder_id
    assert first.fusion is None


@pytest.mark.long
def test_a_folder_with_and_without_labels_becomes_searchable(tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> str:
        command = [sys.executable, "-m", "tfcovr", *map(str, arguments)]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, f"{shown.stdout}\n{shown.stderr[-3000:]}"
        return shown.stdout

    videos, archive, plain = tmp_path / "videos", tmp_path / "archive", tmp_path / "plain"
    run("dives", videos, "--classes", "103b", "105b", "107b", "--clips-per-class", "6", "2", "2")
    files = sorted(videos.rglob("*.mp4"))
    labels = tmp_path / "labels.csv"
    labels.write_text("file,dive\n" + "".join(f"{f.name},{f.stem.split('-')[1]}\n" for f in files))
    recipes = ("--stage1-recipe", "demo_actions_tiny", "--stage2-recipe", "demo_fusion_tiny")
    build = ("build", videos, "--labels", labels, "--out", archive, *recipes)
    assert "columns: file = 'file', label = 'dive'" in run(*build)
    assert run(*build).count("(finished before)") == 8
    before = read_archive(archive)
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([*lines[:-1], lines[-1].replace("107b", "105b")]) + "\n")
    run(*build)  # a corrected label makes another model, and the one before stays until the next
    assert read_archive(archive).collection != before.collection
    assert before.bundle.is_dir()
    run("build", videos, "--out", plain)
    (videos / "more.mp4").write_bytes(files[0].read_bytes())
    again = run("build", videos, "--out", plain)  # a video more costs only itself
    assert again.count("(finished before)") == 2
    (videos / "more.mp4").unlink()
    clip_model = write_clip(tmp_path / "clip")
    worded, motion = tmp_path / "worded", tmp_path / "motion"
    run("build", videos, "--encoder", clip_model, "--out", worded)
    run("build", videos, "--encoder", write_vjepa2(tmp_path / "vjepa2"), "--out", motion)
    for folder in (archive, plain, worded, motion):
        assert "Ask it" in (folder / "report.html").read_text()
        with SearchClient(folder) as client:
            clip = client.search(clip=str(files[0]), limit=2)
            assert len(clip.hits) == 2
            assert np.isfinite([hit.score for hit in clip.hits]).all()
    with SearchClient(motion) as client, pytest.raises(ValueError, match=r"--labels labels\.csv"):
        client.search(edit="in pike")
    with SearchClient(worded) as client:
        # Ranked as the published model itself ranks, text against mean of frames.
        found = client.search(edit="in pike", limit=3)
        model, bundle = ClipLike(str(clip_model)), read_card(read_archive(worded).bundle)
        clips = read_clips(worded / "clips.parquet")
        frames = [frames for _, frames in iter_clip_frames(clips, bundle.sampling)]
        scores = model.embed_clips(np.stack(frames)) @ model.embed_texts(["in pike"])[0]
        best = [clips[n].clip_id for n in np.argsort(-scores)[:3]]
        assert [hit.clip_id for hit in found.hits] == best
        assert found.hits[0].score == pytest.approx(float(scores.max()), abs=1e-4)
