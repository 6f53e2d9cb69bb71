from fractions import Fraction

import opentimelineio as otio
import pytest

from encoders.media.timecode import can_drop_frames, frame_of, parse_seconds, timecode_of

NTSC_30, NTSC_60 = Fraction(30000, 1001), Fraction(60000, 1001)


@pytest.mark.parametrize("rate", [NTSC_30, NTSC_60])
def test_drop_frame_labels_leave_out_the_first_of_every_minute_but_each_tenth(rate) -> None:
    per_second, dropped = round(rate), 2 if rate == NTSC_30 else 4
    labels = (
        f"{minute // 60:02}:{minute % 60:02}:{second:02};{frame:02}"
        for minute in range(75)
        for second in range(60)
        for frame in range(per_second)
        if second or minute % 10 == 0 or frame >= dropped
    )
    for number, label in enumerate(labels):
        assert timecode_of(number, rate, is_drop_frame=True) == label
        if number % 997 == 0:
            assert frame_of(label, rate) == (number, True)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), NTSC_30, Fraction(50), NTSC_60])
@pytest.mark.parametrize("is_drop_frame", [False, True])
def test_labels_of_a_day_are_those_of_opentimelineio(rate, is_drop_frame) -> None:
    if is_drop_frame and not can_drop_frames(rate):
        with pytest.raises(ValueError, match=r"drop-frame timecode exists at 29\.97"):
            timecode_of(5, rate, is_drop_frame=True)
        return
    for frame in range(0, 86_000 * round(rate), 99_991):
        time = otio.opentime.RationalTime(frame, float(rate))
        expected = otio.opentime.to_timecode(time, float(rate), is_drop_frame)
        label = timecode_of(frame, rate, is_drop_frame=is_drop_frame)
        assert label == expected
        assert frame_of(label, rate) == (frame, is_drop_frame)


def test_what_is_not_a_timecode_is_refused() -> None:
    for text in ("", "1:2:3", "00:00:60:00", "00:61:00:00", "00:00:00:25", "00:00:00"):
        with pytest.raises(ValueError, match="timecode"):
            frame_of(text, Fraction(25))
    assert frame_of("01:00:00;10", Fraction(25)) == (90_010, False)  # no drop-frame at 25
    assert timecode_of(25 * 86_400, Fraction(25), is_drop_frame=False) == "00:00:00:00"


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
        "1" * 400 + "h",
        "1" * 400,
    ],
)
def test_others_are_named(text) -> None:
    with pytest.raises(ValueError, match="time "):
        parse_seconds(text)
