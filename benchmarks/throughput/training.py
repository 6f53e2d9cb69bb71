"""Training throughput and its bottleneck; `python -m benchmarks.throughput.training [--tiny]` writes one record.

Stage 1 on rendered dives: clips/s and the share of time spent waiting for data, for the demo's recipe (kept frame vectors), the
paper's (decoded frames), and a small AIM on frames that are decoded in every epoch or once. Stage 2 at the paper's widths on cached vectors: triplets/s beside the matrix rate of the same run, dtype
and threads. Both run the project's own loop. N queries, V width of clip vectors, D width of text vectors.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.dives.archive import ArchiveConfig, write_archive
from benchmarks.harness.composer import ComposerWidths, untrained_composer
from benchmarks.harness.record import Ceiling, Samples, summarize_samples, write_record
from benchmarks.studies.synthetic_data import LearnableSize, make_learnable_data
from benchmarks.throughput.data_wait import WatchedTask
from encoders.clips import read_clips, write_clips
from encoders.video_encoder.config import PRESETS
from training.configs import LaunchSettings, Stage1Config, Stage2Config
from training.recipes import RECIPES
from training.stage1.frame_vectors import keep_frame_vectors
from training.stage1.task import Stage1Factory, has_frozen_image_part
from training.stage2.task import Stage2Task
from training.stage2.text_table import TextTable
from training.trainer.loop import World, fit

PAPER_TRIPLETS = 180_000
_TINY_CLASSES = ("103b", "105b", "5132d", "5152b")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedSize(ComposerWidths):
    """How much is measured; widths and batch of stage 2 are the paper's."""

    clips_per_class: int = 96
    stage1_epochs: int = 4
    aim_preset: str = "aim_vit_b16_finegd"
    aim_batch: int = 2
    aim_steps: int = 5
    small_preset: str = "aim_small"
    """Encoder of the runs with and without kept frames: one that trains faster than it is fed."""
    small_batch: int = 8
    small_steps: int = 12
    stage2_steps: int = 8
    batch_size: int = 512
    warmup: int = 2
    """Steps that are not counted."""


FULL = SpeedSize()
TINY = SpeedSize(
    clips_per_class=3, stage1_epochs=2, aim_preset="", small_preset="aim_tiny", small_steps=1, stage2_steps=4, batch_size=64,
    projection_dim=256, hidden_dim=512, warmup=1,
)  # fmt: skip


def measure_training(size: SpeedSize = FULL) -> dict[str, object]:
    """All figures of both stages."""
    return {**measure_stage1(size), **measure_stage2(size)}


def measure_stage1(size: SpeedSize) -> dict[str, object]:
    """Clips/s and share of waiting of both ways to feed the loop; loader_wait_share is the worse one."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = ArchiveConfig(
            classes=_TINY_CLASSES, clips_per_class=(size.clips_per_class, 1, 0), seed=7
        )
        clips_path = write_archive(Path(folder) / "dives", archive, quiet=True)
        shares = []
        for name, keeps in (("decoded", False), ("kept", True)):
            found = _measure_small(size, clips_path, Path(folder) / f"small_{name}", keeps=keeps)
            figures |= {f"stage1_small_{name}_{key}": value for key, value in found.items()}
        shares.append(figures["stage1_small_kept_wait_share"])
        for name, config in _stage1_configs(size).items():
            task = _run_stage1(config, clips_path, Path(folder) / name, max_steps=size.aim_steps)
            clips_per_step = min(config.loop.batch_size, task.num_examples)
            figures[f"{name}_clips_per_s"] = _rates(task, clips_per_step, size.warmup)
            share = task.wait_share(warmup=size.warmup)
            figures[f"{name}_wait_share"] = share
            shares.append(share)
    figures["loader_wait_share"] = max(shares)
    return figures


def _measure_small(
    size: SpeedSize, clips_path: Path, run_dir: Path, *, keeps: bool
) -> dict[str, Any]:
    """A small AIM on frames of the paper's recipe, decoded in every epoch or once; the first epoch, which fills the disk, is not counted."""
    recipe = RECIPES["aim_vit_b16_finegd"]()
    assert isinstance(recipe, Stage1Config)
    config = replace(
        recipe,
        encoder=PRESETS[size.small_preset],
        pretrained_image=None,
        loop=replace(
            recipe.loop, num_epochs=3, batch_size=size.small_batch, num_accumulation_steps=1
        ),
        num_decode_threads=2,
    )
    task = _run_stage1(
        config, clips_path, run_dir, max_steps=size.small_steps, frame_cache_gib=1.0 * keeps
    )
    clips_per_step = min(size.small_batch, task.num_examples)
    warmup = len(task.wait_s) // config.loop.num_epochs
    cpu_s = sum(task.cpu_s[warmup:]) / len(task.cpu_s[warmup:]) / clips_per_step
    return {
        "clips_per_s": _rates(task, clips_per_step, warmup),
        "wait_share": task.wait_share(warmup=warmup),
        "cpu_s_per_clip": cpu_s,
    }


def _stage1_configs(size: SpeedSize) -> dict[str, Stage1Config]:
    demo = RECIPES["demo_actions"]()
    assert isinstance(demo, Stage1Config)
    loop = replace(demo.loop, num_epochs=size.stage1_epochs)
    configs = {"stage1_kept_vectors": replace(demo, loop=loop)}
    if size.aim_preset:
        aim = RECIPES[size.aim_preset]()
        assert isinstance(aim, Stage1Config)
        # Random weights take the time of CLIP's; frozen or not decides how far gradients go.
        configs["stage1_aim_decoded"] = replace(
            aim,
            pretrained_image=None,
            loop=replace(aim.loop, num_epochs=1, batch_size=size.aim_batch),
            num_decode_threads=2,
        )
    return configs


def _run_stage1(
    config: Stage1Config,
    clips_path: Path,
    run_dir: Path,
    *,
    max_steps: int,
    frame_cache_gib: float = 0.0,
) -> WatchedTask:
    """Trains for the steps of the config; from decoded frames no more than the first few."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    factory = Stage1Factory(
        config=config,
        clips_path=str(clips_path),
        run_dir=str(run_dir),
        frame_vectors_dir=str(run_dir / "frame_vectors"),
        frame_cache_gib=frame_cache_gib,
    )
    world = World(device=device)
    if has_frozen_image_part(config.encoder):
        quiet = LaunchSettings(show_progress=False)
        source = factory.vector_source(device)
        keep_frame_vectors(read_clips(clips_path), source, run_dir / "frame_vectors", quiet)
    else:
        clips = read_clips(clips_path)
        train = [c for c in clips if c.split == "train"][: max_steps * config.loop.batch_size]
        clips_path = clips_path.with_name("few.parquet")
        write_clips(clips_path, [*train, *(c for c in clips if c.split != "train")])
        factory = replace(factory, clips_path=str(clips_path))
    task = factory.build(world)
    if not has_frozen_image_part(config.encoder):
        task.module.encoder.freeze_pretrained()
    watched = WatchedTask(task=task, device=device)
    fit(watched, config.loop, run_dir, world=world)
    return watched


def measure_stage2(size: SpeedSize) -> dict[str, object]:
    """Triplets/s, the share of the matrix rate, and the time of an epoch of 180K triplets."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = _stage2_config(size)
    task, num_parameters = _stage2_task(size, config, device)
    flop_per_step = _count_flop(task, size)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    before = matmul_flop_per_s(size, dtype, device)
    watched = WatchedTask(task=task, device=device)
    with tempfile.TemporaryDirectory() as folder:
        fit(watched, config.loop, Path(folder), world=World(device=device))
    after = matmul_flop_per_s(size, dtype, device)
    rates = _rates(watched, size.batch_size, size.warmup)
    rate = max(before, after)
    return {
        "stage2_triplets_per_s": rates,
        "stage2_matmul_share": rates.median / size.batch_size * flop_per_step / rate,
        "stage2_epoch_s": PAPER_TRIPLETS / rates.median,
        "stage2_wait_share": watched.wait_share(warmup=size.warmup),
        "stage2_flop_per_step": flop_per_step,
        "stage2_num_parameters": num_parameters,
        "matmul_flop_per_s": rate,
        "dtype": str(dtype).removeprefix("torch."),
        "num_threads": torch.get_num_threads(),
    }


def matmul_flop_per_s(size: SpeedSize, dtype: torch.dtype, device: str) -> float:
    """The best rate of the largest product of a step and of a square one, each the fastest of several."""
    best = 0.0
    largest = (size.batch_size, 2 * size.projection_dim, size.hidden_dim)
    for m, k, n in (largest, (2 * size.batch_size if device == "cpu" else 8192,) * 3):
        a, b = (
            torch.randn(m, k, device=device, dtype=dtype),
            torch.randn(n, k, device=device, dtype=dtype),
        )
        for _ in range(8):
            started = time.perf_counter()
            F.linear(a, b)
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * m * k * n / (time.perf_counter() - started))
    return best


def _stage2_config(size: SpeedSize) -> Stage2Config:
    recipe = RECIPES["tfcovr_base"]()
    assert isinstance(recipe, Stage2Config)
    loop = replace(recipe.loop, num_epochs=1, batch_size=size.batch_size, keep="final")
    return replace(
        recipe,
        loop=loop,
        train_text=False,
        projection_dim=size.projection_dim,
        hidden_dim=size.hidden_dim,
    )


def _stage2_task(size: SpeedSize, config: Stage2Config, device: str) -> tuple[Stage2Task, int]:
    """Random text vectors for the texts of made-up triplets: a frozen text encoder's are read from a file as well."""
    num_train = size.batch_size * size.stage2_steps
    # A tenth each of the made triplets is val and test.
    amounts = LearnableSize(num_triplets=-(-num_train * 10 // 8) + 10, vector_dim=size.video_dim)
    data = make_learnable_data(amounts)
    unit_ND = F.normalize(torch.from_numpy(data.vectors_ND), dim=-1).numpy()
    vectors = dict(zip(data.clip_ids, unit_ND, strict=True))
    texts = sorted({triplet.edit_text for triplet in data.triplets})
    ones = torch.ones(len(texts), 1, dtype=torch.int64)
    table = TextTable(
        number_by_text={text: n for n, text in enumerate(texts)},
        vectors_UD=F.normalize(torch.randn(len(texts), size.text_dim), dim=-1),
        tokens_UL=ones,
        mask_UL=ones,
    )
    torch.manual_seed(0)
    module = untrained_composer(size, config).to(device)
    parts = {
        split: [t for t in data.triplets if t.split == split][
            : num_train if split == "train" else 1
        ]
        for split in ("train", "val")
    }
    task = Stage2Task(module, parts, vectors, table, config)
    return task, sum(p.numel() for p in module.parameters())


def _count_flop(task: Stage2Task, size: SpeedSize) -> float:
    """Of the matrix products of one step, forward and backward."""
    device = next(task.module.parameters()).device
    batch = next(iter(task.batches(0, [np.arange(size.batch_size)])))
    with FlopCounterMode(display=False) as counter:
        task.module({name: rows.to(device) for name, rows in batch.items()})["loss"].backward()
    task.module.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def _rates(task: WatchedTask, per_step: int, warmup: int) -> Samples:
    steps = [wait + work for wait, work in zip(task.wait_s, task.work_s, strict=True)]
    return summarize_samples([per_step / seconds for seconds in steps], warmup=warmup)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput.training",
        description=__doc__,
        epilog="example: OUT=/tmp/records python -m benchmarks.throughput.training --tiny",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tiny", action="store_true", help="seconds; the numbers mean nothing")
    size = TINY if parser.parse_args(argv).tiny else FULL
    metrics = measure_training(size)
    share = metrics["stage2_matmul_share"]
    rate = metrics["matmul_flop_per_s"]
    assert isinstance(share, float)
    assert isinstance(rate, float)
    path = write_record(
        "training_speed_tiny" if size is TINY else "training_speed",
        config=asdict(size),
        metrics=metrics,
        ceiling=Ceiling(name="matrix product", value=rate / 1e9, unit="GFLOP/s", fraction=share),
        excluded=["rendering", "evaluation", "checkpoints", f"first {size.warmup} steps"],
    )
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
