"""Runs a list of stages (callable class, resources) as Ray Data actor pools that stream to each other.

Rows are dicts of any content, and every stage is a plain class with one instance per worker.
"""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import Datasink
from ray.exceptions import RayActorError, RayTaskError

from cluster.ray_session import wait_for_resources

logger = logging.getLogger(__name__)
_TARGET_BLOCK_BYTES = 16 << 20
_MAX_INPUT_BLOCKS = 2000
_ROWS_AT_ONCE = 32
# Retries of rows whose worker, or its whole node, went away.
_MAX_TASK_RETRIES = 10
_TASKS_AT_ONCE = 256
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class WorkersDiedError(RuntimeError):
    """Some rows crashed every worker that processed them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a dataflow: `factory(**arguments)` is constructed once per worker and then called.

    kind "rows": called with one row, yields any number of rows. kind "groups": called with `batch_size`
    rows at once, yields any number of rows. kind "batches": called with a dict of columns, returns a
    dict of columns.
    """

    name: str
    factory: type
    arguments: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["rows", "groups", "batches"] = "batches"
    num_workers: int = 1
    """Workers at the start, and at most unless max_workers is more."""
    min_workers: int = 0
    """With fewer than this many the work does not start, and the pool never shrinks below it. 0 = num_workers."""
    max_workers: int = 0
    """The pool grows up to this many while work waits and the cluster has room or makes some. 0 = num_workers."""
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    batch_size: int = 16
    is_spread: bool = False
    """Its workers are spread over the nodes."""

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise ValueError(
                f"stage {self.name!r}: num_workers is {self.num_workers}; it must be at least 1"
            )
        if not self.least_workers <= self.num_workers <= self.most_workers:
            raise ValueError(
                f"stage {self.name!r}: min_workers is {self.min_workers} and max_workers {self.max_workers}; they must be 0, or "
                f"at most and at least num_workers ({self.num_workers})"
            )
        if self.batch_size < 1:
            raise ValueError(
                f"stage {self.name!r}: batch_size is {self.batch_size}; it must be at least 1"
            )
        if self.kind not in ("rows", "groups", "batches"):
            raise ValueError(
                f"stage {self.name!r}: kind is {self.kind!r}; it must be rows, groups or batches"
            )

    @property
    def least_workers(self) -> int:
        return self.min_workers or self.num_workers

    @property
    def most_workers(self) -> int:
        return self.max_workers or self.num_workers

    def bundle(self) -> dict[str, float]:
        """What one worker takes of a node, in whole units: an autoscaler counts in those."""
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        return {name: float(math.ceil(amount)) for name, amount in wanted.items() if amount}


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Rows as a Parquet file, which is read when a worker is about to need them; every node must reach it under the same path."""

    path: Path
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    """Set in the rows when they are read: what may not be stored."""

    def row(self) -> dict[str, str]:
        """What a worker needs to read it."""
        return {"path": str(self.path), "columns": json.dumps(dict(self.columns))}


def write_block(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema,
    columns: Mapping[str, Sequence[str]],
) -> Block:
    """A block of these rows; `columns` are set when it is read."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return Block(path=path.resolve(), columns=columns)


def stream_dataflow(
    rows: Sequence[dict[str, Any]] | Sequence[Block],
    stages: Sequence[Stage],
    *,
    result_batch_size: int = 64,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield result batches as they are made, in any order; needs a connected Ray (`ray_session`). The rows may lie in blocks.

    An error of a stage is raised with its own type, with the worker's traceback as its cause.
    """
    if not rows:
        return
    dataset = _dataset(rows, stages)
    with _own_errors():
        for batch in dataset.iter_batches(batch_size=result_batch_size, batch_format="numpy"):
            yield cast("dict[str, np.ndarray]", batch)


def run_tasks(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Results of short calls, in any order: a CPU each, over all nodes of the connected Ray. What a node takes with it runs again."""
    options = {"num_cpus": 1, "max_retries": _MAX_TASK_RETRIES, "scheduling_strategy": "SPREAD"}
    task = ray.remote(**options)(function)
    left, running = iter(items), []
    with _own_errors():
        while True:
            # As many as a cluster that grows has use for, and no more than fit its scheduler.
            running += [task.remote(item) for item in islice(left, _TASKS_AT_ONCE - len(running))]
            if not running:
                return
            done, running = ray.wait(running, num_returns=1)
            yield from ray.get(done)


def write_dataflow(
    rows: Sequence[dict[str, Any]],
    stages: Sequence[Stage],
    sink: Datasink[Any],
    *,
    num_writers: int,
) -> None:
    """Run all rows through the stages into a Ray Data sink; errors, also those of the sink, are raised as in `stream_dataflow`."""
    if rows:
        with _own_errors():
            _dataset(rows, stages).write_datasink(sink, concurrency=num_writers)


def _dataset(
    rows: Sequence[dict[str, Any]] | Sequence[Block], stages: Sequence[Stage]
) -> ray.data.Dataset:
    _check_resources(stages)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.target_max_block_size = _TARGET_BLOCK_BYTES
    _keep_ray_data_off_the_terminal()
    first = _at_most(stages[0], len(rows))
    if isinstance(rows[0], Block):
        items = [block.row() for block in rows if isinstance(block, Block)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        dataset = _append(dataset, first, step=_BLOCK_STEPS[first.kind])
    else:
        num_blocks = min(len(rows), _MAX_INPUT_BLOCKS)
        dataset = ray.data.from_items(list(rows), override_num_blocks=num_blocks)
        dataset = _append(dataset, first, step=_STEPS[first.kind])
    for stage in stages[1:]:
        dataset = _append(dataset, stage, step=_STEPS[stage.kind])
    return dataset


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except RayActorError as error:
        raise WorkersDiedError(
            f"some rows lost their worker {_MAX_TASK_RETRIES + 1} times: it was ended, ran out of memory, or its node went away; see "
            f"Ray's logs ({str(error).strip()})"
        ) from error
    except RayTaskError as error:
        if not isinstance(error.cause, Exception):
            raise
        raise _without_ray_advice(error.cause) from error


def _without_ray_advice(error: Exception) -> Exception:
    """Ray appends lines on its own retry settings to the message."""
    if error.args and isinstance(error.args[0], str):
        message = error.args[0].split("\nFailed to apply UDF transform", 1)[0]
        error.args = (message, *error.args[1:])
    return error


def _keep_ray_data_off_the_terminal() -> None:
    """Errors are raised, and the rest is in Ray's log files. Handlers that are not Ray's stay as they are."""
    # Ray warns that a stage may get fewer blocks than it has actors; it cannot know how many blocks the stage before yields.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
    # The only way to set how often lost rows are retried; pyproject.toml keeps Ray below the version that removes it.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    for handler in logging.getLogger("ray.data").handlers:
        is_rays = type(handler).__module__.startswith("ray.")
        if is_rays and isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


class _Step:
    """Constructs the stage in the worker; an error of the constructor is raised by the first call.

    Ray reports an error of a constructor as a crashed actor, and an error of a call as the error itself.
    """

    def __init__(self, factory: type, arguments: Mapping[str, Any]) -> None:
        self._error: Exception | None = None
        try:
            self._stage = factory(**arguments)
        except Exception as error:  # noqa: BLE001  raised again by the first call
            self._error = error

    def __call__(self, rows: Any) -> Any:
        if self._error is not None:
            raise self._error
        return self._stage(rows)


class _GroupStep(_Step):
    """As `_Step`, but takes rows as a table and yields the resulting rows as small tables."""

    def __call__(self, rows: Any) -> Iterator[dict[str, np.ndarray]]:
        yield from _tables(super().__call__(rows.to_pylist()))


class _RowsOfBlockStep(_Step):
    """As `_Step` for each row of a block."""

    def __call__(self, rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for row in _read_block(rows):
            yield from super().__call__(row)


class _GroupsOfBlockStep(_Step):
    """As `_GroupStep` for the rows of a block, so many at once."""

    def __init__(self, factory: type, arguments: Mapping[str, Any], batch_size: int) -> None:
        super().__init__(factory, arguments)
        self._batch_size = batch_size

    def __call__(self, rows: Any) -> Iterator[dict[str, np.ndarray]]:
        for block in rows.to_pylist():
            shards = _read_block(block)
            for first in range(0, len(shards), self._batch_size):
                yield from _tables(super().__call__(shards[first : first + self._batch_size]))


def _read_block(row: Mapping[str, str]) -> list[dict[str, Any]]:
    table = pq.read_table(row["path"])
    for name, values in json.loads(row["columns"]).items():
        table = table.set_column(table.schema.get_field_index(name), name, [values])
    return table.to_pylist()


def _tables(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, np.ndarray]]:
    rows = iter(rows)
    while waiting := list(islice(rows, _ROWS_AT_ONCE)):
        yield _columns(waiting)


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


_STEPS: dict[str, type[_Step]] = {"rows": _Step, "groups": _GroupStep, "batches": _Step}
_BLOCK_STEPS: dict[str, type[_Step]] = {"rows": _RowsOfBlockStep, "groups": _GroupsOfBlockStep}


def _append(dataset: ray.data.Dataset, stage: Stage, *, step: type[_Step]) -> ray.data.Dataset:
    named: Any = type(f"_Step_{stage.name}", (step,), {})  # the name that Ray shows
    constructor: dict[str, Any] = {"factory": stage.factory, "arguments": dict(stage.arguments)}
    batch_size = stage.batch_size
    if step is _GroupsOfBlockStep:
        constructor, batch_size = constructor | {"batch_size": batch_size}, 1
    shared: dict[str, Any] = {
        "fn_constructor_kwargs": constructor,
        "compute": ray.data.ActorPoolStrategy(
            min_size=stage.least_workers,
            initial_size=stage.num_workers,
            max_size=stage.most_workers,
        ),
        "num_cpus": stage.num_cpus,
        # Ray's default has no limit: rows that crash every worker would be retried for ever, silently.
        "max_task_retries": _MAX_TASK_RETRIES,
    }
    if stage.num_gpus:
        shared["num_gpus"] = stage.num_gpus
    if stage.is_spread:
        shared["scheduling_strategy"] = "SPREAD"
    if stage.kind == "rows":
        return dataset.flat_map(named, **shared)
    apply: Callable[..., ray.data.Dataset] = dataset.map_batches
    return apply(
        named,
        batch_size=batch_size,
        batch_format="pyarrow" if stage.kind == "groups" else "numpy",
        zero_copy_batch=False,
        **shared,
    )


def _at_most(stage: Stage, num_workers: int) -> Stage:
    """No more workers than there are rows."""
    return replace(
        stage,
        num_workers=min(stage.num_workers, num_workers),
        min_workers=min(stage.least_workers, num_workers),
        max_workers=min(stage.most_workers, num_workers),
    )


def _check_resources(stages: Sequence[Stage]) -> None:
    """ValueError for pools that can never start, where Ray would wait for ever, silently; nodes that may come are waited for."""
    have = ray.cluster_resources()
    for resource, label in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        need = sum(getattr(stage, label) * stage.least_workers for stage in stages)
        if need <= have.get(resource, 0.0) + 1e-9:
            continue
        bundles = [stage.bundle() for stage in stages for _ in range(stage.least_workers)]
        if wait_for_resources([bundle for bundle in bundles if bundle]):
            return
        demand = ", ".join(
            f"{stage.name} {stage.least_workers} x {getattr(stage, label)}" for stage in stages
        )
        raise ValueError(
            f"the stages need {need:g} {resource} ({demand}) and Ray has "
            f"{have.get(resource, 0.0):g}; lower num_workers or {label}"
        )
