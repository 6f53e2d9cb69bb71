"""Imports of label files that the tests write in the released formats."""

import json
import pickle  # noqa: TID251
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.clips import Clip, read_clips
from tfcovr import run_command
from training.annotations.readers.import_clips import READERS, import_annotations
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import Problems
from training.annotations.triplets.table import read_triplets

VIDEO = "0LtLS9wROrk"
EVENT = f"{VIDEO}_E_000100_000130"
ANNOTATION = {
    VIDEO: {
        "E_000100_000130": {
            "event": 1,
            "timestamps": [[100.5, 130.0]],
            "segments": {
                "A_0003_0009": {"stages": 3, "timestamps": [[3.0, 4.0], [4.0, 5.5], [5.5, 9.25]]},
                "A_0012_0015": {"stages": 1, "timestamps": [[12.0, 15]]},
            },
        },
        "E_000200_000230": {"event": 4, "timestamps": [[200.0, 230.0]], "segments": None},
    }
}
CATEGORIES = (
    "Clabel:   0; set: 1; Glabel:   6; (VT) round-off, flic-flac on, stretched salto backward off\n"
    "Clabel:   7; set: 32; Glabel: 301; (BB) salto backward tucked\n"
    "Clabel: 180; set: 35; Glabel: 402; (BB) salto backward tucked\n"
)


def run(kind, tmp_path, **options):
    """Calls the command; returns its clips by id and its report."""
    out = tmp_path / "out" / "clips.parquet"
    arguments = [kind, "--out", str(out)]
    for name, value in options.items():
        flag = "--" + name.replace("__", ".").replace("_", "-")
        values = value if isinstance(value, list) else [] if value is True else [value]
        arguments += [flag, *map(str, values)]
    status = run_command("import-annotations", arguments)
    report = json.loads(out.with_suffix(".json").read_text())["report"]
    assert status == int(report["num_bad_rows"] + report["num_clips_left_out"] > 0)
    return {clip.clip_id: clip for clip in read_clips(out)}, report


def folder_with(tmp_path, *names):
    folder = tmp_path / "videos"
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"a video")
    return folder


@pytest.fixture
def finegym(tmp_path):
    (tmp_path / "info.json").write_text(json.dumps(ANNOTATION))
    (tmp_path / "train.txt").write_text(f"{EVENT}_A_0003_0009 0\n")
    (tmp_path / "val.txt").write_text(f"{EVENT}_A_0012_0015 7\n\n")
    (tmp_path / "categories.txt").write_text(CATEGORIES)
    return {
        "files__annotations": tmp_path / "info.json",
        "files__splits": ["train", tmp_path / "train.txt", "val", tmp_path / "val.txt"],
    }


@pytest.mark.parametrize(
    ("cut", "file", "spans"),
    [
        ("element", f"{EVENT}_A_0003_0009.mp4", [(0.0, None), (0.0, None)]),
        ("event", f"{EVENT}.mp4", [(3.0, 9.25), (12.0, 15.0)]),
        ("video", f"{VIDEO}.mp4", [(103.5, 109.75), (112.5, 115.5)]),
    ],
)
def test_finegym_elements_become_clips_with_spans_as_the_videos_are_cut(
    tmp_path, finegym, cut, file, spans
):
    videos = folder_with(tmp_path, file)
    clips, report = run("finegym", tmp_path, videos=videos, files__cut=cut, **finegym)
    first, second = clips[f"{EVENT}_A_0003_0009"], clips[f"{EVENT}_A_0012_0015"]
    assert [(clip.start_s, clip.end_s) for clip in (first, second)] == spans
    assert first.video_uri == str(videos / file)
    assert (first.split, second.split) == ("train", "val")
    # gym99's own numbering: class 0 and class 7 of the file that comes with us.
    assert (first.label or "").startswith("(VT) round-off, flic-flac with 0.5 turn on")
    assert second.label == "(FX) switch leap with 1 turn"
    assert second.attributes == {
        "apparatus": "floor", "element": "switch leap", "turns": "1", "position": "usual",
    }  # fmt: skip
    assert report["num_missing_videos"] == (1 if cut == "element" else 0)


def test_names_come_from_the_given_category_file_and_shared_ones_are_told_apart(tmp_path, finegym):
    clips, _ = run(
        "finegym",
        tmp_path,
        videos=folder_with(tmp_path),
        files__classes="gym288",
        files__categories=tmp_path / "categories.txt",
        **finegym,
    )
    assert clips[f"{EVENT}_A_0003_0009"].label == CATEGORIES.splitlines()[0].split("; ")[-1]
    second = clips[f"{EVENT}_A_0012_0015"]
    assert second.label == "(BB) salto backward tucked #7"
    assert second.attributes["position"] == "tuck"


def test_a_bad_element_costs_no_other_of_its_event(tmp_path, finegym):
    annotation = json.loads((tmp_path / "info.json").read_text())
    event = annotation[VIDEO][EVENT.removeprefix(f"{VIDEO}_")]
    event["segments"]["A_0101_0101"] = {"stages": 1, "timestamps": [[101.0, 101.0]]}
    (tmp_path / "info.json").write_text(json.dumps(annotation))
    videos = folder_with(tmp_path, f"{EVENT}_A_0003_0009.WEBM")
    clips, report = run("finegym", tmp_path, videos=videos, skip_bad=True, **finegym)
    assert sorted(clips) == [f"{EVENT}_A_0003_0009", f"{EVENT}_A_0012_0015"]
    assert (report["num_bad_rows"], report["num_missing_videos"]) == (1, 1)


def test_a_table_with_columns_of_others_and_times_of_people(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        ",video_uri,start_s,end_s,reviewer\n0,a.mp4,0:01,00:00:02,x\n\n1,b.mp4,1_0,20,y\n"
    )
    clips, report = run("table", tmp_path, table=path, skip_bad=True)
    assert [(clip.start_s, clip.end_s) for clip in clips.values()] == [(1.0, 2.0)]
    assert report["num_bad_rows"] == 1
    assert "a column without a name was passed over" in report["notes"][0]
    assert "columns passed over: reviewer" in report["notes"][1]


def test_a_bad_row_of_a_parquet_costs_itself(tmp_path):
    rows = {
        "clip_id": ["a", "", "c", "a"],
        "video_uri": ["a.mp4", "b.mp4", "c.mp4", "d.mp4"],
        "extra": [1, 2, 3, 4],
    }
    pq.write_table(pa.table(rows), tmp_path / "mine.parquet")
    clips, report = run("table", tmp_path, table=tmp_path / "mine.parquet", skip_bad=True)
    assert (sorted(clips), report["num_bad_rows"]) == (["a", "b.mp4", "c"], 1)


def test_gym288_numbers_without_a_source_stay_unnamed(tmp_path, finegym):
    clips, report = run(
        "finegym", tmp_path, videos=folder_with(tmp_path), files__classes="gym288", **finegym
    )
    assert {clip.label for clip in clips.values()} == {"0", "7"}
    assert all(clip.attributes == {} for clip in clips.values())
    assert report["labels_without_attributes"] == ["0", "7"]


def test_missing_videos_are_listed_and_left_out_only_when_asked(tmp_path, finegym, capsys):
    videos = folder_with(tmp_path, f"{EVENT}_A_0012_0015.mp4")
    clips, report = run("finegym", tmp_path, videos=videos, **finegym)
    assert len(clips) == 2
    assert report["num_missing_videos"] == report["num_clips_of_missing_videos"] == 1
    missing = tmp_path / "out" / "clips.missing.txt"
    assert missing.read_text() == f"{EVENT}_A_0003_0009\n"
    assert "1 videos are missing" in capsys.readouterr().out
    clips, report = run("finegym", tmp_path, videos=videos, only_present=True, **finegym)
    assert list(clips) == [f"{EVENT}_A_0012_0015"]
    assert report["num_clips_left_out"] == 1


DIVES = {("FINA_r1", 0): "107B", ("FINA_r1", 12): "5253b", ("Tokyo_2", 3): "626C"}


def finediving_fields(kind, number, action_type):
    if kind == "coarse":
        return {
            "action_type": action_type, "dive_score": np.float64(81.6), "difficulty": 3.4,
            "start_frame": np.int64(100 * number + 1), "end_frame": 100 * number + 75,
        }  # fmt: skip
    if kind == "fine":
        return {
            "action_type": action_type, "judge_scores": [8.5, 9.0], "sub-action_types": {1: "Entry"},
            "steps_transit_frames": np.array([10.0, 40.0]), "frames_labels": np.arange(75),
        }  # fmt: skip
    return [action_type, 81.6, 3.4, np.array([10.0, 40.0]), np.arange(75)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["coarse", "fine", "aqa"])
def test_finediving_pickles_become_clips_of_dives(tmp_path, kind, protocol):
    annotation = {key: finediving_fields(kind, key[1], code) for key, code in DIVES.items()}
    (tmp_path / "info.pkl").write_bytes(pickle.dumps(annotation, protocol))
    keys = list(DIVES)
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(keys[:2], protocol))
    (tmp_path / "test.pkl").write_bytes(pickle.dumps(keys[2:], protocol))
    clips, report = run(
        "finediving",
        tmp_path,
        videos=folder_with(tmp_path, "FINA_r1_0.mp4", "Tokyo_2_3.mov"),
        files__annotations=tmp_path / "info.pkl",
        files__splits=["train", tmp_path / "train.pkl", "test", tmp_path / "test.pkl"],
    )
    assert {clip_id: clip.label for clip_id, clip in clips.items()} == {
        "FINA_r1_0": "107b", "FINA_r1_12": "5253b", "Tokyo_2_3": "626c",
    }  # fmt: skip
    assert clips["Tokyo_2_3"].video_uri.endswith("Tokyo_2_3.mov")
    assert clips["FINA_r1_12"].attributes["somersaults"] == "2.5"
    assert clips["FINA_r1_12"].split == "train"
    assert report["num_missing_videos"] == 1


def test_dives_of_whole_competitions_have_spans(tmp_path):
    annotation = {key: finediving_fields("coarse", key[1], code) for key, code in DIVES.items()}
    (tmp_path / "info.pkl").write_bytes(pickle.dumps(annotation))
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(list(DIVES)))
    clips, _ = run(
        "finediving",
        tmp_path,
        videos=folder_with(tmp_path, "FINA_r1.mp4"),
        files__annotations=tmp_path / "info.pkl",
        files__splits=["train", tmp_path / "train.pkl"],
        files__cut="competition",
        files__frames_per_s=25,
    )
    # The frames 1201 to 1275, counted from 1.
    assert (clips["FINA_r1_12"].start_s, clips["FINA_r1_12"].end_s) == (48.0, 51.0)


TRAIN = [
    ("v1", "v2", "107b", "207c", "show 2 back"),
    ("v1", "v3", "107b", "12", "show 'one' more"),
]
TEST = [(7, "v4", "v5", "with 2.5 twists", ["v6", "v5"]), (8, "v5", "v4", "in pike", ["v4"])]


def write_csv(path, header, rows):
    import csv

    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def released(tmp_path):
    rows = [
        (query, target, a, b, str({b: {"modification": text, "source": "x"}}))
        for query, target, a, b, text in TRAIN
    ]
    header = ("query_video", "target_video", "label1", "label2", "modification")
    write_csv(tmp_path / "train.csv", header, rows)
    header = ("query_id", "query_video", "target_video", "modification", "target_videos_ids")
    write_csv(tmp_path / "test.csv", header, [(*row[:4], str(row[4])) for row in TEST])
    write_csv(
        tmp_path / "stage1.csv", ("video_file", "label"), [("a/v5.mp4", "5253b"), ("v1", "107b")]
    )
    return {
        "files__train": tmp_path / "train.csv",
        "files__test": tmp_path / "test.csv",
        "files__stage1": ["test", tmp_path / "stage1.csv"],
    }


def test_the_released_csv_files_become_triplets_and_clips(tmp_path, released):
    clips, report = run("tfcovr", tmp_path, **released)
    triplets = read_triplets(tmp_path / "out" / "triplets.parquet")
    rows = [
        (t.query_clip_id, t.edit_text, t.target_clip_ids, t.source_label, t.target_label, t.split)
        for t in triplets
    ]
    assert rows == [
        ("v1", "show 2 back", ("v2",), "107b", "207c", "train"),
        ("v1", "show 'one' more", ("v3",), "107b", "12", "train"),
        # The row's own target first: the released evaluator's Recall counts on it.
        ("v4", "with 2.5 twists", ("v5", "v6"), None, None, "test"),
        ("v5", "in pike", ("v4",), None, None, "test"),
    ]
    labels = {clip_id: clip.label for clip_id, clip in clips.items()}
    assert labels == {
        "v1": "107b", "v2": "207c", "v3": "12", "v4": None, "v5": "5253b", "v6": None,
    }  # fmt: skip
    assert clips["v2"].attributes["take_off"] == "back"
    assert clips["v3"].attributes == {}
    assert report["num_triplets"] == 4
    assert report["num_missing_videos"] == 6
    assert report["num_videos_in_several_splits"] == 1


def test_class_indices_and_sourced_names_of_keys(tmp_path, released):
    write_csv(tmp_path / "stage1.csv", ("video_file", "label"), [("v9", 7)])
    clips, _ = run(
        "tfcovr",
        tmp_path,
        files__stage1=["train", tmp_path / "stage1.csv"],
        files__stage1_labels="index",
        categories=_categories(tmp_path),
    )
    assert clips["v9"].label == "7"
    assert clips["v9"].attributes["apparatus"] == "beam"


def _categories(tmp_path):
    (tmp_path / "categories.txt").write_text(CATEGORIES)
    return tmp_path / "categories.txt"


def test_bad_rows_are_all_listed_when_asked(tmp_path, released, capsys):
    with (tmp_path / "train.csv").open("a") as file:
        file.write("v1,v1,107b,207c,{}\nv1,v7,999,207c,{}\n")
    _, report = run("tfcovr", tmp_path, skip_bad=True, **released)
    assert (report["num_triplets"], report["num_bad_rows"]) == (4, 2)
    problems = (tmp_path / "out" / "clips.problems.txt").read_text().splitlines()
    assert ["train.csv: line 4" in problems[0], "train.csv: line 5: label1" in problems[1]] == [
        True
    ] * 2
    assert "2 bad rows left out" in capsys.readouterr().out


def test_a_table_of_ones_own(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a video")
    (tmp_path / "mine.csv").write_text(
        "video_uri,start_s,end_s,label,split,attribute.colour\n"
        "a.mp4,1.5,3,goal,train,red\n"
        "b.mp4,,,5253b,val,\n"
        "https://example.org/c.mp4,2,,,,\n"
    )
    clips, report = run("table", tmp_path, table=tmp_path / "mine.csv")
    first, second, third = clips.values()
    assert (first.start_s, first.end_s, first.attributes) == (1.5, 3.0, {"colour": "red"})
    assert first.video_uri == str(tmp_path / "a.mp4")
    assert second.attributes["twists"] == "1.5"
    assert (third.video_uri, third.label) == ("https://example.org/c.mp4", None)
    assert report["num_missing_videos"] == 1


def test_a_parquet_of_ones_own(tmp_path):
    import pyarrow as pa

    table = {"clip_id": ["x", "y"], "video_uri": ["a.mp4", "b.mp4"], "label": ["107b", "new"]}
    pq.write_table(
        pa.table({**table, "attribute.height": pa.array([None, 10])}), tmp_path / "mine.parquet"
    )
    clips, _ = run("table", tmp_path, table=tmp_path / "mine.parquet")
    assert clips["x"].attributes["take_off"] == "forward"
    assert clips["y"].attributes == {"height": "10"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportToy(ImportOptions):
    """Toy format: one video name per line."""

    names: Path
    """The text file with the names."""


def read_toy(config: ImportToy, problems: Problems) -> ReadLabels:
    clips = []
    for name in config.names.read_text().split():
        with problems.of_row():
            if name == "bad":
                raise ValueError(f"{config.names}: {name!r} is not a video")
            clips.append(Clip(clip_id=name, video_uri=f"https://example.org/{name}.mp4"))
    return ReadLabels(clips=clips, missing={})


def test_a_label_format_is_added_by_one_line(tmp_path, monkeypatch, capsys):
    reader = LabelReader(
        config=ImportToy, read=read_toy, example="--names toy.txt --out clips.parquet"
    )
    monkeypatch.setitem(READERS, "toy", reader)
    (tmp_path / "toy.txt").write_text("a bad b")
    clips, report = run("toy", tmp_path, names=tmp_path / "toy.txt", skip_bad=True)
    assert list(clips) == ["a", "b"]
    assert report["num_bad_rows"] == 1
    with pytest.raises(SystemExit):
        run_command("import-annotations", ["--help"])
    text = capsys.readouterr().out
    assert "Toy format: one video name per line." in text
    assert "tfcovr import-annotations toy --names toy.txt --out clips.parquet" in text


def test_a_config_of_no_registered_format_is_refused(tmp_path):
    config = ImportToy(out=tmp_path / "clips.parquet", names=tmp_path / "toy.txt")
    with pytest.raises(ValueError, match="ImportToy has no label reader"):
        import_annotations(config)
