"""Dry run of stage 1: measured memory and time of real steps, and the projected time of an epoch on N GPUs.

Steps run on random frames through the run's own module, optimizer and precision. On a CPU a few clips are measured and scaled;
the projection to GPUs then uses counted FLOP and states the throughput that it assumes.
"""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from encoders.video_encoder.frame_temporal import FrameTemporalEncoder
from training.configs import GpuEstimate, Stage1Config
from training.stage1.task import ActionClassifier, build_encoder
from training.trainer.activation_checkpointing import checkpoint_blocks
from training.trainer.optimizer import build_optimizer

_NUM_STEPS = 3
_ENOUGH_S = 15.0
_CPU_CLIPS = (1, 2)
_GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """Cost of one optimizer step of one worker, in parts of `clips_per_part` clips."""

    device: str
    clips_per_step: int
    clips_per_part: int
    clips_measured: int
    """Number of clips measured; on a CPU fewer than a part, and time and memory are scaled."""
    step_s: float
    peak_gib: float
    flop_per_clip: float
    """FLOP of forward and backward; a multiplication and an addition count as two."""
    num_trainable: int
    num_parameters: int
    epoch_s: dict[int, float]
    """Projected seconds of an epoch, by number of GPUs."""
    projected_from: str


def dry_run(
    config: Stage1Config,
    *,
    num_clips: int,
    num_classes: int,
    num_workers: int,
    estimate: GpuEstimate,
) -> DryRun:
    """Measure a step; `num_clips` and `num_classes` are those of the train split. Reads no video and writes nothing."""
    loop = config.loop
    clips_per_step = math.ceil(loop.batch_size / max(num_workers, 1))
    clips_per_part = math.ceil(clips_per_step / loop.num_accumulation_steps)
    on_gpu = torch.cuda.is_available()
    probe = _Probe(config, num_classes=num_classes, device="cuda" if on_gpu else "cpu")
    flop_per_clip = probe.count_flop()
    if on_gpu:
        part_s, peak_bytes = probe.measure(clips_per_part)
        measured = clips_per_part
    else:
        small, measured = min(_CPU_CLIPS[0], clips_per_part), min(_CPU_CLIPS[1], clips_per_part)
        _first_s, first_bytes = probe.measure(small)
        second_s, second_bytes = probe.measure(measured)
        steps = max(measured - small, 1)
        more = clips_per_part - measured
        part_s = second_s / measured * clips_per_part
        peak_bytes = second_bytes + more * max(second_bytes - first_bytes, 0) / steps
    step_s = part_s * math.ceil(clips_per_step / clips_per_part)
    if on_gpu:
        clip_s = part_s / clips_per_part
        source = (
            f"{torch.cuda.get_device_name()}, measured; decoding keeps up and workers scale evenly"
        )
    else:
        clip_s = flop_per_clip / (estimate.tflop_per_s * 1e12 * estimate.share)
        source = (
            f"counted arithmetic at {estimate.share:.0%} of {estimate.tflop_per_s:g} TFLOP/s: assumed, not measured; "
            "decoding keeps up and workers scale evenly"
        )
    return DryRun(
        device=probe.device,
        clips_per_step=clips_per_step,
        clips_per_part=clips_per_part,
        clips_measured=measured,
        step_s=step_s,
        peak_gib=peak_bytes / _GIB,
        flop_per_clip=flop_per_clip,
        num_trainable=sum(p.numel() for p in probe.module.parameters() if p.requires_grad),
        num_parameters=sum(p.numel() for p in probe.module.parameters()),
        epoch_s={n: num_clips * clip_s / n for n in estimate.num_gpus},
        projected_from=source,
    )


def describe(result: DryRun) -> str:
    """The result as readable text."""
    scaled = "" if result.clips_measured >= result.clips_per_part else ", scaled"
    lines = [
        f"parameters: {result.num_parameters / 1e6:.1f} M, of which {result.num_trainable / 1e6:.1f} M are trained",
        f"one step of one worker: {result.clips_per_step} clips in parts of {result.clips_per_part} on {result.device}",
        f"  time   {result.step_s:.3g} s a step, {result.clips_per_step / result.step_s:.3g} clips/s "
        f"(measured with {result.clips_measured} clips{scaled})",
        f"  memory {result.peak_gib:.2f} GiB peak",
        f"  work   {result.flop_per_clip / 1e9:.0f} GFLOP a clip, forward and backward",
        f"an epoch ({result.projected_from}):",
    ]
    lines += [f"  {n:>4} GPUs: {_hours(seconds)}" for n, seconds in result.epoch_s.items()]
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class _Probe:
    """The module of a run, fed with frames of random pixels."""

    def __init__(self, config: Stage1Config, *, num_classes: int, device: str) -> None:
        self.device, self._config, self._num_classes = device, config, num_classes
        encoder = build_encoder(replace(config, pretrained_image=None))
        if config.pretrained_image is not None and config.freeze_pretrained:
            encoder.freeze_pretrained()
        if isinstance(encoder, FrameTemporalEncoder):
            raise ValueError(
                "a dry run is for encoders that train on frames; this one trains on cached frame vectors"
            )
        if config.recompute_activations:
            checkpoint_blocks(encoder)
        classes: dict[str, Sequence[str]] = {"label": [str(n) for n in range(num_classes)]}
        plain = replace(config, attributes=())
        self.module = ActionClassifier(encoder, classes, plain).to(device).train()
        self._optimizer = build_optimizer(self.module, config.loop)
        on_gpu = device != "cpu"
        precision = config.loop.precision
        self._in_bf16 = precision == "bf16" or (precision == "auto" and on_gpu)

    def count_flop(self) -> float:
        """FLOP of forward and backward of one clip."""
        with FlopCounterMode(display=False) as counter:
            self._forward_backward(1)
        self._optimizer.zero_grad(set_to_none=True)
        return float(counter.get_total_flops())

    def measure(self, num_clips: int) -> tuple[float, float]:
        """Seconds of the fastest of a few steps (of one, if it is long), and the peak bytes of the process."""
        seconds = []
        with _peak_bytes(self.device) as peak:
            for _ in range(_NUM_STEPS):
                started = time.perf_counter()
                self._forward_backward(num_clips)
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
                if self.device != "cpu":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - started)
                if sum(seconds) > _ENOUGH_S:
                    break
        return min(seconds), peak.bytes

    def _forward_backward(self, num_clips: int) -> None:
        shape = self._config.encoder
        size = (num_clips, shape.num_frames, shape.image_size, shape.image_size, 3)
        batch = {
            "frames": torch.randint(0, 256, size, dtype=torch.uint8, device=self.device),
            "label": torch.arange(num_clips, device=self.device) % self._num_classes,
            "weights": torch.ones(num_clips, device=self.device),
        }
        with torch.autocast(self.device, torch.bfloat16, enabled=self._in_bf16):
            loss = self.module(batch)["loss"]
        loss.backward()


class _peak_bytes:  # noqa: N801  # reads as a statement: with _peak_bytes(device) as peak
    """Peak memory inside the block: CUDA's own count, or this process's resident set, polled."""

    def __init__(self, device: str) -> None:
        self._on_gpu, self.bytes = device != "cpu", 0.0
        self._stop = threading.Event()
        self._poller = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def _poll(self) -> None:
        self.bytes = max(self.bytes, psutil.Process().memory_info().rss)

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._poll()

    def __enter__(self) -> "_peak_bytes":
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._poll()  # the block may end before the thread polls
            self._poller.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        if self._on_gpu:
            self.bytes = torch.cuda.max_memory_allocated()
            return
        self._stop.set()
        self._poller.join()
