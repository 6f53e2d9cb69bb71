"""Settings of both trainings from the size of the data, as options of `tfcovr train`."""

import math
from dataclasses import dataclass

# What the demo takes on 864 clips and 8,000 triplets: fewer steps learn less, many more learn nothing new.
_STAGE1_STEPS, _STAGE2_STEPS = 540, 400
_EPOCHS = (12, 60)
_TRIPLETS_PER_CLIP = 10
_NUM_TRIPLETS = (2_000, 180_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSettings:
    """Length of one training."""

    num_epochs: int
    batch_size: int
    num_warmup_steps: int
    eval_every: int

    def options(self) -> tuple[str, ...]:
        """For `tfcovr train`."""
        return (
            "--config.loop.num-epochs", str(self.num_epochs),
            "--config.loop.batch-size", str(self.batch_size),
            "--config.loop.num-warmup-steps", str(self.num_warmup_steps),
            "--config.loop.eval-every", str(self.eval_every),
        )  # fmt: skip


def stage1_settings(num_train_clips: int) -> LoopSettings:
    """About 540 steps of 32 clips, in 12 to 60 epochs."""
    return _settings(num_train_clips, batch_size=32, num_steps=_STAGE1_STEPS)


def stage2_settings(num_train_triplets: int) -> LoopSettings:
    """About 400 steps of 256 triplets, in 12 to 60 epochs."""
    return _settings(num_train_triplets, batch_size=256, num_steps=_STAGE2_STEPS)


def num_triplets(num_clips: int) -> int:
    """Ten per clip, between 2,000 and the paper's 180,000."""
    low, high = _NUM_TRIPLETS
    return min(max(_TRIPLETS_PER_CLIP * num_clips, low), high)


def _settings(num_examples: int, *, batch_size: int, num_steps: int) -> LoopSettings:
    """A set smaller than four batches gets smaller ones: a step should not see the same examples again."""
    batch_size = max(min(batch_size, num_examples // 4), min(8, num_examples), 1)
    steps_per_epoch = math.ceil(num_examples / batch_size)
    low, high = _EPOCHS
    num_epochs = min(max(round(num_steps / steps_per_epoch), low), high)
    return LoopSettings(
        num_epochs=num_epochs,
        batch_size=batch_size,
        num_warmup_steps=min(100, num_epochs * steps_per_epoch // 5),
        eval_every=max(1, num_epochs // 10),
    )
