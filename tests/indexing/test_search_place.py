from pathlib import Path

import pytest

pytest.importorskip("encoders.backends.base")

from indexing.search_place import parse_file


def test_a_file_may_carry_a_span_and_an_at_sign(tmp_path: Path) -> None:
    plain, odd = tmp_path / "a.mp4", tmp_path / "b@1-2.mp4"
    plain.touch()
    odd.touch()

    def parsed(text: object) -> tuple[str, float, float | None]:
        place = parse_file(str(text))
        assert place is not None
        return Path(place.video_uri).name, place.start_s, place.end_s

    assert parsed(plain) == ("a.mp4", 0.0, None)
    assert parsed(f"{plain}@12-15.5") == ("a.mp4", 12.0, 15.5)
    assert parsed(f"{plain}@3.25-") == ("a.mp4", 3.25, None)
    assert parsed(odd) == ("b@1-2.mp4", 0.0, None)
    assert parsed(f"{odd}@0.5-1") == ("b@1-2.mp4", 0.5, 1.0)
    assert parse_file("dive-000017") is None
    with pytest.raises(ValueError, match="not after"):
        parse_file(f"{plain}@5-5")
    with pytest.raises(ValueError, match="no file"):
        parse_file(f"{tmp_path}/c.mp4@1-2")
