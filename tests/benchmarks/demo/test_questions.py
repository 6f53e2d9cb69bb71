"""Questions are drawn before any search, one per kind of change, and do not depend on row order."""

import random

import pytest
from PIL import Image

from benchmarks.demo.questions import AskConfig, choose_questions, stack_pictures
from encoders.clips import Clip
from training.annotations.labels.dive_numbers import parse_dive_number
from training.annotations.triplets.table import Triplet

LABELS = ("103b", "105b", "5152b", "5154b", "405c")


def archive() -> list[Clip]:
    return [
        Clip(
            clip_id=f"{label}-{number}",
            video_uri=f"/v/{label}-{number}.mp4",
            label=label,
            split="test",
            attributes=parse_dive_number(label).attributes,
        )
        for label in LABELS
        for number in range(3)
    ]


def triplets(clips: list[Clip]) -> list[Triplet]:
    return [
        Triplet(
            query_id=f"{clip.clip_id}->{label}",
            query_clip_id=clip.clip_id,
            edit_text="otherwise",
            target_clip_ids=(f"{label}-0",),
            source_label=clip.label,
            target_label=label,
            split="test",
        )
        for clip in clips
        for label in LABELS
        if label != clip.label
    ]


def test_questions_ask_for_different_kinds_of_change_single_ones_first() -> None:
    clips = archive()
    chosen = choose_questions(triplets(clips), clips, num_questions=3)
    kinds = []
    for triplet in chosen:
        before = parse_dive_number(str(triplet.source_label)).attributes
        after = parse_dive_number(str(triplet.target_label)).attributes
        kinds.append(tuple(sorted(name for name in before if before[name] != after[name])))
    assert len(set(kinds)) == 3
    assert {("somersaults",), ("twists",)} <= set(kinds)


def test_the_order_of_the_rows_does_not_matter() -> None:
    clips = archive()
    rows = triplets(clips)
    shuffled = random.Random(5).sample(rows, len(rows))
    assert choose_questions(rows, clips, num_questions=4) == choose_questions(
        shuffled, clips, num_questions=4
    )


def test_too_few_triplets_is_an_error_that_counts_them() -> None:
    clips = archive()
    with pytest.raises(ValueError, match="has 2 triplets; 3 questions"):
        choose_questions(triplets(clips)[:2], clips, num_questions=3)


def test_pictures_are_stacked_without_loss(tmp_path) -> None:
    colours = {"red": (30, 10), "blue": (20, 15)}
    paths = []
    for colour, size in colours.items():
        paths.append(tmp_path / f"{colour}.png")
        Image.new("RGB", size, colour).save(paths[-1])
    stack_pictures(paths, tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as stacked:
        assert stacked.size == (30, 25)
        assert stacked.getpixel((5, 5)) == (255, 0, 0)
        assert stacked.getpixel((5, 12)) == (0, 0, 255)


def test_no_question_and_no_answer_are_refused(tmp_path) -> None:
    places = dict.fromkeys(("bundle", "clips", "triplets", "out"), tmp_path)
    for change in ({"num_questions": -1}, {"limit": 0}):
        with pytest.raises(ValueError, match="both must be at least 1"):
            AskConfig(**places, milvus_uri="x", **change)
