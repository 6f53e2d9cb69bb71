import pytest

from indexing.labelling.clicks import Click, Clicks, Record, record_of


def clicks_of(*steps: dict) -> Clicks:
    clicks = Clicks()
    for number, values in enumerate(steps):
        click = Click(click_id=f"click-{number:03d}", clip_id="a", **values)
        clicks.check(click, {})
        clicks.add(Record(click=click, video_uri="v.mp4", start_s=1.0, end_s=4.0, received_at=""))
    return clicks


def label(text: str) -> dict:
    return {"kind": "label", "label": text}


def undo(number: int) -> dict:
    return {"kind": "undo", "undoes": f"click-{number:03d}"}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((label("x"), label("y")), "y"),
        ((label("x"), label("y"), undo(1)), "x"),
        ((label("x"), undo(0)), None),
        ((label("x"), undo(0), undo(1)), "x"),  # redone
        ((label("x"), undo(0), undo(1), undo(2)), None),
        ((label("x"), label("y"), undo(0)), "y"),
        ((label("x"), label("")), ""),
        ((label("x"), {"kind": "not", "label": "x"}), None),
        (({"kind": "not", "label": "x"}, label("x")), "x"),
        ((label("x"), {"kind": "not", "label": "y"}), "x"),
    ],
)
def test_the_label_that_clicks_come_to(steps: tuple[dict, ...], expected: str | None) -> None:
    state = clicks_of(*steps).state("a")
    assert state is not None
    assert state.label == expected


def test_spans_are_moved_and_moved_back() -> None:
    moved = ({"kind": "span", "start_s": 1.5, "end_s": 3.0}, {"kind": "span", "start_s": 1.52, "end_s": 3.0})  # fmt: skip
    assert clicks_of(*moved).state("a").start_s == 1.52
    assert clicks_of(*moved, undo(1)).state("a").start_s == 1.5
    back = clicks_of(*moved, undo(1), undo(0)).state("a")
    assert (back.start_s, back.end_s, back.is_moved) == (1.0, 4.0, False)


def test_what_was_passed_over_is_not_asked_again_until_it_is_undone() -> None:
    assert clicks_of({"kind": "skip"}).state("a").is_asked
    assert not clicks_of({"kind": "skip"}, undo(0)).state("a").is_asked
    assert not clicks_of({"kind": "not", "label": "x"}).state("a").is_asked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "label", "click_id": "short"}, "8 to 64"),
        ({"kind": "like"}, "choose one of"),
        ({"kind": "label", "label": "x" * 257}, "at most 256"),
        ({"kind": "label", "label": " x"}, "without space"),
        ({"kind": "label", "label": "x\ny"}, "one line"),
        ({"kind": "label", "label": "x\u2028y"}, "one line"),
        ({"kind": "not"}, "label is ''"),
        ({"kind": "skip", "label": "x"}, "label is 'x'"),
        ({"kind": "undo"}, "undoes is ''"),
        ({"kind": "span", "start_s": 2.0, "end_s": 2.0}, "0 <= start and lasts"),
        ({"kind": "span", "start_s": 0.0, "end_s": float("nan")}, "0 <= start and lasts"),
        ({"kind": "label", "label": "x", "start_s": 1.0, "end_s": 2.0}, "another click neither"),
    ],
)
def test_a_click_that_cannot_be_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Click(**{"click_id": "click-001", "clip_id": "a"} | values)


def test_a_record_is_read_as_it_was_written() -> None:
    click = Click(click_id="click-001", kind="span", clip_id="a", start_s=0.0, end_s=2.5)
    record = Record(click=click, video_uri="v", start_s=0.0, end_s=None, received_at="now")
    assert record_of(record.to_dict(), "here") == record
    with pytest.raises(ValueError, match="here: not a click"):
        record_of({"click_id": "click-001"}, "here")


def test_clicks_stay_with_the_span_and_not_with_the_id() -> None:
    """A row that is put into a table shifts the ids that are made of its lines, and the next index has them on other spans."""
    clicks = clicks_of(label("pike"))
    state = clicks.state("a")
    assert state is not None
    assert state.is_of("/moved/v.mp4", 1.0, 4.0)
    assert not state.is_of("v.mp4", 4.0, 7.0)
    assert not state.is_of("w.mp4", 1.0, 4.0)
    assert not state.is_of("v.mp4", 1.0, None)
    other = Click(click_id="click-100", clip_id="a", kind="not", label="tuck")
    clicks.add(Record(click=other, video_uri="v.mp4", start_s=4.0, end_s=7.0, received_at=""))
    state = clicks.state("a")
    assert state is not None
    assert (state.label, state.not_labels) == (None, {"tuck"})  # pike was said of another span
    assert state.is_of("v.mp4", 4.0, 7.0)
