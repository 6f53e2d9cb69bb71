import pytest

from indexing.search_command import parse_filters


def test_filters_are_values_lists_and_ranges() -> None:
    assert parse_filters(["split=test", "label=a,b", "duration_s=1..6", "start_s=..2.5"]) == {
        "split": "test",
        "label": ["a", "b"],
        "duration_s": (1.0, 6.0),
        "start_s": (None, 2.5),
    }


@pytest.mark.parametrize("text", ["split", "=test", "split=", "duration_s=a..b", ""])
def test_a_text_that_is_no_filter_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"filter {text!r}"):
        parse_filters([text])
