from pathlib import Path
from types import SimpleNamespace
from typing import Any

from encoders.clips import Clip
from indexing.labelling.import_labels import ImportedLabels, import_labels
from indexing.search.types import ClipPlace

PLACES = {
    "day-2": ("/v/g.mp4", 0.0, 1.0), "day-3": ("/v/g.mp4", 1.0, 2.0),
    "sub-1": ("/v/sub/clip.mp4", 0.0, 1.0), "other-1": ("/v/other/clip.mp4", 0.0, 1.0),
}  # fmt: skip


class Desk:
    """An archive in memory: what clicks say, and nothing else."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        rows = [
            {"clip_id": i, "video_uri": uri, "start_s": start, "end_s": end, "label": "", "split": "", "attributes": {}}
            for i, (uri, start, end) in PLACES.items()
        ]  # fmt: skip
        collection = SimpleNamespace(rows=lambda _fields: iter(rows))
        self.client: Any = SimpleNamespace(
            collection=collection, options=SimpleNamespace(moved_videos=None)
        )

    def current(self, place: ClipPlace) -> ClipPlace:
        video_uri, start_s, end_s = PLACES[place.clip_id]
        label = self.labels.get(place.clip_id)
        return ClipPlace(clip_id=place.clip_id, video_uri=video_uri, start_s=start_s, end_s=end_s, label=label)  # fmt: skip

    def store(self, clicks: list[Any]) -> None:
        self.labels |= {click.clip_id: click.label for click in clicks}


def imported(desk: Any, *clips: tuple[str, str, float, str]) -> ImportedLabels:
    """Of (id, video, start, label) of one second each."""
    return import_labels(
        desk,
        [Clip(clip_id=i, video_uri=v, start_s=s, end_s=s + 1, label=n) for i, v, s, n in clips],
    )


def test_a_label_goes_to_the_span_of_its_row_whatever_the_row_is_called() -> None:
    """A row that was put before the others shifts all ids that are made of line numbers."""
    desk = Desk()
    done = imported(desk, ("day-2", "/v/g.mp4", 1.0, "second"), ("day-3", "/v/e.mp4", 0.0, "of e"))
    assert desk.labels == {"day-3": "second"}
    assert (done.num_new, done.missing) == (1, ["day-3"])


def test_of_files_with_one_name_that_in_the_same_folder_is_meant() -> None:
    desk = Desk()
    done = imported(
        desk,
        ("a", "/v/sub/clip.mp4", 0.0, "in sub"),
        ("b", "/elsewhere/other/clip.mp4", 0.0, "in other"),
        ("c", "/nowhere/clip.mp4", 0.0, "in either"),
    )
    assert desk.labels == {"sub-1": "in sub", "other-1": "in other"}
    assert done.ambiguous == ["c"]


def test_a_label_that_was_changed_since_is_imported_again() -> None:
    desk = Desk()
    row = ("day-2", "/v/g.mp4", 0.0, "first")
    assert imported(desk, row).num_new == 1
    again = imported(desk, row)
    assert (again.num_new, again.num_known) == (0, 1)
    desk.labels["day-2"] = "changed"
    assert imported(desk, row).num_new == 1
    assert desk.labels["day-2"] == "first"


def test_two_labels_for_one_clip_are_none() -> None:
    desk = Desk()
    path = str(Path("/v/g.mp4"))
    done = imported(desk, ("x", path, 0.0, "one"), ("y", path, 0.01, "two"))
    assert not desk.labels
    assert done.ambiguous == ["y"]
