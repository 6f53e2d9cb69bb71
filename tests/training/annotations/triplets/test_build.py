import dataclasses
import json
import random
from collections import Counter
from itertools import permutations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.clips import Clip, write_clips
from tfcovr import run_command
from training.annotations.labels.dive_numbers import parse_dive_number
from training.annotations.triplets.build import (
    TripletConfig,
    build_triplets,
    build_triplets_with_report,
)
from training.annotations.triplets.table import Triplet, read_triplets, write_triplets

ATTRIBUTES = {
    f"{take_off[0]}{somersaults}-{twists}{position[0]}": {
        "take_off": take_off, "somersaults": somersaults, "twists": twists, "position": position,
    }
    for take_off in ("forward", "back")
    for somersaults in ("1.5", "2.5")
    for twists in ("0", "1.5")
    for position in ("pike", "tuck")
}  # fmt: skip


def random_clips(seed: int, *, num_clips: int = 120, num_videos: int = 40) -> list[Clip]:
    rng = random.Random(seed)
    clips = []
    for number in range(num_clips):
        label = rng.choice([*sorted(ATTRIBUTES), None])
        clips.append(
            Clip(
                clip_id=f"clip-{number:03d}",
                video_uri=f"/video-{rng.randrange(num_videos)}.mp4",
                label=label,
                split=rng.choice(["train", "train", "val", "test"]),
                attributes=ATTRIBUTES[label] if label else {},
            )
        )
    return clips


def brute_force(clips, max_changes=2):
    """(query clip, target label) -> target clips, by the definition and nothing else."""
    answers = {}
    for query in clips:
        for label in ATTRIBUTES:
            if query.label is None or query.label == label:
                continue
            mine, other = ATTRIBUTES[query.label], ATTRIBUTES[label]
            if sum(mine[name] != other[name] for name in mine) > max_changes:
                continue
            targets = {
                clip.clip_id
                for clip in clips
                if clip.label == label
                and clip.split == query.split
                and clip.video_uri != query.video_uri
            }
            answers[query.clip_id, label] = targets
    return answers


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_changes", [1, 2])
def test_all_triplets_equal_the_definition(seed, max_changes):
    clips = random_clips(seed, num_videos=8 if seed % 2 else 60)
    triplets, report = build_triplets_with_report(clips, TripletConfig(max_changes=max_changes))
    expected = brute_force(clips, max_changes)
    targets_by_edit = {(t.query_clip_id, t.target_label): set(t.target_clip_ids) for t in triplets}
    assert targets_by_edit == {key: targets for key, targets in expected.items() if targets}
    assert len(targets_by_edit) == len(triplets) == report.num_triplets == report.num_possible
    assert report.num_edits_without_target == sum(not targets for targets in expected.values())
    assert report.num_clips_without_label == sum(clip.label is None for clip in clips)
    num_targets = [len(targets) for targets in expected.values() if targets]
    assert report.mean_targets_per_query == pytest.approx(sum(num_targets) / len(num_targets))
    by_id = {clip.clip_id: clip for clip in clips}
    for triplet in triplets:
        query = by_id[triplet.query_clip_id]
        assert (triplet.source_label, triplet.split) == (query.label, query.split)
        assert len(set(triplet.target_clip_ids)) == len(triplet.target_clip_ids)


def test_pairs_per_attribute_are_counted_by_the_definition():
    clips = random_clips(3, num_clips=400)
    expected = Counter()
    labels = {clip.label for clip in clips if clip.label}
    for source, target in permutations(labels, 2):
        names = [n for n, value in ATTRIBUTES[source].items() if ATTRIBUTES[target][n] != value]
        if len(names) <= 2:
            expected[" + ".join(sorted(names))] += 1
    _, report = build_triplets_with_report(clips, TripletConfig())
    assert report.pairs_by_attribute == expected
    assert report.num_pairs == expected.total()


@pytest.mark.parametrize("seed", range(4))
def test_row_order_and_process_do_not_matter_and_the_seed_does(seed):
    clips = random_clips(seed)
    config = TripletConfig(num_triplets=200, max_targets=2, held_out_share=0.2, seed=seed)
    shuffled = random.Random(9).sample(clips, len(clips))
    assert build_triplets(clips, config) == build_triplets(shuffled, config)
    other = build_triplets(clips, dataclasses.replace(config, seed=seed + 1))
    assert build_triplets(clips, config) != other


@pytest.mark.parametrize("num_triplets", [1, 7, 100, 555])
def test_num_triplets_is_exact_and_spread_over_pairs(num_triplets):
    clips = random_clips(1, num_clips=300)
    everything = build_triplets(clips, TripletConfig())
    chosen = build_triplets(clips, TripletConfig(num_triplets=num_triplets))
    assert len(chosen) == min(num_triplets, len(everything))
    assert {t.query_id for t in chosen} <= {t.query_id for t in everything}
    possible = Counter((t.split, t.source_label, t.target_label) for t in everything)
    taken = Counter((t.split, t.source_label, t.target_label) for t in chosen)
    for split in ("train", "val", "test"):
        share = (
            num_triplets * sum(n for k, n in possible.items() if k[0] == split) / len(everything)
        )
        assert sum(n for k, n in taken.items() if k[0] == split) == pytest.approx(share, abs=1)
        level = max((taken[k] for k in possible if k[0] == split), default=0)
        for key, num_possible in possible.items():  # a pair is behind only where it has no more
            if key[0] == split:
                assert taken[key] >= min(num_possible, level - 1)


def test_max_targets_cuts_training_only():
    clips = random_clips(2, num_clips=400)
    expected = brute_force(clips)
    for triplet in build_triplets(clips, TripletConfig(max_targets=3)):
        targets = expected[triplet.query_clip_id, triplet.target_label]
        assert set(triplet.target_clip_ids) <= targets
        num_expected = min(3, len(targets)) if triplet.split == "train" else len(targets)
        assert len(set(triplet.target_clip_ids)) == num_expected


def test_cut_targets_differ_between_queries():
    triplets = build_triplets(random_clips(2, num_clips=600), TripletConfig(max_targets=1))
    by_label = {}
    for triplet in triplets:
        if triplet.split == "train":
            by_label.setdefault(triplet.target_label, set()).update(triplet.target_clip_ids)
    assert min(map(len, by_label.values())) > 5


def test_held_out_pairs_never_occur_in_training_and_do_in_test():
    clips = random_clips(4, num_clips=500)
    triplets, report = build_triplets_with_report(clips, TripletConfig(held_out_share=0.25))
    held_out = set(report.held_out_pairs)
    assert len(held_out) == round(0.25 * report.num_pairs)
    seen = {s: {f"{t.source_label}->{t.target_label}" for t in triplets if t.split == s}
            for s in ("train", "test")}  # fmt: skip
    assert not held_out & seen["train"]
    assert held_out & seen["test"]
    without = build_triplets(clips, TripletConfig())
    assert [t for t in without if t.split == "test"] == [t for t in triplets if t.split == "test"]


def test_given_texts_take_the_templates_place():
    clips = random_clips(5)
    pair = next((t.source_label, t.target_label) for t in build_triplets(clips, TripletConfig()))
    written = {pair: ["written by hand", "written by another hand"]}
    for triplet in build_triplets(clips, TripletConfig(), texts=written):
        is_written = triplet.edit_text in written[pair]
        assert is_written == ((triplet.source_label, triplet.target_label) == pair)


def test_texts_per_pair_bounds_the_different_texts_of_a_pair():
    clips = random_clips(6, num_clips=600)
    texts = {}
    for limit in (1, 4, None):
        texts_by_pair = texts[limit] = {}
        for triplet in build_triplets(clips, TripletConfig(texts_per_pair=limit)):
            pair = (triplet.source_label, triplet.target_label)
            texts_by_pair.setdefault(pair, set()).add(triplet.edit_text)
    assert {len(phrases) for phrases in texts[1].values()} == {1}
    assert 2.5 < sum(map(len, texts[4].values())) / len(texts[4]) <= 4
    assert max(map(len, texts[None].values())) > 16


def test_labels_whose_attributes_disagree_or_are_equal():
    clips = [
        Clip(clip_id="a", video_uri="/a", label="x", attributes={"twists": "1"}),
        Clip(clip_id="b", video_uri="/b", label="x", attributes={"twists": "2"}),
    ]
    with pytest.raises(ValueError, match=r"'a' and 'b'.*'x'.*'twists'.*'1' and '2'"):
        build_triplets(clips, TripletConfig())
    clips[1] = dataclasses.replace(clips[1], label="y", attributes={"twists": "1"})
    triplets, report = build_triplets_with_report(clips, TripletConfig())
    assert triplets == []
    assert report.labels_with_equal_attributes == (("x", "y"),)


def test_a_round_trip_through_the_file(tmp_path):
    triplets = build_triplets(random_clips(0), TripletConfig())
    triplets.append(
        Triplet(query_id="q", query_clip_id="c", edit_text="caf\u00e9", target_clip_ids=("t",))
    )
    write_triplets(tmp_path / "triplets.parquet", triplets)
    assert read_triplets(tmp_path / "triplets.parquet") == triplets
    assert [path.name for path in tmp_path.iterdir()] == ["triplets.parquet"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("edit_text", "", "row 1: edit_text is ''"),
        ("query_clip_id", None, "row 1: query_clip_id is None"),
        ("target_clip_ids", [], r"row 1: target_clip_ids is \[\]"),
        ("target_clip_ids", ["q1"], "row 1: target_clip_ids holds the query clip 'q1'"),
        ("query_id", "0", "row 1: query_id is '0', as in row 0"),
    ],
)
def test_a_bad_row_is_named(tmp_path, column, value, message):
    rows = [
        {"query_id": str(n), "query_clip_id": f"q{n}", "edit_text": "x", "target_clip_ids": ["t"]}
        for n in range(2)
    ]
    rows[1][column] = value
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=rf"bad\.parquet: {message}"):
        read_triplets(tmp_path / "bad.parquet")


def test_a_missing_or_mistyped_column_is_named(tmp_path):
    columns = {"query_id": ["a"], "query_clip_id": ["b"], "edit_text": ["c"]}
    pq.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=r"bad\.parquet: column 'target_clip_ids' is missing"):
        read_triplets(tmp_path / "bad.parquet")
    pq.write_table(pa.table({**columns, "target_clip_ids": ["d"]}), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=r"column 'target_clip_ids' has type string"):
        read_triplets(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_triplets", 0), ("max_targets", 0), ("max_changes", 0), ("texts_per_pair", 0), ("relative_share", 1.1),
     ("held_out_share", 1.0), ("held_out_share", -0.1)],
)  # fmt: skip
def test_a_config_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        TripletConfig(**{name: value})


def test_the_command_writes_triplets_and_a_summary(tmp_path, capsys):
    clips = random_clips(0)
    write_clips(tmp_path / "clips.parquet", clips)
    arguments = ["--clips", str(tmp_path / "clips.parquet"), "--out", str(tmp_path / "t.parquet")]
    assert run_command("triplets", [*arguments, "--num-triplets", "50", "--seed", "3"]) == 0
    expected = build_triplets(clips, TripletConfig(num_triplets=50, seed=3))
    assert read_triplets(tmp_path / "t.parquet") == expected
    assert "50 of" in capsys.readouterr().out
    assert json.loads((tmp_path / "t.json").read_text())["report"]["num_triplets"] == 50
    write_clips(tmp_path / "clips.parquet", [clip for clip in clips if clip.label is None])
    with pytest.raises(ValueError, match="no triplet can be made"):
        run_command("triplets", arguments)


def test_the_wording_of_an_edit_does_not_tell_which_pair_it_changes():
    """Pairs with the same changes draw from the same texts, so that the clip is needed to know the source."""
    codes = ("103b", "105b", "203b", "205b")
    clips = [
        Clip(
            clip_id=f"{code}-{number}",
            video_uri=f"/v/{code}-{number}.mp4",
            label=code,
            split="train",
            attributes=parse_dive_number(code).attributes,
        )
        for code in codes
        for number in range(200)
    ]
    triplets = build_triplets(clips, TripletConfig(texts_per_pair=8, relative_share=1.0))
    texts = {
        pair: {t.edit_text for t in triplets if (t.source_label, t.target_label) == pair}
        for pair in (("103b", "105b"), ("203b", "205b"))
    }
    assert texts["103b", "105b"] == texts["203b", "205b"]
    assert len(texts["103b", "105b"]) > 1
