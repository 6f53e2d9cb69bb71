"""Every kind of video in every format, with few spans; and the benchmark sees an export that is off by a frame."""

import pytest

from benchmarks.studies import handoff
from benchmarks.studies.handoff import KINDS, Config, measure
from indexing.handoff import export


def test_every_format_names_the_frames_that_were_meant() -> None:
    figures = measure(Config(num_spans=5 * len(KINDS), num_frames=120))
    num_variable = 5 * len(handoff.IN_FRAMES)
    assert figures == {
        "spans": 5 * len(KINDS),
        "spans_read_back": 5 * len(KINDS) * len(export.FORMATS) - num_variable,
        "spans_in_reel": figures["spans_in_reel"],
        "off_by_a_frame": 0,
        "rejected": 0,
        "refused_variable": num_variable,
        "formats": len(export.FORMATS),
        "kinds": len(KINDS),
    }
    assert 4 * len(KINDS) < int(str(figures["spans_in_reel"])) <= 5 * len(KINDS)


def test_an_export_that_is_off_by_a_frame_is_counted(monkeypatch) -> None:
    write = export.FORMATS[".xml"]

    def late(cuts, title: str) -> str:
        return write(cuts, title).replace("<in>1", "<in>2")

    monkeypatch.setitem(export.FORMATS, ".xml", late)
    monkeypatch.setattr(handoff, "KINDS", KINDS[1:2])
    assert measure(Config(num_spans=40, num_frames=120))["off_by_a_frame"]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_frames is 2000"):
        Config(num_frames=2000)
    with pytest.raises(ValueError, match="num_spans is 3"):
        Config(num_spans=3)
