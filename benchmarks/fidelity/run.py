"""Every figure on how faithful and how fast the paper's system is here, in one record: `python -m benchmarks.fidelity.run`.

Each figure comes from a function of another module, which can be called alone. A figure that is not given is an error, never a
blank.
"""

import argparse
import importlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from numbers import Real
from typing import Any

from benchmarks.harness.record import Ceiling, Samples, write_record


@dataclass(frozen=True, slots=True)
class Source:
    """A function without arguments and the figures that the record takes from what it returns."""

    module: str
    function: str
    keys: tuple[str, ...]
    fields: tuple[str, ...] = ()
    """What the function calls them, in the same order; none = the same names."""


SOURCES = (
    Source("benchmarks.fidelity.encoder", "aim_max_abs_error", ("aim_max_abs_error",)),
    Source("benchmarks.fidelity.encoder", "clip_max_abs_error", ("clip_max_abs_error",)),
    Source(
        "benchmarks.fidelity.release",
        "measure_losses",
        ("release_loss_error", "release_grad_error"),
    ),
    Source("benchmarks.fidelity.release", "release_eval_error", ("release_eval_error",)),
    Source("benchmarks.fidelity.release", "raw_combiner_error", ("raw_combiner_error",)),
    Source(
        "benchmarks.fidelity.release", "release_text_differences", ("release_text_differences",)
    ),
    Source("benchmarks.fidelity.release", "release_reader_error", ("release_reader_error",)),
    Source("benchmarks.fidelity.release", "release_row_differences", ("release_row_differences",)),
    Source(
        "benchmarks.fidelity.two_workers",
        "measure_two_workers",
        ("two_worker_loss_error", "two_worker_grad_error"),
    ),
    Source(
        "benchmarks.fidelity.triplets",
        "measure_triplets",
        ("triplets_built", "triplets_s", "triplets_peak_gb"),
        ("num_triplets", "seconds", "peak_gb"),
    ),
    Source(
        "benchmarks.fidelity.embeddings",
        "measure_embeddings",
        ("pickle_vectors_per_s", "pth_vectors_per_s"),
    ),
    Source("benchmarks.fidelity.bad_inputs", "try_bad_inputs", ("bad_inputs_tried",)),
    Source(
        "benchmarks.throughput.training",
        "measure_training",
        ("stage2_matmul_share", "stage2_epoch_s", "loader_wait_share", "matmul_flop_per_s"),
    ),
)


def collect(source: Source) -> dict[str, float]:
    """The source's figures; ValueError names the module and what it does not give."""
    try:
        function = getattr(importlib.import_module(source.module), source.function)
    except (ModuleNotFoundError, AttributeError) as error:
        missing = getattr(error, "name", None)
        if missing not in (source.module, source.function):
            raise
        raise ValueError(
            f"{source.module}.{source.function} is missing; it gives {', '.join(source.keys)}"
        ) from error
    measured = _figures(function(), source)
    figures: dict[str, float] = {}
    for key, name in zip(source.keys, source.fields or source.keys, strict=True):
        value = measured.get(name)
        value = value.median if isinstance(value, Samples) else value
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"{source.module} gives no figure for {key}: {value!r}")
        figures[key] = float(value)
    return figures


def _figures(measured: Any, source: Source) -> Mapping[str, Any]:
    """Of a mapping, a dataclass, a number, or a list of tries that must all have ended well."""
    if isinstance(measured, list):
        unclear = [tried.name for tried in measured if not tried.is_clear]
        if unclear:
            raise ValueError(f"{source.module}: {len(unclear)} tries failed, first: {unclear[:3]}")
        return {source.keys[0]: len(measured)}
    if isinstance(measured, Real):
        return {source.keys[0]: measured}
    if is_dataclass(measured):
        return {field.name: getattr(measured, field.name) for field in fields(measured)}
    return measured


def _ceiling(figures: Mapping[str, float]) -> Ceiling | None:
    """What stage 2's share is a share of."""
    if "stage2_matmul_share" not in figures:
        return None
    return Ceiling(
        name="matrix product of stage 2, in the same run and dtype",
        value=figures["matmul_flop_per_s"] / 1e9,
        unit="GFLOP/s",
        fraction=figures["stage2_matmul_share"],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity.run",
        description=__doc__,
        epilog="example: python -m benchmarks.fidelity.run --only triplets_s triplets_peak_gb",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", metavar="FIGURE", help="print these, and write no record"
    )
    wanted = parser.parse_args(argv).only
    known = {key for source in SOURCES for key in source.keys}
    if wanted and (unknown := sorted(set(wanted) - known)):
        raise ValueError(f"no figure {unknown[0]!r}; choose from {', '.join(sorted(known))}")
    figures: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for source in SOURCES:
        if wanted and not set(wanted) & set(source.keys):
            continue
        started = time.perf_counter()
        figures |= collect(source)
        seconds[source.function] = time.perf_counter() - started
        for key in source.keys:
            sys.stdout.write(f"{key}: {figures[key]:.6g}\n")
            sys.stdout.flush()
    if not wanted:
        config = {"sources": [asdict(source) for source in SOURCES], "seconds": seconds}
        ceiling = _ceiling(figures)
        path = write_record("fidelity", config=config, metrics=figures, ceiling=ceiling)
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (ValueError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error
