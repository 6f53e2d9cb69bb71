"""Damaged checkpoints: named, and the one before is used with the losses that follow it."""

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.trainer.test_loop import CONFIG, Regression, ToyTask
from training.trainer import checkpoint
from training.trainer.checkpoint import (
    BEFORE,
    BEST,
    CHECKSUMS,
    LAST,
    CheckpointError,
    load_checkpoint,
    read_metrics,
    save_checkpoint,
)
from training.trainer.loop import fit, learned_state, load_learned, load_trained

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "empty": lambda _content: b"",
    "one bit": lambda content: content[:900] + bytes([content[900] ^ 1]) + content[901:],
    "another file": lambda _content: b"hello",
}


def damage(path: Path, kind: str) -> None:
    path.write_bytes(DAMAGES[kind](path.read_bytes()))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """The loss of a step is of the weights before it: that of the last one tells nothing of what it made."""
    one_step = replace(CONFIG, num_epochs=1, batch_size=10_000, learning_rate=1e39)
    with pytest.raises(FloatingPointError, match="weights are not finite after step 1"):
        fit(ToyTask(), one_step, tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.parametrize("state", [[], {"module": {}}])
def test_a_checkpoint_of_another_form_is_named(tmp_path: Path, state: object) -> None:
    fit(ToyTask(), CONFIG, tmp_path)
    torch.save(state, tmp_path / "checkpoints" / LAST)
    (tmp_path / "checkpoints" / CHECKSUMS).unlink()
    (tmp_path / "checkpoints" / BEFORE).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="is damaged"):
        fit(ToyTask(), CONFIG, tmp_path)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, caplog, kind: str
) -> None:
    fit(ToyTask(), CONFIG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(ToyTask(dies_at=(3, 1)), CONFIG, tmp_path / "cut")
    damage(tmp_path / "cut" / "checkpoints" / LAST, kind)
    state = load_checkpoint(tmp_path / "cut", LAST)
    assert state is not None
    assert state["epoch"] == 2
    assert f"{tmp_path / 'cut' / 'checkpoints' / LAST} is damaged" in caplog.text
    fit(ToyTask(), CONFIG, tmp_path / "cut")
    assert read_metrics(tmp_path / "cut") == read_metrics(tmp_path / "whole")


def test_without_any_whole_checkpoint_it_says_what_to_do(tmp_path: Path) -> None:
    fit(ToyTask(), CONFIG, tmp_path)
    for name in (LAST, BEFORE):
        damage(tmp_path / "checkpoints" / name, "truncated")
    with pytest.raises(
        CheckpointError, match=r"last\.pt is damaged.*before\.pt is damaged.*delete the folder"
    ):
        fit(ToyTask(), CONFIG, tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    fit(ToyTask(), CONFIG, tmp_path)


@pytest.mark.parametrize("has_room", [True, False])
def test_a_checkpoint_that_does_not_fit_the_disk_says_so(
    has_room: bool, tmp_path: Path, monkeypatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 2 vs 1")

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(checkpoint, "is_full", lambda _folder: not has_room)
    with pytest.raises(RuntimeError if has_room else OSError) as raised:
        save_checkpoint(tmp_path, LAST, {})
    assert has_room or raised.value.errno == errno.ENOSPC
    assert not list((tmp_path / "checkpoints").iterdir())


def test_damaged_best_weights_are_not_replaced_by_others(tmp_path: Path) -> None:
    config = replace(CONFIG, keep="best")
    fit(ToyTask(scores=(1, 3, 2, 3)), config, tmp_path)
    damage(tmp_path / "checkpoints" / BEST, "one bit")
    with pytest.raises(CheckpointError, match=r"best\.pt is damaged"):
        load_trained(Regression(), tmp_path, keep="best")


def test_an_interruption_between_the_files_loses_at_most_one_epoch(
    tmp_path: Path, monkeypatch
) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, LAST, {"epoch": epoch})
    rename = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if Path(target).name == LAST:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, LAST, {"epoch": 3})
    assert load_checkpoint(tmp_path, LAST) == {"epoch": 2}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_damaged_checksums_leave_the_checkpoints_readable(
    tmp_path: Path, caplog, content: bytes
) -> None:
    save_checkpoint(tmp_path, LAST, {"epoch": 1})
    assert set(json.loads((tmp_path / "checkpoints" / CHECKSUMS).read_text())) == {LAST}
    (tmp_path / "checkpoints" / CHECKSUMS).write_bytes(content)
    assert load_checkpoint(tmp_path, LAST) == {"epoch": 1}
    assert CHECKSUMS in caplog.text
    (tmp_path / "checkpoints" / CHECKSUMS).unlink()  # as in a run of an earlier version
    damage(tmp_path / "checkpoints" / LAST, "truncated")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path, LAST)


def test_frozen_weights_are_not_saved_and_older_checkpoints_still_load(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    state = learned_state(module)
    assert set(state) == {"1.weight", "1.bias"}
    save_checkpoint(tmp_path, LAST, {"module": state})
    again = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    again[0].load_state_dict(module[0].state_dict())
    again[0].requires_grad_(False)
    saved = load_checkpoint(tmp_path, LAST)
    assert saved is not None
    load_learned(again, saved["module"])
    torch.testing.assert_close(again(torch.ones(1, 3)), module(torch.ones(1, 3)))
    load_learned(again, module.state_dict())  # as it was saved before
    with pytest.raises(ValueError, match=r"another module: 1\.bias"):
        load_learned(again, {"1.weight": state["1.weight"]})
