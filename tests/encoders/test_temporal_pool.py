"""Attention over frames: equal to a loop of its own definition is held in test_aim; here is what it can and cannot see."""

import torch

from encoders.temporal_pool import TemporalPool


def trained_pool(num_frames=5, seed=0):
    torch.manual_seed(seed)
    pool = TemporalPool(num_frames, 8, 2).double()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.add_(torch.randn_like(parameter))
    return pool


def test_a_pool_can_learn_to_tell_a_clip_from_its_reverse():
    """The mean cannot: a clip and its reverse have the same one."""
    torch.manual_seed(0)
    frames = torch.randn(32, 6, 8)
    both = torch.cat([frames, frames.flip(1)])
    is_reversed = torch.arange(64) >= 32
    pool, head = TemporalPool(6, 8, 2), torch.nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*pool.parameters(), *head.parameters()], lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        logits = head(pool(both)).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, is_reversed.float())
        loss.backward()
        optimizer.step()
    assert ((logits > 0) == is_reversed).float().mean() > 0.9


def test_without_positions_order_makes_no_difference():
    pool = trained_pool()
    frames = torch.randn(3, 5, 8, dtype=torch.float64)
    assert (pool(frames) - pool(frames.flip(1))).abs().max() > 1e-3
    with torch.no_grad():
        pool.positions.zero_()
    torch.testing.assert_close(pool(frames), pool(frames.flip(1)))
