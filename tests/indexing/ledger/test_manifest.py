from dataclasses import replace
from pathlib import Path

import pytest

from encoders.stages.base import ClipError
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import Ledger, Outcome
from indexing.ledger.row_table import State
from indexing.sources.content import FileStamp
from tests.support.planned import open_manifest, planned_clip

TOO_SHORT = ClipError(stage="decode", reason="too_short", detail="1 frame")
LATE = ClipError(stage="decode", reason="decode_timeout", detail="")
WANTED = [
    planned_clip("in", "k-in"), planned_clip("lost", "k-lost"), planned_clip("dead", "k-dead"),
    planned_clip("away", "", problem="gone"), planned_clip("changed", "k-new"), planned_clip("twice", "k-twice"),
    planned_clip("late", "k-late"),
]  # fmt: skip
STORED = [
    ("k-in", "in"), ("k-old", "changed"), ("k-older", "changed"), ("k-away", "away"), ("k-nobody", "nobody"),
    ("k-twice", "twice"), ("k-twice", "twice"), ("k-dead-old", "dead"), ("k-other", "cam2:in"),
]  # fmt: skip
ARCHIVE = ArchiveRows(others=frozenset({"cam2"}))


def outcome(clip_id: str, key: str, error: ClipError | None = None) -> Outcome:
    return Outcome(clip_key=key, clip_id=clip_id, video_uri=f"/{clip_id}.mp4", error=error)


def keys(pages) -> list[str]:
    return [row.clip_key for page in pages for row in page]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Ledger(tmp_path) as ledger:
        ledger.record(
            [
                outcome("dead", "k-dead", TOO_SHORT),
                outcome("late", "k-late", LATE),
                outcome("in", "k-in", TOO_SHORT),  # whose row is there all the same
                outcome("lost", "k-former", TOO_SHORT),  # of other content
            ]
        )
    return tmp_path


def test_every_clip_and_every_row_has_one_verdict(folder: Path) -> None:
    with open_manifest(folder, WANTED, STORED, ARCHIVE) as manifest:
        by_state = {state.name: list(manifest.ids(state)) for state in State}
        assert by_state == {"PRESENT": ["in", "twice"], "MISSING": ["lost", "changed"], "DEAD": ["dead", "late"], "UNREADABLE": ["away"]}  # fmt: skip
        assert {state: manifest.count(state) for state in State} == {
            state: len(by_state[state.name]) for state in State
        }
        assert list(manifest.rows.stale_ids()) == ["changed", "dead"]
        assert manifest.rows.num_stale_clips() == 2
        # Rows of former content stay until the new one is in.
        assert keys(manifest.rows.stale()) == ["k-dead-old"]
        assert manifest.rows.num_stale() == 1
        assert sorted(row.clip_key for row in manifest.rows.stale_of(["changed"])) == ["k-old", "k-older"]  # fmt: skip
        assert keys(manifest.rows.orphaned()) == ["k-nobody"]
        assert [row.clip_key for row in manifest.rows.doubled()] == ["k-twice"]
        assert manifest.rows.num() == 7
        assert {(one.clip_id, one.error.reason) for one in manifest.dead_letters()} == {
            ("dead", "too_short"),
            ("late", "decode_timeout"),
            ("away", "fetch_failed"),
        }
        assert manifest.dead_by_reason() == {"decode_timeout": 1, "fetch_failed": 1, "too_short": 1}


def test_what_is_pending_comes_by_video_and_is_compared_once_it_is_written(folder: Path) -> None:
    with open_manifest(folder, WANTED, STORED, ARCHIVE) as manifest:
        manifest.retry(["decode_timeout"])
        assert manifest.begin_pending() == 3
        assert [one.clip.clip_id for one in manifest.pending()] == ["changed", "late", "lost"]
        assert manifest.num_unchecked() == 0
        manifest.note_written([outcome("changed", "k-new"), outcome("lost", "k-lost", TOO_SHORT)])
        assert manifest.num_unchecked() == 1
    # A run that was killed here left two rows, of which its ledger knows none.
    stored = [*STORED, ("k-new", "changed"), ("k-late", "late")]
    with open_manifest(folder, WANTED, stored, ARCHIVE) as manifest:
        assert manifest.may_need_workers()
        sample = manifest.sample(10, only_unchecked=True)
        assert sorted(one.clip.clip_id for one in sample) == ["changed", "late"]
        assert sorted(keys(manifest.unchecked_rows())) == ["k-late", "k-new"]
        assert [one.clip.clip_id for one in manifest.beside(["/in.mp4", "/lost.mp4"])] == ["in"]


def test_clips_that_are_asked_for_come_first_those_of_the_most_asked_videos_before_the_others(
    tmp_path: Path,
) -> None:
    wanted = [
        planned_clip(f"{video}{i}", f"k-{video}{i}", video_uri=f"/{video}.mp4", start_s=float(i))
        for video in "abc"
        for i in range(3)
    ]
    with open_manifest(tmp_path, wanted, [("k-c1", "c1")], ArchiveRows()) as manifest:
        assert manifest.begin_pending({"b2": 2, "b0": 5, "a1": 3, "c1": 90, "gone": 9}) == 8
        order = [one.clip.clip_id for one in manifest.pending()]
        assert order == ["b0", "b2", "a1", "a0", "a2", "b1", "c0", "c2"]
        assert manifest.begin_pending({}) == 8
        assert [one.clip.clip_id for one in manifest.pending()] == sorted(order)


def test_of_a_part_of_the_archive_only_that_part_is_compared_and_forgotten(folder: Path) -> None:
    stored = [("k-in", "in"), ("k-twice", "twice")]
    with open_manifest(folder, WANTED, stored) as manifest:
        manifest.check_all()
        assert manifest.num_unchecked() == 2
    with open_manifest(folder, WANTED[:1], stored) as manifest:
        assert manifest.num_unchecked() == 1
        manifest.note_checked()
        assert manifest.num_unchecked() == 0
    with open_manifest(folder, WANTED, stored) as manifest:
        assert [one.clip.clip_id for one in manifest.sample(9, only_unchecked=True)] == ["twice"]


def test_a_clip_that_would_be_one_of_another_archive_is_refused(tmp_path: Path) -> None:
    with open_manifest(
        tmp_path, [planned_clip("cam2:in", "k"), planned_clip("cam3", "l")], []
    ) as manifest:
        manifest.require_no_other(["cam", "cam3"])
        with pytest.raises(ValueError, match="'cam2:in' would be taken for one of archive 'cam2'"):
            manifest.require_no_other(["cam3", "cam2"])


def test_rows_that_lack_what_the_archive_says_are_outdated_until_it_is_recorded(folder) -> None:
    planned = [planned_clip("a", "k-a", label="pike"), planned_clip("b", "k-b", label="tuck")]
    stored = [("k-a", "a"), ("k-b", "b")]
    with open_manifest(folder, planned, stored) as manifest, Ledger(folder) as ledger:
        outdated = list(manifest.outdated())
        assert outdated == planned
        from indexing.store.rows import row_digest

        ledger.record(
            [
                Outcome(
                    clip_key=one.clip_key,
                    clip_id=one.clip.clip_id,
                    video_uri="",
                    row_digest=row_digest(one.clip),
                )
                for one in outdated[:1]
            ]
        )
        assert list(manifest.outdated()) == planned[1:]


def test_a_planned_clip_comes_back_as_it_was(tmp_path: Path) -> None:
    whole = planned_clip("a:b", "k", start_s=1.25, end_s=2.5, label="x", split="val", attributes={"b": "1", "a": "2"})  # fmt: skip
    stamp = FileStamp(size_bytes=5, mtime_ns=1_700_000_000_123_456_789, version="7")
    whole = replace(whole, content_hash="ab", stamp=stamp)
    plain = planned_clip("c", "", problem="gone")
    with open_manifest(tmp_path, [whole, plain], []) as manifest:
        assert list(manifest.clips(State.MISSING)) == [whole]
        assert list(manifest.clips(State.UNREADABLE)) == [plain]


def test_two_clips_of_one_id_are_refused_with_their_rows(tmp_path: Path) -> None:
    planned = [planned_clip(name, f"k{name}") for name in "abcb"]
    with (
        pytest.raises(
            ValueError, match="here: clips 2 and 4 both have clip_id 'b'; it must be unique"
        ),
        open_manifest(tmp_path, planned, []),
    ):
        pass
    assert not (tmp_path / "manifest.sqlite").exists()


def test_pages_hold_every_clip_and_row_once(tmp_path: Path) -> None:
    planned = [planned_clip(f"{n:05}", f"k{n}") for n in range(4500)]
    stored = [(f"o{n}", f"{n:05}") for n in range(4500)]
    with open_manifest(tmp_path, planned, stored) as manifest:
        assert list(manifest.clips(State.MISSING)) == planned
        assert manifest.begin_pending() == 4500
        assert list(manifest.pending()) == planned
        manifest.note_written(outcome(one.clip.clip_id, one.clip_key) for one in planned)
        removed = []
        for page in manifest.rows.stale():
            removed += page
            manifest.rows.forget(page)
        assert len(removed) == len({row.clip_key for row in removed}) == 4500
        assert manifest.rows.num() == 0


@pytest.mark.parametrize(("num_kept", "share", "is_refused"), [(0, 0.2, True), (7, 0.2, True), (8, 0.2, False), (0, 1, False), (9, 0, True), (10, 0, False)])  # fmt: skip
def test_more_orphans_than_a_share_of_the_rows_are_refused(
    tmp_path: Path, num_kept: int, share: float, is_refused: bool
) -> None:
    stored = [(f"k{n}", f"{n}") for n in range(10)]
    planned = [planned_clip(f"{n}", f"k{n}") for n in range(num_kept)]
    with open_manifest(tmp_path, planned, stored) as manifest:
        if not is_refused:
            manifest.rows.require_few_orphans(share)
            return
        with pytest.raises(
            ValueError,
            match=rf"{10 - num_kept} of 10 rows \({10 - num_kept}0%\).*--max-delete-share",
        ):
            manifest.rows.require_few_orphans(share)


def test_an_empty_collection_has_no_orphans(tmp_path: Path) -> None:
    with open_manifest(tmp_path, [planned_clip("a", "k")], []) as manifest:
        manifest.rows.require_few_orphans(0.0)
