"""One bad element costs itself: its neighbours are read, and it is listed with its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.annotations.readers.clip_table import read_clip_table
from training.annotations.readers.finegym import FineGymFiles, read_finegym
from training.annotations.readers.label_file import ImportLabelFile, read_label_file
from training.annotations.readers.label_studio import ImportLabelStudio, read_label_studio
from training.annotations.readers.osl import ImportOsl, read_osl
from training.annotations.readers.rows import Problems, read_csv_rows
from training.annotations.readers.video_folder import VideoFolder

HUGE = "1" * 401
GOOD_REGIONS = [
    {"type": "timelinelabels", "id": f"r{n}", "value": {"timelinelabels": ["x"], "ranges": [{"start": 1 + 10 * n, "end": 5 + 10 * n}]}}
    for n in range(2)
]  # fmt: skip
TASK = {"data": {"video": "a.mp4", "fps": 25}}


def region(**value: Any) -> dict[str, Any]:
    return {"type": "timelinelabels", "id": "bad", "value": {"timelinelabels": ["x"]} | value}


def label_studio(folder: Path, tasks: object) -> tuple[list[str], list[str]]:
    (folder / "videos").mkdir(exist_ok=True)
    (folder / "videos" / "a.mp4").touch()
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks).replace('"HUGE"', HUGE))
    problems = Problems(skip_bad=True)
    config = ImportLabelStudio(annotations=path, videos=str(folder / "videos"), out=folder / "o")
    return [clip.clip_id for clip in read_label_studio(config, problems)], problems.messages


@pytest.mark.parametrize(
    "bad",
    [
        region(ranges=[{"start": 9, "end": 3}]),
        region(ranges=[{"start": float("nan"), "end": 3}]),
        region(ranges=[{"start": 1, "end": "HUGE"}]),
        region(ranges=[5]),
        region(ranges=5),
        region(timelinelabels=["x", "y"]),
        region(timelinelabels=[]),
        {"type": "timelinelabels", "value": 5},
        {"type": "timelinelabels", "id": "r0", "value": GOOD_REGIONS[0]["value"]},
        5,
        None,
        "text",
    ],
)
def test_a_bad_region_leaves_the_others_of_its_task(bad: object, tmp_path: Path) -> None:
    result = [GOOD_REGIONS[0], bad, GOOD_REGIONS[1]]
    ids, messages = label_studio(tmp_path, [TASK | {"annotations": [{"result": result}]}])
    assert (ids, len(messages)) == (["r0", "r1"], 1)
    assert "task 0" in messages[0]


@pytest.mark.parametrize(
    "bad",
    [
        TASK | {"annotations": 5},
        TASK | {"annotations": [{"result": 5}]},
        {"video": "a.mp4", "choice": 5},
        {"video": "gone.mp4", "choice": "x"},
        {"video": "a.mp4", "fps": 25, "tricks": [7, GOOD_REGIONS[0]["value"]]},
    ],
)
def test_a_bad_task_is_listed_and_the_next_one_read(bad: object, tmp_path: Path) -> None:
    good = TASK | {"annotations": [{"result": GOOD_REGIONS}]}
    ids, messages = label_studio(tmp_path, [good, bad])
    assert (ids[:2], len(messages)) == (["r0", "r1"], 1)


def osl(folder: Path, document: object) -> tuple[list[str], list[str]]:
    path = folder / "osl.json"
    path.write_text(json.dumps(document).replace('"HUGE"', HUGE))
    problems = Problems(skip_bad=True)
    clips = read_osl(ImportOsl(annotations=path, out=folder / "o"), problems)
    return [clip.clip_id for clip in clips], problems.messages


def sample(**values: Any) -> dict[str, Any]:
    return {"id": "s", "inputs": [{"type": "video", "path": "a.mp4"}]} | values


@pytest.mark.parametrize(
    "bad",
    [
        {"label": None, "position_ms": 1},
        {"label": "x"},
        {"label": "x", "position_ms": -5},
        {"label": "x", "position_ms": float("nan")},
        {"label": "x", "position_ms": "HUGE"},
        {"label": "x", "position_ms": 9, "end_ms": 3},
        5,
    ],
)
def test_a_bad_event_leaves_the_others_of_its_sample(bad: object, tmp_path: Path) -> None:
    good = {"label": "x", "position_ms": 4000}
    document = {"labels": {"action": {}}, "data": [sample(events=[good, bad, good])]}
    ids, messages = osl(tmp_path, document)
    assert (ids, len(messages)) == (["s@2.000-6.000", "s@2.000-6.000#2"], 1)
    annotations = [
        {"label": e.get("label"), "position": e.get("position_ms"), "metadata": {"end_position": e.get("end_ms")}} if isinstance(e, dict) else e
        for e in (good, bad, good)
    ]  # fmt: skip
    ids, messages = osl(tmp_path, {"videos": [{"path": "s.mp4", "annotations": annotations}]})
    assert (ids, len(messages)) == (["s@2.000-6.000", "s@2.000-6.000#2"], 1)


@pytest.mark.parametrize(
    "bad",
    [
        sample(id="bad", events=5),
        sample(id="bad", labels={"action": "text"}),
        sample(id="bad", labels={"action": {"label": "x"}}, metadata=[1]),
        {"id": "bad", "inputs": 5, "labels": {"action": {"label": "x"}}},
        5,
    ],
)
def test_a_bad_sample_is_listed_and_the_next_one_read(bad: object, tmp_path: Path) -> None:
    good = sample(labels={"action": {"label": "x"}})
    ids, messages = osl(tmp_path, {"labels": {"action": {}}, "data": [bad, good]})
    assert (ids, len(messages)) == (["s"], 1)


def finegym(folder: Path, edit: Callable[[dict], object], cut: str) -> tuple[int, list[str]]:
    elements = {f"A_000{n}_0009": {"stages": 1, "timestamps": [[n, n + 1]]} for n in range(3)}
    event: dict[str, Any] = {"event": 1, "timestamps": [[10, 30]], "segments": elements}
    edit(event)
    path = folder / "annotations.json"
    path.write_text(json.dumps({"abcdefghijk": {"E_000010_000030": event}}).replace('"HUGE"', HUGE))
    split = folder / "train.txt"
    split.write_text("".join(f"abcdefghijk_E_000010_000030_A_000{n}_0009 {n}\n" for n in range(3)))
    problems = Problems(skip_bad=True)
    files = FineGymFiles(annotations=path, splits={"train": split}, cut=cut)  # type: ignore[arg-type]
    videos = VideoFolder(folder, must_exist=False)
    return len(read_finegym(files, videos, problems)), problems.messages


@pytest.mark.parametrize("number", ["HUGE", float("nan"), None, [1], -1])
def test_a_bad_element_leaves_the_others_of_its_event(number: object, tmp_path: Path) -> None:
    def edit(event: dict) -> None:
        event["segments"]["A_0001_0009"]["timestamps"] = [[1, number]]

    num_clips, messages = finegym(tmp_path, edit, "event")
    assert num_clips == 2
    assert "A_0001_0009: timestamps is" in messages[0]


def test_an_event_without_a_span_matters_where_videos_are_whole(tmp_path: Path) -> None:
    def edit(event: dict) -> None:
        event.update(event=None, timestamps=None)

    assert finegym(tmp_path, edit, "element") == (3, [])
    num_clips, messages = finegym(tmp_path, edit, "video")
    assert (num_clips, len(messages)) == (0, 3)
    assert "its event has no timestamps" in messages[0]


def test_a_key_that_comes_twice_costs_its_second_value(tmp_path: Path) -> None:
    path = tmp_path / "osl.json"
    path.write_text('{"labels": {"a": {}}, "data": [' + json.dumps(sample(labels={"a": {"label": "x"}}))[:-1] + ', "id": "t"}]}')  # fmt: skip
    problems = Problems(skip_bad=True)
    (clip,) = read_osl(ImportOsl(annotations=path, out=tmp_path / "o"), problems)
    assert clip.clip_id == "s"
    assert "the key 'id' occurs twice" in problems.messages[0]


@pytest.mark.parametrize("bad", ['v,"b', '"v,b', 'v,b"c"', 'v,"b"c'])
def test_a_quote_that_is_not_closed_costs_its_row(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n\na,b\nv,a\n" + bad + "\n" + "v,c\n" * 1000)
    problems = Problems(skip_bad=True)
    rows = list(read_csv_rows(path, ("a", "b"), problems))
    num_bad = len(problems.messages)
    assert len(rows) == 1002 - num_bad
    assert num_bad == (0 if bad == 'v,b"c"' else 1)
    assert all("line 5" in message for message in problems.messages)
    assert rows[-1].line == 1005


def test_a_bad_first_row_and_an_id_that_comes_twice_cost_themselves(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    lines = ["item,what,id", "nope.mp4,103b,n"]
    for n in range(8):
        (tmp_path / "videos" / f"{n}.mp4").touch()
        lines.append(f"{n}.mp4,{('103b', '105b')[n % 2]},i{n if n != 7 else 0}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    problems = Problems(skip_bad=True)
    config = ImportLabelFile(
        labels=tmp_path / "labels.csv", videos=str(tmp_path / "videos"), out=tmp_path / "o"
    )
    assert len(read_label_file(config, problems)) == 7
    assert ["nope.mp4" in problems.messages[0], "as in line 3" in problems.messages[1]] == [True] * 2  # fmt: skip


def test_a_table_means_the_same_as_parquet_and_as_csv(tmp_path: Path) -> None:
    cells = {
        "video_uri": ["a.mp4", "a.mp4", "", "a.mp4", "a.mp4", "a.mp4"],
        "start_s": ["0:10", " 1.5 ", "0", "1e3", "abc", "+1"],
        "end_s": ["0:12", "2.5", "", "", "", ""],
        "label": ["103b", "  ", "x", "x", "x", "x"],
        "attribute.n": ["2", "", "", "", "", ""],
        "more": ["1", "2", "3", "4", "5", "6"],
    }
    csv_path, parquet_path = tmp_path / "t.csv", tmp_path / "t.parquet"
    rows = [",".join(values) for values in zip(*cells.values(), strict=True)]
    csv_path.write_text("\n".join([",".join(cells), *rows]))
    typed = cells | {"attribute.n": [2.0, None, float("nan"), None, None, None]}
    pq.write_table(pa.table(typed), parquet_path)
    read, problems = {}, {}
    for path in (csv_path, parquet_path):
        problems[path] = Problems(skip_bad=True)
        read[path] = [
            (clip.start_s, clip.end_s, clip.label, dict(clip.attributes))
            for clip in read_clip_table(path, problems[path])
        ]
    assert read[csv_path] == read[parquet_path]
    assert read[csv_path] == [(10.0, 12.0, "103b", {"n": "2"}), (1.5, 2.5, None, {})]
    assert [len(p.messages) for p in problems.values()] == [4, 4]
    assert all("columns passed over: more" in p.notes[0] for p in problems.values())


def test_parquet_cells_that_are_missing_or_no_text_cost_their_row_at_most(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    labels = pa.array([b"x", b"\xff", b"y"]).view(pa.string())
    attributes = pa.array([[("n", None), ("m", "1")], [], None], pa.map_(pa.string(), pa.string()))
    table = {"clip_id": ["a", "b", "c"], "video_uri": ["v.mp4"] * 3, "label": labels}
    pq.write_table(pa.table(table | {"attributes": attributes}), path)
    problems = Problems(skip_bad=True)
    clips = read_clip_table(path, problems)
    assert [(clip.clip_id, dict(clip.attributes)) for clip in clips] == [("a", {"m": "1"}), ("c", {})]  # fmt: skip
    assert problems.messages == [f"{path}: row 1: label is not UTF-8"]
