"""What gymnastics names say, against hand-read ones."""

import pytest

from training.annotations.labels.dive_numbers import DIVE_CLASSES
from training.annotations.labels.gym_names import parse_gym_name
from training.annotations.labels.names import gym99_names, label_attributes, released_labels
from training.annotations.labels.pairs import label_pairs

BY_HAND = {
    "(VT) round-off, flic-flac with 0.5 turn on, stretched salto forward with 0.5 turn off": {
        "apparatus": "vault", "element": "round-off vault", "take_off": "flic-flac with a turn",
        "direction": "forward", "position": "straight", "turns": "0.5",
    },
    "(VT) round-off, flic-flac on, stretched salto backward off": {
        "apparatus": "vault", "element": "round-off vault", "take_off": "flic-flac",
        "direction": "backward", "position": "straight", "turns": "0",
    },
    "(FX) double salto backward piked with 1 twist": {
        "apparatus": "floor", "element": "salto", "somersaults": "2", "direction": "backward",
        "position": "pike", "twists": "1", "landing": "feet together",
    },
    "(FX) split leap with 1.5 turn or more": {
        "apparatus": "floor", "element": "split leap", "turns": "1.5 or more", "position": "usual",
    },
    "(FX) 2 turn in tuck stand on one leg, free leg straight throughout turn": {
        "apparatus": "floor", "element": "turn on one leg", "turns": "2", "position": "tuck stand",
    },
    "(BB) johnson (leap forward with leg change and 0.25 turn to side split or straddle pike position)": {
        "apparatus": "beam", "element": "johnson", "turns": "0", "position": "usual",
    },
    "(BB) salto backward stretched-step out (feet land successively)": {
        "apparatus": "beam", "element": "salto", "somersaults": "1", "direction": "backward",
        "position": "straight", "twists": "0", "landing": "step out",
    },
    "(UB) (swing forward) double salto backward tucked with 1 turn": {
        "apparatus": "bars", "element": "salto", "somersaults": "2", "direction": "backward",
        "position": "tuck", "twists": "1", "landing": "feet together", "take_off": "swing forward",
    },
    "(UB) giant circle forward with 0.5 turn to handstand": {
        "apparatus": "bars", "element": "giant circle", "direction": "forward", "turns": "0.5",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_a_name_says_what_a_reader_reads(name):
    assert parse_gym_name(name) == BY_HAND[name]


def test_at_least_95_percent_of_the_99_names_say_two_things_or_more():
    names = gym99_names()
    assert len(names) == 99
    num_parsed = sum(len(parse_gym_name(name)) >= 2 for name in names)
    assert num_parsed >= 0.95 * len(names)
    # Beyond the apparatus, which every name begins with.
    assert sum(len(parse_gym_name(name)) >= 3 for name in names) >= 0.95 * len(names)


def test_only_equal_names_say_the_same():
    names_by_attributes = {}
    for name in set(gym99_names()):
        names_by_attributes.setdefault(tuple(sorted(parse_gym_name(name).items())), []).append(name)
    assert [names for names in names_by_attributes.values() if len(names) > 1] == []


def test_all_47_dive_numbers_of_the_released_labels_say_two_things_or_more():
    dives = [label for label in released_labels() if not label.isdigit()]
    assert sorted(dives) == sorted(DIVE_CLASSES)
    assert all(len(label_attributes(label)) >= 2 for label in dives)


def test_released_labels_are_306_indices_and_bare_numbers_stay_unnamed():
    labels = released_labels()
    assert sorted(labels.values()) == list(range(306))
    assert all(label_attributes(label) == {} for label in labels if label.isdigit())


def test_edits_lead_between_gymnastics_labels():
    pairs = label_pairs(
        {name: label_attributes(name) for name in set(gym99_names())}, max_changes=1
    )
    changes = {(pair.source_label, pair.target_label): pair.changes[0] for pair in pairs}
    twists = changes[
        "(FX) salto backward stretched with 2 twist", "(FX) salto backward stretched with 3 twist"
    ]
    assert (twists.name, twists.source, twists.target) == ("twists", "2", "3")


@pytest.mark.parametrize("name", ["", "stag jump", "(PH) circle", "(FX)", "(FX) handstand"])
def test_other_texts_say_nothing(name):
    assert parse_gym_name(name) == {}
