"""Timing of repeated runs of a function, on a CPU or a GPU."""

import time
from collections.abc import Callable

import torch


def time_runs(
    function: Callable[[], object], device: torch.device, *, num_runs: int
) -> list[float]:
    """Seconds of each of `num_runs` calls: on the device's own clock, where it has one, else on `host_clock`."""
    clock_s = host_clock()
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
            started = clock_s()
            function()
            seconds.append(clock_s() - started)
    return seconds


def host_clock() -> Callable[[], float]:
    """CPU-seconds of this process where torch has one thread, which other processes do not lengthen; else seconds."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter
