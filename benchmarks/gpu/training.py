"""Both training stages on this device, with their rates, on examples made in memory.

It is the project's own loop that runs, bf16 autocast and checkpoints and all; only the files are missing. Needs
torch and NumPy, but neither Ray nor av. N clips, T frames, S side of a frame, D clip vector.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.encoder import count_aim_flops, matmul_rate
from benchmarks.gpu.steps import Measurement
from benchmarks.harness.composer import ComposerWidths, untrained_composer
from benchmarks.harness.record import Ceiling, Samples, summarize_samples
from encoders.clips import Clip
from encoders.video_encoder.config import PRESETS, AimConfig, TrainableConfig
from training.annotations.triplets.table import Triplet
from training.configs import LoopConfig, Stage1Config, Stage2Config
from training.stage1.task import Stage1Task, build_classifier
from training.stage2.task import Stage2Task
from training.stage2.text_table import TextTable
from training.trainer.loop import Batch, World, fit

LABELS = ("101b", "105b", "205b", "305c")
# The loss must come down to this share of where it began.
MAX_LOSS_LEFT = 0.8


class MemoryClips:
    """A ClipSource whose clips of one label share a pattern under noise, different in each frame."""

    def __init__(self, config: TrainableConfig, *, num_clips: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        side = config.image_size
        shape = (config.num_frames, side, side, 3)
        coarse = rng.integers(40, 216, (len(LABELS), config.num_frames, 4, 4, 3))
        patterns = coarse.repeat(side // 4, axis=2).repeat(side // 4, axis=3)
        self.clips = [
            Clip(clip_id=f"{n:05d}", video_uri="memory", label=LABELS[n % len(LABELS)])
            for n in range(num_clips)
        ]
        self._frames = np.empty((num_clips, *shape), np.uint8)
        for number in range(num_clips):
            noise = rng.integers(-40, 40, shape)
            self._frames[number] = patterns[number % len(LABELS)] + noise

    def load(self, numbers: np.ndarray, epoch: int | None) -> dict[str, Tensor]:
        """The same frames in every epoch."""
        del epoch
        return {
            "frames": torch.from_numpy(self._frames[numbers]),
            "weights": torch.ones(len(numbers)),
        }


class _TimedStage2(Stage2Task):
    """As _TimedStage1."""

    device: torch.device
    epoch_seconds: list[float]

    def batches(self, epoch: int, steps: Sequence[np.ndarray]) -> Iterator[Batch]:
        with _Stopwatch(self.device, self.epoch_seconds):
            yield from super().batches(epoch, steps)


class _TimedStage1(Stage1Task):
    """Knows how long the steps of each epoch took, without evaluation and checkpoints."""

    device: torch.device
    epoch_seconds: list[float]

    def batches(self, epoch: int, steps: Sequence[np.ndarray]) -> Iterator[Batch]:
        with _Stopwatch(self.device, self.epoch_seconds):
            yield from super().batches(epoch, steps)


class _Stopwatch:
    def __init__(self, device: torch.device, seconds: list[float]) -> None:
        self._device, self._seconds = device, seconds

    def __enter__(self) -> None:
        self._wait()
        self._started = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        self._wait()
        self._seconds.append(time.perf_counter() - self._started)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def train_stage1(  # noqa: PLR0913 - the sizes of a run, each once
    device: torch.device,
    *,
    preset: str,
    num_clips: int = 64,
    batch_size: int = 8,
    num_epochs: int = 10,
    learning_rate: float = 3e-4,
    matmul_size: int = 8192,
) -> Measurement:
    """Action classification from random weights, in bf16."""
    encoder = PRESETS[preset]
    loop = LoopConfig(
        num_epochs=num_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.05,
        grad_clip_norm=1.0,
        num_warmup_steps=4,
        precision="bf16",
        log_every=1,  # so that a loss that does not fall is seen
        eval_every=num_epochs,
    )
    config = Stage1Config(encoder=encoder, loop=loop)
    source = MemoryClips(encoder, num_clips=num_clips)
    classes = {"label": sorted(LABELS)}
    module = build_classifier(config, classes).to(device)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        task = _TimedStage1(module, {"train": source, "val": source}, classes, config, run_dir)
        task.device, task.epoch_seconds = device, []
        fit(task, loop, run_dir, world=World(device=str(device)))
        losses = read_losses(run_dir)
    measured = describe_training(
        losses,
        task.epoch_seconds,
        clips_per_epoch=num_clips // batch_size * batch_size,
        config={"preset": preset, "batch_size": batch_size, "precision": "bf16"},
        excluded=["decoding", "evaluation", "checkpoints"],
    )
    if not isinstance(encoder, AimConfig):
        return measured
    ceiling = matmul_rate(device, size=matmul_size, num_runs=10, warmup=5).median
    return _beside_matmul(measured, encoder, ceiling)


def _beside_matmul(measured: Measurement, encoder: AimConfig, ceiling: float) -> Measurement:
    """With the share of a bf16 matmul rate, in TFLOP/s, that the linear layers reached, forward and backward."""
    flops = count_aim_flops(encoder)
    adapters = 3 * 4 * encoder.width * int(encoder.width * encoder.adapter_ratio)
    learned = encoder.num_frames * encoder.depth * encoder.num_tokens * adapters
    rate = measured.metrics["clips_per_s"]
    assert isinstance(rate, Samples)
    # Back through every layer, and for the adapters' own weights once more.
    achieved = rate.median * (2 * flops.linear + learned) / 1e12
    share = achieved / ceiling
    return replace(
        measured,
        line=f"{measured.line}, {share:.1%} of the matmul rate",
        metrics={**measured.metrics, "fraction_of_matmul": share},
        ceiling=Ceiling(
            name="bf16 matmul on this device", value=ceiling, unit="TFLOP/s", fraction=share
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Size(ComposerWidths):
    """How much stage 2 has to do; the widths and the batch are the paper's."""

    num_queries: int = 8192
    batch_size: int = 512
    num_epochs: int = 6
    num_labels: int = 64
    learning_rate: float = 1e-4


def train_stage2(device: torch.device, size: Stage2Size | None = None) -> Measurement:
    """Hard-negative NCE of composed queries against clip vectors, text vectors given, in bf16."""
    size = size or Stage2Size()
    loop = LoopConfig(
        num_epochs=size.num_epochs,
        batch_size=size.batch_size,
        learning_rate=size.learning_rate,
        weight_decay=0.05,
        grad_clip_norm=1.0,
        precision="bf16",
        log_every=1,
        eval_every=size.num_epochs,
    )
    config = Stage2Config(loop=loop, projection_dim=size.projection_dim, hidden_dim=size.hidden_dim)
    torch.manual_seed(0)
    module = untrained_composer(size, config).to(device)
    triplets, vectors, texts = _composed_queries(size)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        parts = {"train": triplets, "val": triplets[: size.batch_size]}
        task = _TimedStage2(module, parts, vectors, texts, config)
        task.device, task.epoch_seconds = device, []
        fit(task, loop, run_dir, world=World(device=str(device)))
        losses = read_losses(run_dir)
    return describe_training(
        losses,
        task.epoch_seconds,
        clips_per_epoch=size.num_queries // size.batch_size * size.batch_size,
        config={**asdict(size), "precision": "bf16", "fusion": "combiner"},
        excluded=["video and text encoders (their vectors are given)", "evaluation", "checkpoints"],
    )


def _composed_queries(
    size: Stage2Size,
) -> tuple[list[Triplet], dict[str, np.ndarray], TextTable]:
    """Clips lie around the centre of their label; the text says which label is meant."""
    rng = np.random.default_rng(0)

    def unit(rows: np.ndarray) -> np.ndarray:
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    labels = np.arange(size.num_queries) % size.num_labels
    centres = rng.standard_normal((size.num_labels, size.video_dim))
    noise = rng.standard_normal((size.num_queries, size.video_dim))
    rows_NV = unit(centres[labels] + 0.5 * noise)
    vectors = {f"{n:06d}": row for n, row in enumerate(rows_NV)}
    texts_UD = unit(rng.standard_normal((size.num_labels, size.text_dim)))
    wanted = (labels + rng.integers(1, size.num_labels, size.num_queries)) % size.num_labels
    triplets = [
        Triplet(
            query_id=f"q{n:06d}",
            query_clip_id=f"{n:06d}",
            edit_text=f"text {label}",
            # One clip of the wanted label: label, label + num_labels, ...
            target_clip_ids=(f"{label + size.num_labels * (n % 4):06d}",),
            source_label=str(labels[n]),
            target_label=str(label),
            split="train",
        )
        for n, label in enumerate(wanted.tolist())
    ]
    tokens = torch.ones((size.num_labels, 1), dtype=torch.int64)
    table = TextTable(
        number_by_text={f"text {label}": label for label in range(size.num_labels)},
        vectors_UD=torch.from_numpy(texts_UD),
        tokens_UL=tokens,
        mask_UL=tokens,
    )
    return triplets, vectors, table


def read_losses(run_dir: Path) -> list[float]:
    """The loss of each step, from the run's own log."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def describe_training(
    losses: Sequence[float],
    epoch_seconds: Sequence[float],
    *,
    clips_per_epoch: int,
    config: dict[str, object],
    excluded: Sequence[str],
) -> Measurement:
    """Rates of all but the first epoch; a loss that did not fall is a problem."""
    rates = summarize_samples([clips_per_epoch / seconds for seconds in epoch_seconds], warmup=1)
    share = max(1, len(losses) // 8)
    first, last = float(np.mean(losses[:share])), float(np.mean(losses[-share:]))
    problems = []
    if not last < MAX_LOSS_LEFT * first:
        problems.append(f"the loss went from {first:.3f} to {last:.3f}, it must fall by a fifth")
    return Measurement(
        line=f"loss {first:.3f} -> {last:.3f} in {len(losses)} steps, {rates.median:,.4g} clips/s",
        config=config,
        metrics={
            "clips_per_s": rates,
            "first_loss": first,
            "last_loss": last,
            "num_steps": len(losses),
        },
        excluded=[*excluded, "first epoch"],
        problems=problems,
    )
