"""Lists of clips that were cut off, archives that are not there, and run folders with damaged files, over one small index."""

from pathlib import Path

import pytest

from encoders.bundle.card import read_card
from encoders.clips import Clip, write_clips
from indexing.ledger.dead_letters import DEAD_LETTERS, read_dead_letters
from indexing.ledger.ledger import LEDGER, Ledger
from indexing.store.collection import open_collection
from tests.support.small_videos import write_video
from tfcovr import main

NUM_VIDEOS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_bundle) -> Path:
    folder = tmp_path_factory.mktemp("index")
    (folder / "videos").mkdir()
    for number in range(NUM_VIDEOS):
        write_video(folder / "videos" / f"{number}.mp4", number)
    write_list(folder, NUM_VIDEOS)
    assert run("index", folder, tiny_bundle) == 0
    return folder


def write_list(folder: Path, num_clips: int) -> None:
    """The first clips of the archive."""
    clips = [Clip(clip_id=f"{n}", video_uri=f"{folder}/videos/{n}.mp4") for n in range(num_clips)]
    write_clips(folder / "clips.parquet", clips)


def run(command: str, folder: Path, bundle: Path, *options: str) -> int:
    arguments = [command, "--bundle", str(bundle), "--clips", str(folder / "clips.parquet")]
    arguments += ["--milvus-uri", str(folder / "milvus"), "--run-dir", str(folder / "run")]
    return main([*arguments, *options])


def num_rows(folder: Path, bundle: Path) -> int:
    with open_collection(str(folder / "milvus"), "clips") as collection:
        collection.check(encoder_id=read_card(bundle).encoder_id)
        return collection.count()


@pytest.mark.parametrize("command", [("index", "--prune"), ("verify", "--repair")])
@pytest.mark.parametrize("num_clips", [0, 4])
def test_a_list_that_was_cut_off_deletes_nothing(
    folder: Path, tiny_bundle: Path, capsys, command: tuple[str, str], num_clips: int
) -> None:
    write_list(folder, num_clips)
    assert run(command[0], folder, tiny_bundle, command[1]) == 2
    assert f"{NUM_VIDEOS - num_clips} of {NUM_VIDEOS} rows" in (line := capsys.readouterr().err)
    assert "--max-delete-share" in line
    assert num_rows(folder, tiny_bundle) == NUM_VIDEOS
    write_list(folder, NUM_VIDEOS)
    assert run("verify", folder, tiny_bundle) == 0


def test_few_rows_are_pruned_and_more_where_that_is_said(folder: Path, tiny_bundle: Path) -> None:
    write_list(folder, NUM_VIDEOS - 1)
    assert run("index", folder, tiny_bundle, "--prune") == 0
    assert num_rows(folder, tiny_bundle) == NUM_VIDEOS - 1
    write_list(folder, 3)
    assert run("verify", folder, tiny_bundle, "--repair", "--max-delete-share", "0.5") == 0
    assert num_rows(folder, tiny_bundle) == 3
    write_list(folder, NUM_VIDEOS)
    assert run("index", folder, tiny_bundle) == 0
    assert num_rows(folder, tiny_bundle) == NUM_VIDEOS


def test_an_archive_of_which_nothing_can_be_read_is_no_success(
    folder: Path, tiny_bundle: Path, capsys
) -> None:
    (folder / "videos").rename(folder / "unmounted")
    assert run("index", folder, tiny_bundle, "--prune") == 1
    assert "not one clip could be used" in capsys.readouterr().out
    assert run("verify", folder, tiny_bundle) == 1
    assert num_rows(folder, tiny_bundle) == NUM_VIDEOS
    (folder / "unmounted").rename(folder / "videos")
    assert run("index", folder, tiny_bundle) == 0
    assert run("verify", folder, tiny_bundle) == 0


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:5000], lambda _: b"no ledger" * 999, lambda c: c[:4096] + bytes(8192) + c[12288:]])  # fmt: skip
def test_damaged_files_of_a_run_are_named_and_written_anew(
    folder: Path, tiny_bundle: Path, caplog, damage
) -> None:
    path = folder / "run" / LEDGER
    with Ledger(folder / "run", reads_only=True) as ledger:
        before = list(ledger.outcomes())
    path.write_bytes(damage(path.read_bytes()))
    (folder / "run" / DEAD_LETTERS).write_bytes(b"PAR1 and no more")
    is_empty = not path.read_bytes()  # to SQLite, that is one without tables
    assert run("verify", folder, tiny_bundle) == 0
    assert is_empty or f"{path} is damaged" in caplog.text
    caplog.clear()
    assert run("index", folder, tiny_bundle) == 0
    assert is_empty or f"{path} is damaged" in caplog.text
    with Ledger(folder / "run", reads_only=True) as ledger:
        assert list(ledger.outcomes()) == before
    assert read_dead_letters(folder / "run") == []
    caplog.clear()
    assert run("verify", folder, tiny_bundle) == 0
    assert caplog.text == ""
    assert num_rows(folder, tiny_bundle) == NUM_VIDEOS


def test_a_damaged_config_of_a_run_is_named(folder: Path, capsys) -> None:
    path = folder / "run" / "index_config.json"
    whole = path.read_bytes()
    for content in (whole[:50], b"[]", b"\xff"):
        path.write_bytes(content)
        assert main(["retry", "--run-dir", str(folder / "run")]) == 2
        assert f"{path} is damaged" in capsys.readouterr().err or content == b"[]"
    path.write_bytes(whole)
