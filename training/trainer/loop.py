"""The training loop of both stages: plain torch, resumable after any interruption with the same numbers.

All randomness is derived from the position of the run: the order of examples from (seed, epoch), the choices for an example from (seed,
epoch, example), dropout from (seed, step, worker). So a checkpoint needs weights, optimizer state and a position.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from training.configs import LoopConfig
from training.trainer.checkpoint import (
    BEST,
    LAST,
    MetricsLog,
    load_checkpoint,
    require_entries,
    save_checkpoint,
)
from training.trainer.optimizer import (
    build_optimizer,
    epoch_factor,
    rate_factor,
    set_learning_rate,
)

logger = logging.getLogger(__name__)
Batch = dict[str, Tensor]
_LOG_EVERY_ON_GPU = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Rank and device of this worker; the default is a run in one process."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the workers."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def lowest(self, value: Tensor) -> float:
        """The lowest value of the workers."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.MIN)
        return float(value)


class Task(Protocol):
    """A stage, as the loop uses it. It may also define epoch_order(epoch): the ordered example numbers of an epoch."""

    @property
    def module(self) -> nn.Module:
        """forward(batch) -> scalars; `loss` is logged, `objective` (default: the loss) is differentiated."""
        ...

    @property
    def num_examples(self) -> int: ...
    @property
    def score_name(self) -> str:
        """The value of evaluate() that decides which epoch is the best."""
        ...

    def batches(self, epoch: int, steps: Sequence[np.ndarray]) -> Iterator[Batch]:
        """Yield this worker's batch of each step, given as example numbers, in the order of `steps`."""
        ...

    def evaluate(self, world: World) -> dict[str, tuple[float, float]]:
        """name -> (sum, count) over this worker's part of the val split."""
        ...


@dataclass(frozen=True, kw_only=True)
class TaskFactory:
    """Sent to each worker, where it builds the task; every worker gets the same one."""

    def build(self, world: World) -> Task:
        """Read the files and put the module on the worker's device."""
        raise NotImplementedError(f"{type(self).__name__} must define build()")


def step_order(
    num_examples: int,
    config: LoopConfig,
    *,
    epoch: int,
    world: World,
    order: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Example numbers of this worker per step. An incomplete last batch is dropped, unless it is the only one.

    `order` holds the example numbers of the epoch, each once or several times; None = shuffled.
    """
    if order is None:
        order = np.random.default_rng([config.seed, epoch]).permutation(num_examples)
    if len(order) != num_examples:
        raise ValueError(f"order has {len(order)} examples; it must have {num_examples}")
    size = min(config.batch_size, num_examples)
    size -= size % world.size
    if size == 0:
        raise ValueError(
            f"{num_examples} examples and batch_size {config.batch_size} leave nothing for each of {world.size} workers"
        )
    num_steps = num_examples // size
    return [
        order[step * size : (step + 1) * size][world.rank :: world.size]
        for step in range(num_steps)
    ]


def fit(
    task: Task,
    config: LoopConfig,
    run_dir: Path,
    *,
    world: World | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Train from the last checkpoint of the run folder, or from the start, to the last epoch."""
    _Fit(task, config, run_dir, world or World()).run(on_epoch or (lambda _line: None))


class _Fit:
    def __init__(self, task: Task, config: LoopConfig, run_dir: Path, world: World) -> None:
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        self.task, self.config, self.run_dir, self.world = task, config, run_dir, world
        self.raw_module = task.module
        self.optimizer = build_optimizer(self.raw_module, config)
        self.log_every = config.log_every or (1 if world.device == "cpu" else _LOG_EVERY_ON_GPU)
        self.epoch, self.step = 0, 0
        self.best_score = float("-inf")
        # On the device: a look at each step's loss would make a GPU wait for it.
        self._first_bad_step = torch.tensor(float("inf"), device=world.device)
        self.steps_per_epoch = len(step_order(task.num_examples, config, epoch=0, world=world))
        is_bf16 = config.precision == "bf16" or (
            config.precision == "auto" and world.device.startswith("cuda")
        )
        self.low_dtype = torch.bfloat16 if is_bf16 else torch.float16
        self.uses_low_dtype = is_bf16 or config.precision == "fp16"
        # Small gradients vanish in float16 unless the loss is scaled.
        self.scaler = torch.amp.GradScaler(
            world.device.split(":")[0], enabled=config.precision == "fp16"
        )
        self._restore()
        self.module = self._distributed()
        # Only one worker writes; the others have no log.
        self.log = MetricsLog(run_dir, after_step=self.step) if world.rank == 0 else None

    def _restore(self) -> None:
        state = load_checkpoint(self.run_dir, LAST)
        if state is None:
            return
        needed = ("module", "optimizer", "epoch", "step", "best_score")
        require_entries(state, needed, self.run_dir)
        load_learned(self.raw_module, state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state.get("scaler") or {})
        self.epoch, self.step = state["epoch"], state["step"]
        self.best_score = state["best_score"]
        logger.info("resuming after epoch %d, step %d", self.epoch, self.step)

    def _distributed(self) -> nn.Module:
        if self.world.size == 1:
            return self.raw_module
        on_gpu = self.world.device.startswith("cuda")
        return DistributedDataParallel(
            self.raw_module,
            device_ids=[torch.device(self.world.device)] if on_gpu else None,
            broadcast_buffers=False,
            find_unused_parameters=getattr(self.raw_module, "may_leave_parameters_unused", False),
        )

    def run(self, on_epoch: Callable[[dict[str, Any]], None]) -> None:
        while self.epoch < self.config.num_epochs:
            self._train_epoch()
            self.epoch += 1
            line: dict[str, Any] = {"step": self.step, "epoch": self.epoch}
            if self.epoch % self.config.eval_every == 0 or self.epoch == self.config.num_epochs:
                line |= self._evaluate()
            if self.log is not None:
                # The line before the checkpoint: if the run ends in between, MetricsLog drops the line on resuming.
                self.log.append(**line)
                self._save(line.get(self.task.score_name))
            on_epoch(line)

    def _train_epoch(self) -> None:
        self.module.train()
        own_order = getattr(self.task, "epoch_order", None)
        steps = step_order(
            self.task.num_examples,
            self.config,
            epoch=self.epoch,
            world=self.world,
            order=None if own_order is None else own_order(self.epoch),
        )
        num_parts = self.config.num_accumulation_steps
        if num_parts > len(steps[0]):
            raise ValueError(
                f"num_accumulation_steps is {num_parts}; a worker has {len(steps[0])} examples a step to split"
            )
        parts = [np.array_split(step, num_parts) for step in steps]
        todo = [part for of_step in parts for part in of_step]
        with closing(self._batches(todo)) as batches:
            for of_step in parts:
                self._train_step(batches, [len(part) for part in of_step])
            next(batches, None)  # runs the code after the last yield, where the task ends its epoch

    def _batches(self, steps: Sequence[np.ndarray]) -> Generator[Batch]:
        batches = self.task.batches(self.epoch, steps)
        if self.world.device.startswith("cuda"):
            return _on_device_ahead(batches, self.world.device)
        return _as_generator(batches)

    def _train_step(self, batches: Iterator[Batch], part_sizes: Sequence[int]) -> None:
        """One optimizer step over the batches of its accumulation parts."""
        config = self.config
        self.step += 1
        num_steps = self.steps_per_epoch * config.num_epochs
        factor = (
            epoch_factor(self.epoch, num_epochs=config.num_epochs)
            if config.schedule == "epoch"
            else rate_factor(
                self.step, num_warmup_steps=config.num_warmup_steps, num_steps=num_steps
            )
        )
        set_learning_rate(self.optimizer, config.learning_rate * factor)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for part, size in enumerate(part_sizes):
            is_last = part == len(part_sizes) - 1
            share = size / sum(part_sizes)
            for name, value in self._differentiate(next(batches), part, share, is_last).items():
                totals[name] = totals.get(name, 0) + value.detach() * share
        if config.grad_clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), config.grad_clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._note_if_not_finite(totals)
        if self.step % self.log_every == 0 or self.step % self.steps_per_epoch == 0:
            self._log_step({name: v for name, v in totals.items() if name != "objective"}, factor)

    def _differentiate(
        self, batch: Batch, part: int, share: float, is_last: bool
    ) -> Mapping[str, Tensor]:
        """Add the gradients of one part; workers exchange them after the last part only."""
        world = self.world
        place = [self.config.seed, self.step, world.rank] + ([part] if part else [])
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        batch = {name: value.to(world.device, non_blocking=True) for name, value in batch.items()}
        waits = isinstance(self.module, DistributedDataParallel) and not is_last
        with self.module.no_sync() if waits else nullcontext():  # type: ignore[union-attr]
            with self._autocast():
                values: Mapping[str, Tensor] = self.module(batch)
            self.scaler.scale(values.get("objective", values["loss"]) * share).backward()
        return values

    def _autocast(self) -> torch.autocast:
        kind = self.world.device.split(":")[0]
        return torch.autocast(kind, self.low_dtype, enabled=self.uses_low_dtype)

    def _note_if_not_finite(self, totals: Mapping[str, Tensor]) -> None:
        is_finite = torch.isfinite(torch.stack(list(totals.values()))).all()
        bad_step = torch.where(is_finite, float("inf"), float(self.step))
        self._first_bad_step = torch.minimum(self._first_bad_step, bad_step)

    def _log_step(self, values: Mapping[str, Tensor], factor: float) -> None:
        first_bad_step = self.world.lowest(self._first_bad_step)
        if np.isfinite(first_bad_step):  # before the end of an epoch, so before its checkpoint
            raise FloatingPointError(
                f"the loss is not finite at step {first_bad_step:.0f}; lower learning_rate or set grad_clip_norm, then run "
                "the same command with another run folder"
            )
        sums = self.world.sums([float(value.detach()) for value in values.values()])
        means = {name: s / self.world.size for name, s in zip(values, sums, strict=True)}
        if self.log is not None:
            rate = self.config.learning_rate * factor
            self.log.append(step=self.step, **means, learning_rate=rate)

    def _evaluate(self) -> dict[str, float]:
        self.raw_module.eval()
        # In the precision of training: float32 would take ten times as long on a GPU.
        with torch.inference_mode(), self._autocast():
            sums = self.task.evaluate(self.world)
        flat = self.world.sums([number for pair in sums.values() for number in pair])
        return {
            name: flat[2 * n] / flat[2 * n + 1]
            for n, name in enumerate(sums)
            if flat[2 * n + 1] > 0
        }

    def _save(self, score: float | None) -> None:
        """Write the best weights first: if the run ends in between, the repeated epoch writes the same ones."""
        module = learned_state(self.raw_module)
        # The loss of a step is of the weights before it.
        bad = [name for name, value in module.items() if not torch.isfinite(value).all()]
        if bad:
            raise FloatingPointError(
                f"weights are not finite after step {self.step} ({bad[0]}); lower learning_rate or set grad_clip_norm, then run the same "
                "command with another run folder"
            )
        if self.config.keep == "best" and score is not None and score > self.best_score:
            self.best_score = score
            save_checkpoint(self.run_dir, BEST, {"module": module, "epoch": self.epoch})
        state = {
            "module": module,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "best_score": self.best_score,
        }
        save_checkpoint(self.run_dir, LAST, state)


def _on_device_ahead(batches: Iterator[Batch], device: str) -> Generator[Batch]:
    """The batches on a GPU, each on its way while the one before it is trained on: a copy from pinned memory does not wait."""

    def sent() -> Batch | None:
        batch = next(batches, None)
        if batch is None:
            return None
        return {name: it.pin_memory().to(device, non_blocking=True) for name, it in batch.items()}

    ahead = sent()
    while ahead is not None:
        now, ahead = ahead, sent()
        yield now


def _as_generator(batches: Iterator[Batch]) -> Generator[Batch]:
    """Wrap any iterator as a generator, so that it can be closed early."""
    yield from batches


def load_trained(module: nn.Module, run_dir: Path, *, keep: str) -> int:
    """Load the weights of a finished run into the module; return their epoch."""
    name = BEST if keep == "best" else LAST
    state = load_checkpoint(run_dir, name) or load_checkpoint(run_dir, LAST)
    if state is None:
        raise ValueError(f"{run_dir}: it has no checkpoint; train first")
    require_entries(state, ("module", "epoch"), run_dir)
    load_learned(module, state["module"])
    return state["epoch"]


def _frozen_names(module: nn.Module) -> set[str]:
    return {name for name, value in module.named_parameters() if not value.requires_grad}


def learned_state(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: all but the frozen parameters, which the start of every run makes again from the same config."""
    frozen = _frozen_names(module)
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_learned(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put a `learned_state`, or a whole state dict as earlier versions saved it, into the module; ValueError for another module's."""
    missing, unexpected = module.load_state_dict(state, strict=False)
    if lacking := sorted(set(missing) - _frozen_names(module)) + sorted(unexpected):
        raise ValueError(
            f"the checkpoint is of another module: {', '.join(lacking[:5])} do not fit"
        )
