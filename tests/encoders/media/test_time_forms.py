"""Times as people and programs write them."""

import pytest

from encoders.media.time_forms import parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12), ("12.5", 12.5), (".5", 0.5), ("12.", 12), ("0:01", 1), ("90:00", 5400), ("1:02:03.5", 3723.5),
        ("00:01:02,500", 62.5), (" 7 ", 7), ("01:59.999", 119.999), ("90s", 90), ("1h2m3.5s", 3723.5), ("2M", 120), ("1h", 3600),
    ],
)  # fmt: skip
def test_usual_forms(text, seconds) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "1_0",
        "-1",
        "nan",
        "1e3",
        "1:60",
        "1:60:00",
        "1:2:3:4",
        "\u0661",
        "1.2.3",
        "0:-1",
        "1s2m",
        "1m2",
        "h",
        "1:2s",
    ],
)
def test_others_are_named(text) -> None:
    with pytest.raises(ValueError, match="time "):
        parse_seconds(text)
