"""Timing of repeated runs of a function, on a CPU or a GPU."""

import time
from collections.abc import Callable

import torch


def time_runs(
    function: Callable[[], object], device: torch.device, *, num_runs: int
) -> list[float]:
    """Seconds of each of `num_runs` calls, on the device's own clock where it has one."""
    seconds = []
    for _ in range(num_runs):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize(device)
            seconds.append(start.elapsed_time(end) / 1000)
        else:
            started = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - started)
    return seconds
