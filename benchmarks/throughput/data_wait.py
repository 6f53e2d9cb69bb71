"""Time that the training loop waits for data and time that it works, measured at each step where the loop asks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from training.trainer.loop import Batch, Task, World


@dataclass(kw_only=True)
class WatchedTask:
    """The task itself, with a clock on its batches."""

    task: Task
    device: str = "cpu"
    wait_s: list[float] = field(default_factory=list)
    """Per step, from the loop's asking to the batch."""
    cpu_s: list[float] = field(default_factory=list)
    """Per step, CPU time of this process and of the children that load."""
    work_s: list[float] = field(default_factory=list)
    """Per step, from the batch to the next asking: forward, backward, optimizer, the log's line."""

    @property
    def module(self) -> nn.Module:
        return self.task.module

    @property
    def num_examples(self) -> int:
        return self.task.num_examples

    @property
    def score_name(self) -> str:
        return self.task.score_name

    def batches(self, epoch: int, steps: Sequence[np.ndarray]) -> Iterator[Batch]:
        """Those of the task."""
        inner = iter(self.task.batches(epoch, steps))
        while True:
            cpu_before_s = _cpu_s()
            asked = self._now()
            batch: dict[str, Tensor] | None = next(inner, None)
            given = self._now()
            if batch is None:
                return
            self.wait_s.append(given - asked)
            yield batch
            self.work_s.append(self._now() - given)
            self.cpu_s.append(_cpu_s() - cpu_before_s)

    def evaluate(self, world: World) -> dict[str, tuple[float, float]]:
        """Not measured, and not done."""
        del world
        return {}

    def wait_share(self, *, warmup: int) -> float:
        """Of the time of all steps but the first ones, the share spent waiting."""
        wait, work = sum(self.wait_s[warmup:]), sum(self.work_s[warmup:])
        return wait / (wait + work)

    def _now(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()


def _cpu_s() -> float:
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(time_of.user + time_of.system for time_of in times)
