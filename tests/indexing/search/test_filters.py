import pytest

from indexing.search.filters import FilterFields

FIELDS = FilterFields(attributes={"twists": ("0", "1.5", "2.5"), "position": ("pike", "tuck")})


def test_values_become_literals_and_names_come_from_a_table() -> None:
    found = FIELDS.compile({"split": "test", "label": ["a", "b"], "start_s": (1, None)})
    assert found.condition == 'split in ["test"] and label in ["a", "b"] and start_s >= 1.0'
    assert FIELDS.compile({"twists": (1, 3)}).condition == (
        '(attributes["twists"] >= "1.5" and attributes["twists"] <= "2.5")'
    )
    assert FIELDS.compile({"twists": 2.5}).condition == 'attributes["twists"] == "2.5"'
    assert FIELDS.compile({"duration_s": (1, 6)}).duration_s == (1.0, 6.0)
    assert FIELDS.compile(None).condition == ""


@pytest.mark.parametrize(
    ("value", "text"), [(2, "2"), (2.0, "2"), (0.1, "0.1"), (12345678, "12345678"), (-0.0, "0"), (1e15, "1000000000000000")]
)  # fmt: skip
def test_a_number_is_written_as_attributes_are(value: float, text: str) -> None:
    condition = FIELDS.compile({"twists": value}).condition
    equal = f'attributes["twists"] == "{text}"'
    # Columns of floats write whole numbers with a point.
    assert condition == (f'({equal} or {equal[:-1]}.0")' if text.isdigit() else equal)
    assert FIELDS.compile({"twists": text}).condition == condition


def test_an_empty_range_names_some_of_the_values() -> None:
    fields = FilterFields(attributes={"n": tuple(str(n) for n in range(3000))})
    with pytest.raises(ValueError, match=r"in 5000.0 to 6000.0; it has 0, 1, .*, 19 \.\.\.$"):
        fields.compile({"n": (5000, 6000)})


@pytest.mark.parametrize("value", [10**400, -(10**400), 2**63, float("inf"), float("nan"), (0, 10**400), (10**400, None)])  # fmt: skip
def test_a_number_that_does_not_fit_is_the_fault_of_the_filter(value: object) -> None:
    with pytest.raises(ValueError, match="twists"):
        FIELDS.compile({"twists": value})


@pytest.mark.parametrize("name", ["start_s", "duration_s"])
@pytest.mark.parametrize("value", [10**400, (0, 10**400), float("nan")])
def test_a_bound_that_does_not_fit_is_the_fault_of_the_filter(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        FIELDS.compile({name: value})


@pytest.mark.parametrize("value", ['a" or "" == "', 'a\\" or 1 == 1 or "', "a\\", '"]'])
def test_no_value_ends_its_literal(value: str) -> None:
    """Read back by a reader of its own: the literal holds the value, and nothing follows it."""
    import json

    condition = FIELDS.compile({"split": value}).condition
    assert json.loads(condition.removeprefix("split in ")) == [value]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"embedding": 1}, r"no filter is named 'embedding'; allowed are clip_id, duration_s"),
        ({"split or 1": "a"}, "no filter is named"),
        ({"split": 3}, "must be a text"),
        ({"split": "a\x00b"}, "null characters"),
        ({"split": "a\ud800"}, "halves of characters"),
        ({"split": []}, "0 values"),
        ({"start_s": "1 or 1"}, "must be a number"),
        ({"start_s": (3, 1)}, "low must not be above high"),
        ({"start_s": float("nan")}, "low must not be above high"),
        ({"duration_s": True}, "must be a number"),
        ({"twists": (7, 9)}, "no value of 'twists' lies in 7.0 to 9.0; it has 0, 1.5, 2.5"),
    ],
)
def test_what_is_no_filter_is_named(filters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FIELDS.compile(filters)
