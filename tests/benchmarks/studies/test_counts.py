"""What a condition hides from training is what it asks, and differences come from paired draws of whole clips and label pairs."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.studies.counts import CONDITIONS, READERS, compare, main, recipe
from training.annotations.triplets.table import Triplet
from training.recipes import demo_fusion

LABELS = [f"{n}{letter}" for n in range(101, 108) for letter in "bc"]
TEXTS = ("show it with 2.5 somersaults", "with two and a half somersaults", "show it tucked")


def triplets() -> list[Triplet]:
    made = []
    for split in ("train", "val", "test"):
        for source in LABELS:
            for target in LABELS:
                for n, text in enumerate(TEXTS):
                    made.append(
                        Triplet(
                            query_id=f"{split}-{source}-{n}->{target}",
                            query_clip_id=f"{split}-{source}-{n}",
                            edit_text=text,
                            target_clip_ids=(f"{split}-{target}-9",),
                            source_label=source,
                            target_label=target,
                            split=split,
                        )
                    )
    return made


def parts(name: str) -> tuple[list[Triplet], list[Triplet]]:
    (condition,) = [c for c in CONDITIONS if c.name == name]
    kept = condition.triplets(triplets())
    assert [t for t in kept if t.split == "val"] == [t for t in triplets() if t.split == "val"]
    asked = [t for t in kept if t.split == "test"]
    assert asked
    assert "show it tucked" not in {t.edit_text for t in asked}  # counts nothing
    return [t for t in kept if t.split == "train"], asked


def test_label_pairs_that_are_asked_were_never_shown():
    shown, asked = parts("other_pairs")
    pairs = [{(t.source_label, t.target_label) for t in part} for part in (shown, asked)]
    assert pairs[0]
    assert not pairs[0] & pairs[1]
    assert len(pairs[0] | pairs[1]) == len(LABELS) ** 2
    assert 0.25 < len(pairs[0]) / len(LABELS) ** 2 < 0.42  # one of three


def test_numbers_are_shown_in_words_and_asked_in_digits():
    shown, asked = parts("other_notation")
    assert {t.edit_text for t in shown} == set(TEXTS[1:])
    assert {t.edit_text for t in asked} == {TEXTS[0]}


def test_few_shows_one_triplet_of_sixteen_and_asks_all_counts():
    shown, asked = parts("few")
    everything = [t for t in triplets() if t.split == "train"]
    assert 0.03 < len(shown) / len(everything) < 0.1
    assert len(asked) == len(everything) * 2 // 3


def test_triplets_that_leave_nothing_to_ask_are_refused():
    without_counts = [t for t in triplets() if t.edit_text == "show it tucked"]
    with pytest.raises(ValueError, match="'few': 588 triplets leave it nothing"):
        CONDITIONS[-1].triplets(without_counts)


def test_readers_differ_in_how_they_read_and_in_nothing_else():
    configs = {reader: recipe(reader, seed=3, num_shown=960) for reader in READERS}
    demo = demo_fusion()
    for reader, config in configs.items():
        same = {name: getattr(demo, name) for name in READERS[reader]}
        assert replace(config, **same) == configs["words"]
    assert configs["words"].loop.num_epochs == 32  # 15 steps of 64 each: 480 steps
    assert configs["words"].loop.seed == 3


def test_a_difference_is_paired_and_an_equal_gain_has_no_width():
    rng = np.random.default_rng(0)
    asked = [t for t in triplets() if t.split == "test"]
    words_N = rng.random(len(asked)) / 2
    found = compare({"words": words_N, "counts": words_N + 0.25}, asked)
    assert set(found) == {"words", "counts", "counts_minus_words"}
    gain = found["counts_minus_words"]
    assert [gain.value, gain.low, gain.high] == pytest.approx([0.25] * 3, abs=1e-12)
    assert found["words"].low < words_N.mean() < found["words"].high


def test_a_folder_without_a_finished_demo_and_no_seed_are_refused(tmp_path, capsys):
    flags = ["--demo", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(flags)
    assert "no demo has finished there" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(SystemExit):
        main([*flags, "--num-seeds", "0"])
    assert "at least 1" in capsys.readouterr().err
