"""Two real processes with DDP against one: the loss and both sides' gradients are those of the whole batch."""

import pytest
import torch

from benchmarks.fidelity.two_workers import BothSides, TwoWorkerSize, measure_two_workers
from training.trainer.loop import World, step_order


@pytest.mark.parametrize("mask_same_label", [False, True])
def test_two_workers_are_one(mask_same_label) -> None:
    errors = measure_two_workers(TwoWorkerSize(mask_same_label=mask_same_label))
    assert errors["two_worker_loss_error"] < 1e-6
    assert errors["two_worker_grad_error"] < 1e-6


def test_both_sides_have_gradients_to_compare() -> None:
    size = TwoWorkerSize()
    torch.manual_seed(0)
    module = BothSides(size)
    unit = torch.nn.functional.normalize
    batch = {
        "video": unit(torch.randn(6, size.video_dim), dim=-1),
        "text": unit(torch.randn(6, size.text_dim), dim=-1),
        "target": unit(torch.randn(6, size.video_dim), dim=-1),
        "target_label": torch.arange(6),
    }
    module(batch)["objective"].backward()
    assert all(p.grad.abs().max() > 1e-5 for p in module.parameters() if p.ndim > 1)


def test_workers_split_a_batch_as_the_comparison_does() -> None:
    loop = BothSides(TwoWorkerSize()).composer.config.loop
    (whole,) = step_order(loop.batch_size, loop, epoch=0, world=World())
    halves = [
        step_order(loop.batch_size, loop, epoch=0, world=World(rank=rank, size=2))[0]
        for rank in (0, 1)
    ]
    assert [half.tolist() for half in halves] == [whole[0::2].tolist(), whole[1::2].tolist()]
