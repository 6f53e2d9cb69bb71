"""Loss and gradients of two workers with half a batch each beside those of one worker with the whole batch.

Float64, dropout off. Queries come from the Combiner and targets through a layer that trains too, so that the gradients of both
gathered sides are compared; DDP averages them as in a real run. N queries, V width of clip vectors, D width of text vectors.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from benchmarks.harness.composer import ComposerWidths, untrained_composer
from training.configs import LoopConfig, Stage2Config

_NUM_WORKERS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoWorkerSize(ComposerWidths):
    """How large the compared batch is; the widths are small because the arithmetic does not depend on them."""

    num_queries: int = 32
    video_dim: int = 24
    text_dim: int = 16
    projection_dim: int = 48
    hidden_dim: int = 64
    num_labels: int = 5
    mask_same_label: bool = False
    seed: int = 0


class BothSides(nn.Module):
    """The composer of stage 2 with a layer on the targets, so that both sides of the loss have gradients."""

    def __init__(self, size: TwoWorkerSize) -> None:
        super().__init__()
        loop = LoopConfig(
            num_epochs=1, batch_size=size.num_queries, learning_rate=1.0, weight_decay=0
        )
        config = Stage2Config(loop=loop, dropout=0.0, mask_same_label=size.mask_same_label)
        self.composer = untrained_composer(size, config)
        self.target_in = nn.Linear(size.video_dim, size.video_dim)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        target_NV = F.normalize(self.target_in(batch["target"]), dim=-1)
        return self.composer({**batch, "target": target_NV})


def measure_two_workers(size: TwoWorkerSize | None = None) -> dict[str, float]:
    """Largest absolute differences: two_worker_loss_error of the loss, two_worker_grad_error of any gradient."""
    size = size or TwoWorkerSize()
    if size.num_queries % _NUM_WORKERS:
        raise ValueError(f"num_queries is {size.num_queries}; it must be even")
    alone = _loss_and_gradients(_module(size), _batch(size))
    with tempfile.TemporaryDirectory() as folder:
        spawn(_work, (size, folder), nprocs=_NUM_WORKERS)
        halves = [
            safetensors.torch.load_file(Path(folder) / f"{rank}.safetensors")
            for rank in range(_NUM_WORKERS)
        ]
    gradients = alone.keys() - {"loss"}
    if any(half.keys() != alone.keys() for half in halves):
        raise RuntimeError("the workers have gradients of other parameters than one worker has")
    return {
        "two_worker_loss_error": max(_distance(alone["loss"], half["loss"]) for half in halves),
        "two_worker_grad_error": max(
            _distance(alone[name], half[name]) for half in halves for name in gradients
        ),
    }


def _work(rank: int, size: TwoWorkerSize, folder: str) -> None:
    """One of the workers, in its own process, on every second row of the batch."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=_NUM_WORKERS
    )
    try:
        batch = {name: rows[rank::_NUM_WORKERS] for name, rows in _batch(size).items()}
        tensors = _loss_and_gradients(DistributedDataParallel(_module(size)), batch)
        safetensors.torch.save_file(tensors, Path(folder) / f"{rank}.safetensors")
    finally:
        dist.destroy_process_group()


def _loss_and_gradients(module: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`loss`, and parameter name -> gradient of what the loop differentiates."""
    values = module(batch)
    values["objective"].backward()
    gradients = {
        name.removeprefix("module."): parameter.grad.clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return {"loss": values["loss"].detach().clone(), **gradients}


def _module(size: TwoWorkerSize) -> nn.Module:
    torch.manual_seed(size.seed)
    return BothSides(size).double()


def _batch(size: TwoWorkerSize) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(size.seed + 1)

    def unit_rows(width: int) -> Tensor:
        rows = torch.randn(size.num_queries, width, generator=chance, dtype=torch.float64)
        return F.normalize(rows, dim=-1)

    return {
        "video": unit_rows(size.video_dim),
        "text": unit_rows(size.text_dim),
        "target": unit_rows(size.video_dim),
        "target_label": torch.randint(size.num_labels, (size.num_queries,), generator=chance),
    }


def _distance(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())
