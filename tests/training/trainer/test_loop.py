"""A run that is interrupted anywhere resumes with the numbers of an uninterrupted one."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.configs import LoopConfig
from training.trainer.checkpoint import load_checkpoint, read_metrics
from training.trainer.loop import World, fit, load_trained, step_order

CONFIG = LoopConfig(
    num_epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0.1, num_warmup_steps=3, seed=5
)


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, batch):
        return {"loss": (self.layers(batch["x"])[:, 0] - batch["y"]).square().mean()}


class ToyTask:
    score_name = "val_score"
    num_examples = 37

    def __init__(self, *, dies_at: tuple[int, int] | None = None, scores=(0, 0, 0, 0)) -> None:
        self.module = Regression()
        self.scores, self.dies_at, self.epoch = scores, dies_at, 0
        rng = np.random.default_rng(0)
        self.x = torch.tensor(rng.normal(size=(37, 4)), dtype=torch.float32)

    def batches(self, epoch: int, steps) -> Iterator[dict[str, torch.Tensor]]:
        self.epoch = epoch
        for number, step in enumerate(steps):
            if (epoch, number) == self.dies_at:
                raise KeyboardInterrupt
            x = self.x[torch.from_numpy(step)]
            yield {"x": x, "y": x.sum(dim=1)}

    def evaluate(self, world):
        torch.rand(3)  # validation may draw; training must not notice
        return {"val_score": (float(self.scores[self.epoch]), 1.0)}


def losses(run_dir: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run_dir) if "loss" in line]


@pytest.mark.parametrize("dies_at", [(0, 2), (2, 0), (2, 3), (3, 1)])
def test_a_cut_run_repeats_the_numbers_of_a_whole_one(tmp_path, dies_at) -> None:
    fit(ToyTask(), CONFIG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(ToyTask(dies_at=dies_at), CONFIG, tmp_path / "cut")
    torch.manual_seed(999)  # the second process starts with other random numbers
    fit(ToyTask(), CONFIG, tmp_path / "cut")
    assert len(losses(tmp_path / "whole")) == 4 * 4
    assert read_metrics(tmp_path / "cut") == read_metrics(tmp_path / "whole")


def test_a_torn_last_line_is_forgotten(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(ToyTask(dies_at=(2, 3)), CONFIG, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "lo')
    fit(ToyTask(), CONFIG, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == sorted([*range(1, 17), 4, 8, 12, 16])


def test_every_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    config = LoopConfig(num_epochs=1, batch_size=6, learning_rate=1, weight_decay=0)
    epochs = [np.concatenate(step_order(36, config, epoch=e, world=World())) for e in (0, 1)]
    assert all(sorted(order) == list(range(36)) for order in epochs)
    assert not np.array_equal(*epochs)


@pytest.mark.parametrize("num_examples", [37, 5])
def test_workers_share_the_very_batches_of_one(num_examples) -> None:
    alone = step_order(num_examples, CONFIG, epoch=3, world=World())
    shares = [
        step_order(num_examples, CONFIG, epoch=3, world=World(rank=rank, size=2)) for rank in (0, 1)
    ]
    assert len(alone) == len(shares[0]) == len(shares[1])
    for whole, first, second in zip(alone, *shares, strict=True):
        assert len(first) == len(second)
        assert set(first) | set(second) <= set(whole)
        assert not set(first) & set(second)


def test_too_many_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing for each of 4 workers"):
        step_order(3, CONFIG, epoch=0, world=World(size=4))


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path) -> None:
    config = LoopConfig(num_epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0, keep="best")
    fit(ToyTask(scores=(1, 3, 2, 3)), config, tmp_path)
    assert load_trained(Regression(), tmp_path, keep="best") == 2
    assert load_trained(Regression(), tmp_path, keep="final") == 4


@pytest.mark.parametrize("num_parts", [2, 3, 8])
def test_parts_of_a_step_add_up_to_the_step(tmp_path, num_parts) -> None:
    """Without dropout the weights are those of whole steps, uneven parts included; every example is used once."""
    weights = []
    for parts in (1, num_parts):
        task = ToyTask()
        task.module.layers[1].p = 0.0
        config = replace(CONFIG, num_accumulation_steps=parts)
        fit(task, config, tmp_path / str(parts))
        weights.append(torch.cat([p.detach().flatten() for p in task.module.parameters()]))
        assert len(losses(tmp_path / str(parts))) == 4 * 4
    torch.testing.assert_close(weights[1], weights[0], atol=1e-6, rtol=1e-5)
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / str(num_parts)), abs=1e-6)


def test_more_parts_than_examples_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="9; a worker has 8 examples a step to split"):
        fit(ToyTask(), replace(CONFIG, num_accumulation_steps=9), tmp_path)


def test_a_task_may_order_its_own_epoch(tmp_path) -> None:
    task = ToyTask()
    given = []
    batches = task.batches

    def watch(epoch, steps):
        given.append(np.concatenate(steps).tolist())
        return batches(epoch, steps)

    task.batches = watch
    task.epoch_order = lambda epoch: np.full(37, epoch)
    fit(task, CONFIG, tmp_path)
    assert given == [[epoch] * 32 for epoch in range(4)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("step", "log_every"), [(1, 1), (7, 1), (7, 100)])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_step(
    tmp_path, value, step, log_every
) -> None:
    """Also of a step that is not logged, and before the checkpoint of its epoch."""
    task = ToyTask()
    batches = task.batches

    def spoil(epoch, steps):
        for number, batch in enumerate(batches(epoch, steps), epoch * 4 + 1):
            yield batch | ({"y": batch["y"] * value} if number == step else {})

    task.batches = spoil
    with pytest.raises(FloatingPointError, match=f"not finite at step {step};"):
        fit(task, replace(CONFIG, log_every=log_every), tmp_path)
    state = load_checkpoint(tmp_path, "last.pt")
    assert (0 if state is None else state["epoch"]) == (step - 1) // 4
