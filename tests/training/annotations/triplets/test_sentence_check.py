import random

import pytest

from training.annotations.labels.pairs import AttributeChange, LabelPair
from training.annotations.triplets.sentence_check import refusal
from training.annotations.triplets.templates import absolute_phrases

VALUES = {
    "take_off": ["forward", "back", "reverse", "inward"],
    "somersaults": ["1.5", "2.5", "3.5"],
    "twists": ["0", "1", "1.5", "2"],
    "position": ["straight", "pike", "tuck"],
    "armstand": ["yes", "no"],
}
VOCABULARY = [
    AttributeChange(name=name, source=source, target=target)
    for name, values in VALUES.items()
    for source in values
    for target in values
    if source != target
]


def pair(**changes: tuple[str, str]) -> LabelPair:
    return LabelPair(
        source_label="105b",
        target_label="5253b",
        changes=tuple(
            AttributeChange(name=name, source=source, target=target)
            for name, (source, target) in changes.items()
        ),
    )


def test_every_absolute_template_would_be_accepted():
    rng = random.Random(0)
    for _ in range(300):
        names = rng.sample(sorted(VALUES), rng.choice([1, 2]))
        asked = pair(**{name: tuple(rng.sample(VALUES[name], 2)) for name in names})
        if len({"no", "0"} & {change.target for change in asked.changes}) and "armstand" in names:
            continue  # "with no twists, as an armstand": polarity cannot be told, refused on purpose
        for _ in range(5):
            text = " and ".join(rng.choice(absolute_phrases(change)) for change in asked.changes)
            assert refusal(f"Show it {text}", asked, VOCABULARY) is None, text


@pytest.mark.parametrize(
    ("sentence", "changes", "reason"),
    [
        ("with 1.5 twists", {"twists": ("1.5", "2")}, "does not say 2 twists"),
        ("with twists", {"twists": ("1.5", "2")}, "does not say 2 twists"),
        ("with 2 twists instead of 1.5", {"twists": ("1.5", "2")}, "says the number 1.5"),
        ("with 2.5 somersaults and 2 twists", {"twists": ("1.5", "2")}, "says the number 2.5"),
        ("with 2 twists and 2 somersaults", {"twists": ("1.5", "2")}, "exactly one number per new numeric value"),
        ("with one more twist", {"twists": ("0", "1")}, "is relative"),
        ("with a single twist", {"twists": ("0", "1")}, "is relative"),
        ("with twists", {"twists": ("1", "0")}, "does not say no twist"),
        ("in pike", {"position": ("pike", "tuck")}, "does not say position tuck"),
        ("in tuck, not pike", {"position": ("pike", "tuck")}, "says position pike"),
        ("in tuck from a back take-off", {"position": ("pike", "tuck")}, "says take_off back"),
        ("without an armstand", {"armstand": ("no", "yes")}, "does not say armstand yes"),
        ("as an armstand", {"armstand": ("yes", "no")}, "does not say armstand no"),
        ("as 5253b in tuck", {"position": ("pike", "tuck")}, "names the label 5253b"),
        ("", {"position": ("pike", "tuck")}, "0 words"),
        ("tuck " * 31, {"position": ("pike", "tuck")}, "31 words"),
        ("with 2.5 twists and 1.5 somersaults",
         {"somersaults": ("3.5", "2.5"), "twists": ("0", "1.5")}, "does not say 2.5 somersaults"),
        ("with 2.5 somersaults", {"somersaults": ("3.5", "2.5"), "twists": ("0", "1.5")}, "1.5 twists"),
    ],
)  # fmt: skip
def test_a_wrong_sentence_is_refused_with_its_reason(sentence, changes, reason):
    assert reason in (refusal(sentence, pair(**changes), VOCABULARY) or "accepted")


@pytest.mark.parametrize(
    ("sentence", "changes"),
    [
        ("Make it two and a half full twists", {"twists": ("0", "2.5")}),
        ("3.5 somersaults, tucked", {"somersaults": ("2.5", "3.5"), "position": ("pike", "tuck")}),
        ("with 2.5 somersaults 1 twist", {"somersaults": ("1.5", "2.5"), "twists": ("0", "1")}),
    ],
)
def test_free_wording_is_accepted(sentence, changes):
    assert refusal(sentence, pair(**changes), VOCABULARY) is None
