"""What a condition hides from training is what it asks, texts keep their meaning in other words, and missing figures stay missing."""

from dataclasses import replace

import pytest

from benchmarks.studies.composition.archives import (
    PLANS,
    ArchivePlan,
    add_distractors,
    make_archive,
)
from benchmarks.studies.composition.conditions import (
    CONDITIONS,
    HELD_OUT_CLASSES,
    UNSEEN_CLASS,
    Condition,
    edit_operations,
    reworded,
)
from benchmarks.studies.composition.run import (
    OURS,
    headline,
    jobs,
    main,
    row_configs,
    with_steps,
)
from encoders.clips import read_clips
from encoders.query_encoder.factors import find_factors
from training.annotations.labels.dive_numbers import DIVE_CLASSES
from training.annotations.labels.names import label_attributes
from training.annotations.triplets.table import Triplet, read_triplets
from training.recipes import demo_actions_tiny
from training.vectors.tables import read_unit_vectors

LABELS = ("103b", "105b", "107b", "107c", "205b", "205c", "5132d", "5134d", "5152b", "5154b")
BY_NAME = {condition.name: condition for condition in (*CONDITIONS, UNSEEN_CLASS)}


def triplets() -> list[Triplet]:
    return [
        Triplet(
            query_id=f"{split}-{source}-{n}->{target}",
            query_clip_id=f"{split}-{source}-{n}",
            edit_text="as the target",
            target_clip_ids=(f"{split}-{target}-9",),
            source_label=source,
            target_label=target,
            split=split,
        )
        for split in ("train", "val", "test")
        for source in LABELS
        for target in LABELS
        for n in range(3)
    ]


def parts(condition: Condition) -> dict[str, list[Triplet]]:
    kept = condition.triplets(triplets())
    return {split: [t for t in kept if t.split == split] for split in ("train", "val", "test")}


def pairs(part: list[Triplet]) -> set[tuple[str | None, str | None]]:
    return {(t.source_label, t.target_label) for t in part}


def test_pairs_that_are_shown_chosen_on_and_asked_are_different_ones():
    by_split = parts(BY_NAME["unseen_pairs"])
    shown, chosen, asked = (pairs(by_split[split]) for split in ("train", "val", "test"))
    assert not shown & chosen
    assert not shown & asked
    assert not chosen & asked
    assert len(shown | chosen | asked) == len(LABELS) ** 2
    assert 0.2 < len(shown) / len(LABELS) ** 2 < 0.45


@pytest.mark.parametrize("name", [name for name in BY_NAME if name.startswith("unseen_values")])
def test_a_held_out_value_is_never_shown_and_always_asked(name):
    attribute, value = name.removeprefix("unseen_values.").split("_", 1)
    by_split = parts(BY_NAME[name])
    for split in ("train", "val"):
        labels = {label for pair in pairs(by_split[split]) for label in pair}
        assert value not in {label_attributes(label or "")[attribute] for label in labels}
    for source, target in pairs(by_split["test"]):
        assert label_attributes(target or "")[attribute] == value
        assert label_attributes(source or "")[attribute] != value


def test_held_out_classes_are_asked_as_targets_only():
    by_split = parts(UNSEEN_CLASS)
    shown = {label for pair in pairs(by_split["train"]) for label in pair}
    assert not shown & set(HELD_OUT_CLASSES)
    assert {target for _, target in pairs(by_split["test"])} == set(HELD_OUT_CLASSES)


def test_few_shows_one_triplet_of_sixteen():
    by_split = parts(BY_NAME["few"])
    assert 0.02 < len(by_split["train"]) / len(by_split["test"]) < 0.12


def test_a_condition_that_leaves_a_split_empty_is_refused():
    with pytest.raises(
        ValueError, match="'unseen_pairs': 300 triplets leave nothing for test, val"
    ):
        BY_NAME["unseen_pairs"].triplets([t for t in triplets() if t.split == "train"])


def test_the_operations_of_an_edit_lead_to_the_target():
    factors = find_factors(label_attributes(label) for label in LABELS)
    by_name = {factor.name: factor for factor in factors}
    for triplet in triplets():
        reached = dict(label_attributes(triplet.source_label or ""))
        for operation in edit_operations(triplet, by_name):
            factor = operation.factor
            row = operation.truth_KK[factor.slot(reached[factor.name])]
            reached[factor.name] = factor.values[int(row.argmax())]
        wanted = label_attributes(triplet.target_label or "")
        assert {name: reached[name] for name in by_name} == {name: wanted[name] for name in by_name}


def test_other_words_are_of_another_bank_and_keep_everything_else():
    asked = [t for t in triplets() if t.source_label != t.target_label][:40]
    shown, held_out = reworded(asked, "shown"), reworded(asked, "held_out")
    assert [t.query_id for t in shown] == [t.query_id for t in held_out]
    assert not {t.edit_text for t in shown} & {t.edit_text for t in held_out}
    assert shown == reworded(asked, "shown")


def test_all_rows_have_the_same_steps_batch_and_seed():
    for config in row_configs().values():
        changed = with_steps(config, 1280)
        assert (changed.loop.batch_size, changed.loop.num_epochs) == (128, 100)
        assert with_steps(config, 50).loop.batch_size == 50


def test_what_was_not_measured_is_not_in_the_headline():
    figures = {f"unseen_pairs.{OURS}": 0.9, f"unseen_pairs.{OURS}.low": 0.8}
    assert headline(figures) == {"unseen_pairs_map50": 0.9, "unseen_pairs_low": 0.8}


def test_a_folder_without_a_demo_and_no_seed_are_refused(tmp_path, capsys):
    flags = ["--demo", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(flags)
    assert "no demo has finished there" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "out"), "--num-seeds", "0"])
    assert "at least 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_condition_has_an_archive_and_is_told_apart():
    assert {plan for plan, _condition in jobs().values()} == set(PLANS)
    assert set(PLANS["unseen_class"].unseen) == set(HELD_OUT_CLASSES)
    assert set(HELD_OUT_CLASSES) < set(PLANS["unseen_class"].classes)


def test_an_archive_is_made_once_and_stage_1_never_sees_what_is_held_out(tmp_path):
    tiny = demo_actions_tiny()
    plan = ArchivePlan(
        name="tiny",
        stage1=replace(tiny, loop=replace(tiny.loop, num_epochs=1)),
        rendered="open",
        classes=("103b", "105b", "107b"),
        clips_per_class=(2, 1, 1),
        unseen=("107b",),
    )
    folder = make_archive(plan, tmp_path)
    shown = read_clips(folder / "shown_to_stage1.parquet")
    assert {clip.label for clip in shown} == {"103b", "105b"}
    vectors = read_unit_vectors(folder / "vectors.parquet")
    assert set(vectors) == {clip.clip_id for clip in read_clips(folder / "clips.parquet")}
    labels = {t.target_label for t in read_triplets(folder / "triplets.parquet")}
    assert labels == {"103b", "105b", "107b"}
    before = (folder / "vectors.parquet").stat().st_mtime_ns
    assert make_archive(plan, tmp_path) == folder
    assert (folder / "vectors.parquet").stat().st_mtime_ns == before


def test_an_archive_of_all_classes_leaves_nothing_that_distracts(tmp_path):
    with pytest.raises(ValueError, match="nothing distracts"):
        add_distractors(tmp_path, set(DIVE_CLASSES), 10)
