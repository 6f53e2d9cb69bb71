"""Baskets: saved once, listed, taken out, exported, joined to a reel; and what is no basket."""

import json
from fractions import Fraction
from pathlib import Path

import av
import pytest

from benchmarks.studies.numbered_video import read_numbered_video, write_numbered_video
from encoders.media.errors import DecodeError
from indexing.handoff.basket import Basket
from indexing.search.types import ClipPlace
from tfcovr import run_command


def place(path: Path, start_s: float, end_s: float | None, label: str | None = None) -> ClipPlace:
    return ClipPlace(clip_id=path.stem, video_uri=str(path), start_s=start_s, end_s=end_s, label=label)  # fmt: skip


def test_a_basket_is_saved_listed_and_exported(tmp_path, capsys) -> None:
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    for path in (one, two):
        write_numbered_video(path, Fraction(25), 50)
    file = tmp_path / "best.basket"
    basket = Basket(file)
    assert basket.save([place(one, 0.0, 0.4, "pike"), place(two, 1.0, None)], note="in tuck") == 2
    assert basket.save([place(one, 0.0, 0.4), place(one, 1.0, 1.2)]) == 1
    assert [span.label for span in Basket(file)] == ["pike", None, None]
    assert run_command("basket", ["list", str(file)]) == 0
    listed = capsys.readouterr().out
    assert f"  1  pike  0.00-0.40 s  {one}  in tuck" in listed
    assert "3 spans" in listed
    assert run_command("basket", ["remove", str(file), "--numbers", "3"]) == 0
    to = ["--to", str(tmp_path / "reel.edl"), "--reel", str(tmp_path / "reel.mp4")]
    assert run_command("basket", ["export", str(file), *to]) == 0
    assert "2 spans, without sound" in capsys.readouterr().out
    assert (tmp_path / "reel.edl").read_text().count("FROM CLIP NAME") == 2
    shown, times_s = read_numbered_video(tmp_path / "reel.mp4")
    assert shown == [*range(10), *range(25, 50)]
    assert times_s[-1] == pytest.approx(34 / 25, abs=1e-3)


def test_a_reel_has_one_size_and_is_written_whole_or_not_at_all(tmp_path) -> None:
    wide, tall = tmp_path / "wide.mp4", tmp_path / "tall.mp4"
    write_numbered_video(wide, Fraction(25), 10)
    with av.open(str(tall), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 128, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 128, "yuv420p")))
        container.mux(stream.encode(None))
    basket = Basket(tmp_path / "b")
    basket.save([place(wide, 0.0, 0.2), place(tall, 0.0, 0.2)])
    basket.render(tmp_path / "reel.mp4")
    with av.open(str(tmp_path / "reel.mp4")) as container:
        sizes = {(frame.width, frame.height) for frame in container.decode(video=0)}
        assert not container.streams.audio
    assert sizes == {(160, 32)}
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    basket.save([place(bad, 0.0, 1.0)])
    with pytest.raises(DecodeError, match=r"bad\.mp4"):
        basket.render(tmp_path / "other.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "bad.mp4", "reel.mp4", "tall.mp4", "wide.mp4"]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", "format must be 'tfcovr basket 1'"),
        ('{"format": "tfcovr basket 1", "spans": [{"clip_id": 3}]}', r"spans\[0\]"),
    ],
)
def test_what_is_not_a_basket_is_refused(tmp_path, content: str, message: str) -> None:
    (tmp_path / "b").write_text(content)
    with pytest.raises(ValueError, match=message):
        Basket(tmp_path / "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "gone"], "tfcovr search ... --save gone"),
        (["remove", "b"], "says which spans `remove` takes out; remove needs it"),
        (["export", "b"], "say what `export` writes; export needs one"),
        (["remove", "b", "--numbers", "2"], "number is 2; the basket has 0 spans"),
        (["export", "b", "--reel", "x.mov"], "its name must end in .mp4"),
        (["export", "b", "--to", "x.otio"], "basket b is empty"),
    ],
)
def test_mistakes_are_told_in_words(tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    Basket("b").save([])
    with pytest.raises(ValueError, match=message):
        run_command("basket", arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_s": float("nan")}, r"spans\[0\]: start_s is nan and end_s 2"),
        ({"start_s": -5.0}, r"spans\[0\]: start_s is -5"),
        ({"end_s": 1.0}, r"spans\[0\]: start_s is 1.0 and end_s 1.0"),
        ({"note": "\ud800"}, r"spans\[0\]: note is"),
    ],
)
def test_a_span_that_cannot_be_is_named_with_its_place(
    tmp_path: Path, change: dict, message: str
) -> None:
    span = {"clip_id": "a", "video_uri": "a.mp4", "start_s": 1.0, "end_s": 2.0, "label": None, "note": ""}  # fmt: skip
    path = tmp_path / "odd.basket"
    path.write_text(json.dumps({"format": "tfcovr basket 1", "spans": [span | change]}))
    with pytest.raises(ValueError, match=message):
        Basket(path)


def test_a_basket_that_is_nested_too_deeply_is_none(tmp_path: Path) -> None:
    path = tmp_path / "deep.basket"
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"deep\.basket is not a basket.*nested too deeply"):
        Basket(path)
