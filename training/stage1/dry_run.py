"""What would a stage 1 run cost? Memory and time of real steps on this machine, and from them the time of an epoch on N GPUs.

Steps run on made-up frames through the run's own module, optimizer and precision. On a CPU a few clips are measured and scaled;
its projection to GPUs goes by the counted arithmetic and says which rate it supposes.
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
from training.configs import GpuGuess, Stage1Config
from training.stage1.task import ActionClassifier, build_encoder
from training.trainer.activation_checkpointing import checkpoint_blocks
from training.trainer.optimizer import build_optimizer

_NUM_STEPS = 3
_ENOUGH_S = 15.0
_CPU_CLIPS = (1, 2)
_GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """One optimizer step of one worker, in parts of `clips_per_part` clips."""

    device: str
    clips_per_step: int
    clips_per_part: int
    clips_measured: int
    """Fewer than a part on a CPU: time and memory are scaled from them."""
    step_s: float
    peak_gib: float
    flop_per_clip: float
    """Forward and backward, a multiplication and an addition counted apart."""
    num_trainable: int
    num_parameters: int
    epoch_s: dict[int, float]
    """Number of GPUs -> projected seconds of an epoch."""
    projected_from: str


def dry_run(
    config: Stage1Config, *, num_clips: int, num_classes: int, num_workers: int, guess: GpuGuess
) -> DryRun:
    """`num_clips` and `num_classes` of the train split. Reads no video and writes nothing."""
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
        clip_s = flop_per_clip / (guess.tflop_per_s * 1e12 * guess.share)
        source = (
            f"counted arithmetic at {guess.share:.0%} of {guess.tflop_per_s:g} TFLOP/s: supposed, not measured; "
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
        epoch_s={n: num_clips * clip_s / n for n in guess.num_gpus},
        projected_from=source,
    )


def describe(found: DryRun) -> str:
    """For people, line by line."""
    scaled = "" if found.clips_measured >= found.clips_per_part else ", scaled"
    lines = [
        f"parameters: {found.num_parameters / 1e6:.1f} M, of which {found.num_trainable / 1e6:.1f} M learn",
        f"one step of one worker: {found.clips_per_step} clips in parts of {found.clips_per_part} on {found.device}",
        f"  time   {found.step_s:.3g} s a step, {found.clips_per_step / found.step_s:.3g} clips/s "
        f"(measured with {found.clips_measured} clips{scaled})",
        f"  memory {found.peak_gib:.2f} GiB at its highest",
        f"  work   {found.flop_per_clip / 1e9:.0f} GFLOP a clip, forward and backward",
        f"an epoch ({found.projected_from}):",
    ]
    lines += [f"  {n:>4} GPUs: {_hours(seconds)}" for n, seconds in found.epoch_s.items()]
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class _Probe:
    """The module of a run, on frames of random pixels."""

    def __init__(self, config: Stage1Config, *, num_classes: int, device: str) -> None:
        self.device, self._config, self._num_classes = device, config, num_classes
        encoder = build_encoder(replace(config, pretrained_image=None))
        if config.pretrained_image is not None and config.freeze_pretrained:
            encoder.freeze_pretrained()
        if isinstance(encoder, FrameTemporalEncoder):
            raise ValueError(
                "a dry run is for encoders that train on frames; this one trains on kept frame vectors"
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
        """Of one clip's forward and backward."""
        with FlopCounterMode(display=False) as counter:
            self._forward_backward(1)
        self._optimizer.zero_grad(set_to_none=True)
        return float(counter.get_total_flops())

    def measure(self, num_clips: int) -> tuple[float, float]:
        """Seconds of the fastest of a few steps (of one, when it is long), and the most bytes that the process held meanwhile."""
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
    """The most memory in use inside the block: CUDA's own count, or this process's resident pages, looked at often."""

    def __init__(self, device: str) -> None:
        self._on_gpu, self.bytes = device != "cpu", 0.0
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def _look(self) -> None:
        self.bytes = max(self.bytes, psutil.Process().memory_info().rss)

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._look()

    def __enter__(self) -> "_peak_bytes":
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._look()  # the block may be over before the watcher looks
            self._watcher.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        if self._on_gpu:
            self.bytes = torch.cuda.max_memory_allocated()
            return
        self._stop.set()
        self._watcher.join()
