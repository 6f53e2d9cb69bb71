import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from encoders.clips import Clip
from tests.support.videos import VideoSpec, write_video
from training.annotations.readers.import_clips import ImportReport, import_annotations
from training.annotations.readers.label_file import (
    ImportLabelFile,
    guess_columns,
    read_label_file,
)
from training.annotations.readers.rows import Problems
from training.annotations.readers.video_folder import VideoNames


def read(
    folder: Path,
    text: str,
    *,
    num_videos: int = 8,
    columns: Mapping[str, str] | None = None,
    skip_bad: bool = False,
) -> tuple[list[Clip], Problems]:
    videos = folder / "videos"
    (videos / "day 1").mkdir(parents=True, exist_ok=True)
    for number in range(num_videos):
        (videos / "day 1" / f"v{number}.mp4").touch()
    labels = folder / "labels.csv"
    labels.write_text(text)
    problems = Problems(skip_bad=skip_bad)
    config = ImportLabelFile(
        labels=labels, videos=str(videos), out=folder / "c.parquet", columns=columns or {}
    )
    return read_label_file(config, problems), problems


def rows(*, labels: tuple[str, ...] = ("103b", "105b"), num: int = 8) -> str:
    return "".join(f"v{n}.mp4,{labels[n % len(labels)]}\n" for n in range(num))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("file,dive", {"file": "file", "label": "dive"}),
        ("Filename;Dive No.", None),
        (
            "Video URI,Start (s),End (s),Class,Subset",
            {"file": "Video URI", "start": "Start (s)", "end": "End (s)", "label": "Class", "split": "Subset"},
        ),
        ("clip_id,path,start,end,action", {"id": "clip_id", "file": "path", "start": "start", "end": "end", "label": "action"}),
        ("name,video,judge", {"label": "name", "file": "video"}),
    ],
)  # fmt: skip
def test_columns_are_guessed_by_name(header: str, expected: dict[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="--columns file COLUMN"):
            guess_columns(Path("a.csv"), header.split(","), {})
    else:
        assert guess_columns(Path("a.csv"), header.split(","), {}) == expected


@pytest.mark.parametrize(
    ("text", "file", "label"),
    [
        ("Clip ref;What\nv0;103b\n", "Clip ref", "What"),
        ("what\tpath\n103b\tv0.mp4\n", "path", "what"),
        ("video,original\n103b,v0.mp4\n", "original", "video"),
        ("name,dive no.\nv0.mp4,103b\n", "name", "dive no."),
    ],
)
def test_the_column_whose_cell_names_a_video_is_that_of_the_files(
    tmp_path: Path, text: str, file: str, label: str
) -> None:
    header, row = text.splitlines()
    sign = next(sign for sign in ";\t," if sign in header)
    first, second = row.split(sign)
    swapped = "v" not in first
    more = "".join(
        (f"103b{sign}v{n}\n" if swapped else f"v{n}{sign}103b\n").replace("103b", f"10{3 + 2 * (n % 2)}b")
        for n in range(1, 8)
    )  # fmt: skip
    clips, problems = read(tmp_path, text + more)
    assert len(clips) == 8
    assert second
    assert problems.notes[0].startswith(f"columns: file = {file!r}, label = {label!r}")


def test_a_decimal_comma_is_a_time(tmp_path: Path) -> None:
    text = "file;start;end;label\n" + "".join(
        f"v{n};0,5;1,25;10{3 + 2 * (n % 2)}b\n" for n in range(8)
    )
    assert {(clip.start_s, clip.end_s) for clip in read(tmp_path, text)[0]} == {(0.5, 1.25)}


def test_a_column_can_be_given_and_an_unknown_one_is_named() -> None:
    header = ["file", "what", "dive"]
    assert guess_columns(Path("a.csv"), header, {"label": "what"})["label"] == "what"
    with pytest.raises(ValueError, match="no column 'wat'; it has file, what, dive"):
        guess_columns(Path("a.csv"), header, {"label": "wat"})
    with pytest.raises(ValueError, match="columns names 'name'"):
        ImportLabelFile(labels=Path("a"), videos="", out=Path("c"), columns={"name": "x"})


def test_file_and_dive_number_are_enough(tmp_path: Path) -> None:
    clips, problems = read(tmp_path, "file,dive\n" + rows())
    assert clips[0].label == "103b"
    assert clips[0].attributes["somersaults"] == "1.5"
    assert clips[0].video_uri == str((tmp_path / "videos/day 1/v0.mp4").resolve())
    assert {clip.split for clip in clips} == {"train", "val", "test"}
    assert problems.notes[0].startswith("columns: file = 'file', label = 'dive'")


@pytest.mark.parametrize("name", ["v1", "v1.mp4", "day 1/v1.mp4", "day 1\\v1.mp4", "/gone/v1.avi"])
def test_a_video_is_found_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    clips, _ = read(tmp_path, "file,dive\n" + rows() + f"{name},103b\n")
    assert clips[-1].video_uri.endswith("day 1/v1.mp4")


def test_spans_and_attributes_come_from_columns(tmp_path: Path) -> None:
    text = "video,from,to,event,apparatus,judge\n"
    text += "".join(
        f"v{n % 4}.mp4,0:{n:02d},{n + 1}.5,{'vault' if n % 2 else 'swing'},{'horse' if n % 2 else 'bar'},{n}\n"
        for n in range(8)
    )
    clips, problems = read(tmp_path, text)
    assert (clips[3].start_s, clips[3].end_s) == (3.0, 4.5)
    assert clips[3].attributes == {"apparatus": "horse"}
    assert any(note.endswith("differ in them: judge") for note in problems.notes)


def test_a_column_that_some_labels_leave_empty_is_named(tmp_path: Path) -> None:
    text = "file,label,position\n"
    text += "".join(f"v{n}.mp4,{'abc'[n % 3]},{('pike', 'tuck', '')[n % 3]}\n" for n in range(8))
    clips, problems = read(tmp_path, text)
    assert clips[0].attributes == {"action": "a"}
    assert any("cells of them are empty: position" in note for note in problems.notes)


@pytest.mark.parametrize("name", ["v0.take2", "v0.txt", "v0.v2.backup"])
def test_what_is_behind_a_point_is_no_ending_unless_videos_have_it(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not among the 8 videos"):
        read(tmp_path, f"file,label\n{name},103b\n" + rows())


def test_a_table_without_a_header_loses_no_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1 names the video 'v0\.mp4'; it must be a header"):
        read(tmp_path, rows())


@pytest.mark.parametrize("sign", ["|", ";", "\t"])
def test_separators_of_spreadsheets_are_read(tmp_path: Path, sign: str) -> None:
    text = "file,label\n" + rows()
    plain, _ = read(tmp_path, text)
    for head in ("", f"sep={sign}\n"):
        assert read(tmp_path, head + text.replace(",", sign))[0] == plain


def test_letters_with_marks_in_two_parts_are_the_same_name(tmp_path: Path) -> None:
    composed, parted = "M\u00fcller.mp4", "Mu\u0308ller.mp4"
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / composed).touch()
    clips, _ = read(tmp_path, f"file,label\n{parted},103b\n" + rows())
    assert Path(clips[0].video_uri).name == composed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("v0.mp4,103b\n", "1 spans are named more than once, first: .*v0.mp4 0-end s"),
        ("v0.mp4,105b\n", "1 spans have several labels, first: .*: '103b', '105b'"),
        ("v0.mp4,103B\n", "differ in case, spaces or what is invisible only: '103B', '103b'"),
        ("v0.mp4,103b\u200b\n", "differ in case, spaces or what is invisible only"),
    ],
)
def test_likely_mistakes_of_a_table_are_told(tmp_path: Path, more: str, said: str) -> None:
    _, problems = read(tmp_path, "file,label\n" + rows() + more)
    assert any(re.search(said, note) for note in problems.notes)


def test_a_split_that_shares_videos_is_told(tmp_path: Path) -> None:
    text = "file,start,end,label,split\n"
    text += "".join(f"v0.mp4,{n},{n + 1},{'ab'[n % 2]},{('train', 'Validation', 'TEST')[n % 3]}\n" for n in range(9))  # fmt: skip
    clips, problems = read(tmp_path, text)
    assert {clip.split for clip in clips} == {"train", "val", "test"}
    assert any("1 videos are in several splits" in note for note in problems.notes)


def test_a_span_that_is_named_twice_is_in_one_split(tmp_path: Path) -> None:
    text = "file,start,end,label\n"
    text += "".join(f"v0.mp4,{n // 3},{n // 3 + 1},{'ab'[n // 3 % 2]}\n" for n in range(36))
    clips, _ = read(tmp_path, text)
    splits: dict[float, set[str | None]] = {}
    for clip in clips:
        splits.setdefault(clip.start_s, set()).add(clip.split)
    assert all(len(of_span) == 1 for of_span in splits.values())


def test_rows_between_others_rename_no_clip(tmp_path: Path) -> None:
    head, text = "file,start,end,label\n", "v0.mp4,,,103b\nv1.mp4,1,2.5,105b\nv1.mp4,1,2.5,103b\n"
    more = "".join(f"v{n}.mp4,,,{label}\n" for n in range(2, 8) for label in ("103b", "105b"))
    before, _ = read(tmp_path, head + text + more)
    assert [clip.clip_id for clip in before[:3]] == [
        "day 1/v0.mp4",
        "day 1/v1.mp4@1.000-2.500",
        "day 1/v1.mp4@1.000-2.500#2",
    ]
    after, _ = read(tmp_path, head + "v1.mp4,3,4,103b\n" + text + more)
    assert [clip.clip_id for clip in after[1:]] == [clip.clip_id for clip in before]


def test_a_span_behind_the_end_of_its_video_is_a_bad_row(tmp_path: Path) -> None:
    videos, labels = tmp_path / "videos", tmp_path / "labels.csv"
    videos.mkdir()
    write_video(videos / "v9.mp4", VideoSpec(num_frames=30, fps=10))
    text = "file,start,end,label\n" + "".join(f"v9.mp4,0.{n},60,{'ab'[n % 2]}\n" for n in range(8))

    def imported(more: str, *, skip_bad: bool = False) -> ImportReport:
        labels.write_text(text + more)
        return import_annotations(
            ImportLabelFile(
                labels=labels, videos=str(videos), out=tmp_path / "c.parquet", skip_bad=skip_bad
            )
        )

    report = imported("v9.mp4,2.9,3,a\n")
    assert report.num_clips == 9
    assert any(
        "8 clips end with their video, before the end that is given" in note
        for note in report.notes
    )
    late = "v9.mp4,3,4,a\n"
    with pytest.raises(
        ValueError, match=r"begins at 3 s, and the last frame of .*v9\.mp4 is at 2\.900 s"
    ):
        imported(late)
    report = imported(late, skip_bad=True)
    assert (report.num_clips, report.num_bad_rows) == (8, 1)


def test_a_duration_is_an_end(tmp_path: Path) -> None:
    lines = "".join(f"v{n}.mp4,{n},1.5,{'ab'[n % 2]}\n" for n in range(8))
    clips, _ = read(tmp_path, "file,start,Duration,label\n" + lines)
    assert [(clip.start_s, clip.end_s) for clip in clips[:2]] == [(0.0, 1.5), (1.0, 2.5)]
    with pytest.raises(ValueError, match="Duration is '0'; it must be after the start, 3 s"):
        read(tmp_path, f"file,start,Duration,label\n{lines}v0.mp4,3,0,a\n")


def test_what_programs_write_for_an_empty_cell_is_no_label(tmp_path: Path) -> None:
    empty = "".join(f"v{n}.mp4,{text}\n" for n, text in enumerate(("nan", "N/A", "NULL", "")))
    clips, _ = read(tmp_path, "file,label\n" + empty + rows())
    assert [clip.label for clip in clips[:5]] == [None, None, None, None, "103b"]


def test_a_column_has_one_meaning(tmp_path: Path) -> None:
    columns = {"label": "label", "file": "label"}
    with pytest.raises(ValueError, match="columns gives 'label' to label and file"):
        read(tmp_path, "file,label\n" + rows(), columns=columns)


def test_an_empty_column_of_splits_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one label needs three"):
        read(tmp_path, "file,label,split\nv0.mp4,103b,\nv1.mp4,105b,\n")


def test_the_nearest_name_may_differ_in_case(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the nearest name is 'v3"):
        read(tmp_path, "file,label\nV3.mp4,103b\n")


def test_plain_words_become_the_attribute_of_their_own(tmp_path: Path) -> None:
    clips, problems = read(tmp_path, "file,label\n" + rows(labels=("backflip", "cartwheel")))
    assert clips[1].attributes == {"action": "cartwheel"}
    assert "an edit names another label" in problems.notes[1]


def test_words_of_splits_are_understood(tmp_path: Path) -> None:
    splits = ("training", "Train", "valid", "TEST")
    text = "file,label,subset\n" + "".join(
        f"v{n}.mp4,{'103b' if n % 2 else '105b'},{splits[n % 4]}\n" for n in range(8)
    )
    clips, _ = read(tmp_path, text)
    assert [clip.split for clip in clips[:4]] == ["train", "train", "val", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,judge,date\nv0.mp4,1,2\n", "no column is known that holds the labels"),
        ("what,dive\nx9.mp4,103b\n", "no column is known that names the videos"),
        ("file,dive\nv0.mp4,103b\nvv1.mp4,103b\n", "line 3: 'vv1.mp4' is not among the 8 videos .*nearest name is 'v1"),
        ("file,dive\nv0.mp4,103b\nv1.mp4,103b\n", "holds only '103b'; training needs two labels"),
        ("file,dive\nv0.mp4,\n", "holds no label"),
        ("file,dive\nv0.mp4,103b\nv1.mp4,105b\n", "no labelled clip is for 'val'.* at least one label needs three"),
        ("file,dive,subset\nv0.mp4,103b,test\nv1.mp4,105b,val\n", "'train': column 'subset' gives 1 test, 1 val"),
        ("file,dive,split\nv0.mp4,103b,trian\n", "split is 'trian'; it must be train, val, test or empty"),
        ("file,dive,start\nv0.mp4,103b,soon\n", "line 2: start is 'soon'; it must be seconds"),
        ("file,dive,id\nv0.mp4,103b,x\nv1.mp4,105b,x\n", "line 3: clip id is 'x', as in line 2"),
        ("file,dive\n", "has no rows that can be used"),
    ],
)  # fmt: skip
def test_everyday_mistakes_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    clips, problems = read(tmp_path, "file,dive\ngone.mp4,103b\n" + rows(), skip_bad=True)
    assert len(clips) == 8
    assert len(problems.messages) == 1


def test_a_name_that_two_videos_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos" / "day 2").mkdir(parents=True)
    (tmp_path / "videos" / "day 2" / "v0.mp4").touch()
    with pytest.raises(ValueError, match=r"'v0\.mp4' names 2 videos"):
        read(tmp_path, "file,dive\n" + rows())
    clips, _ = read(tmp_path, "file,dive\n" + rows().replace("v0", "day 2/v0"))
    assert clips[0].video_uri.endswith("day 2/v0.mp4")


def test_videos_of_linked_folders_are_found_once(tmp_path: Path) -> None:
    videos, elsewhere = tmp_path / "videos", tmp_path / "disk"
    videos.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.mp4").touch()
    (videos / "day1").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(videos)
    names = VideoNames(str(videos))
    assert names.uri("day1/a.mp4") == str(elsewhere / "a.mp4")
    assert len(names.paths) == 1


def test_a_timecode_counts_the_frames_of_its_video(tmp_path: Path) -> None:
    text = "file,start,end,label,split\n" + "".join(
        f"v{n}.mp4,00:00:00:05,00:00:01:00,{label},{split}\n"
        for n, (label, split) in enumerate(
            (label, split) for split in ("train", "val", "test") for label in ("103b", "105b")
        )
    )
    videos = tmp_path / "videos" / "day 1"
    videos.mkdir(parents=True)
    for number in range(6):
        write_video(videos / f"v{number}.mp4", VideoSpec(num_frames=40, fps=20))
    clips, problems = read(tmp_path, text, num_videos=0)
    assert {(clip.start_s, clip.end_s) for clip in clips} == {(0.25, 1.0)}
    (videos / "v7.mp4").write_text("no video")
    wrong = [("v7.mp4", "cannot|corrupt|container"), ("s3://b/v.mp4", "s3://b/v.mp4")]
    for name, told in wrong:
        line = f"{name},00:00:00:05,00:00:01:00,103b,train\n"
        with pytest.raises(ValueError, match=rf"line 8: start is '00:00:00:05'.*({told})"):
            read(tmp_path, text + line, num_videos=0)
    assert problems.messages == []


def test_an_import_that_fails_lists_the_bad_rows_before_it(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    (tmp_path / "v0.mp4").touch()
    listed = tmp_path / "out" / "clips.problems.txt"
    for text, why in (("v0.mp4,103b\n", "only '103b'"), ("", "no rows that can be used")):
        labels.write_text(f"file,label\nv8.mp4,105b\nv9.mp4,107b\n{text}")
        config = ImportLabelFile(
            labels=labels,
            videos=str(tmp_path),
            out=tmp_path / "out" / "clips.parquet",
            skip_bad=True,
        )
        with pytest.raises(ValueError, match=rf"{why}.*2 rows are bad, see .*problems.txt"):
            import_annotations(config)
        assert [line.split(": ")[1] for line in listed.read_text().splitlines()] == [
            "line 2",
            "line 3",
        ]
