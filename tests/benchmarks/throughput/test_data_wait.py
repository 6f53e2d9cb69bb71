"""Waiting and working are told apart, and the task is trained as it would be alone."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.throughput.data_wait import WatchedTask
from training.configs import LoopConfig
from training.trainer.loop import World, fit


class SlowModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        time.sleep(0.03)
        return {"loss": (self.weight * batch["x"]).square().mean()}


class SlowTask:
    score_name = "score"
    num_examples = 6

    def __init__(self):
        self.module = SlowModule()
        self.asked = []

    def batches(self, epoch, steps):
        for step in steps:
            time.sleep(0.01)
            self.asked.append(step.tolist())
            yield {"x": torch.from_numpy(step).float()}

    def evaluate(self, world):
        return {"score": (1.0, 1.0)}


def test_shares_are_those_of_the_sleeps(tmp_path):
    loop = LoopConfig(num_epochs=2, batch_size=2, learning_rate=0.1, weight_decay=0)
    watched = WatchedTask(task=SlowTask())
    fit(watched, loop, tmp_path / "watched")
    assert len(watched.wait_s) == len(watched.work_s) == 6
    assert min(watched.wait_s) >= 0.01
    assert min(watched.work_s) >= 0.03
    expected = sum(watched.wait_s[2:]) / sum(np.add(watched.wait_s, watched.work_s)[2:])
    assert watched.wait_share(warmup=2) == pytest.approx(expected)
    assert watched.wait_share(warmup=2) < 0.6
    alone = SlowTask()
    fit(alone, loop, tmp_path / "alone", world=World())
    assert alone.asked == watched.task.asked
    torch.testing.assert_close(alone.module.weight, watched.module.weight)
