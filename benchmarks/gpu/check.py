"""What needs a GPU, checked: `make gpu-check`, or `python -m benchmarks.gpu.check --steps encode`.

The order matters: encoder, training and ONNX come first and need neither Ray nor av nor DALI, each writes its
record at once to $OUT or benchmarks/results/, and decoding comes last. Runs under a bare GPU image's own Python.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.backends import (
    compare_nvdec,
    compare_onnx_cuda,
    compare_tensorrt,
    run_gpu_tests,
)
from benchmarks.gpu.encoder import measure_encode, measure_matmul
from benchmarks.gpu.index import measure_index
from benchmarks.gpu.steps import (
    Outcome,
    Step,
    needs_cuda,
    needs_onnx_cuda,
    needs_packages,
    run_steps,
)
from benchmarks.gpu.training import train_stage1, train_stage2

ENGINE_PRECISIONS: tuple[Literal["fp32", "fp16", "bf16"], ...] = ("fp16", "bf16", "fp32")
_MARKS = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def all_steps() -> list[Step]:
    """Every step with what it needs, in the order in which they run."""
    device = torch.device("cuda")
    onnx = needs_packages("onnx", "onnxscript", "onnxruntime", "transformers", "safetensors")
    return [
        Step(
            name="matmul",
            title="bf16 matrix product",
            needs=(needs_cuda,),
            run=lambda: measure_matmul(device),
        ),
        Step(
            name="encode",
            title="aim_vit_b16 encodes clips",
            needs=(needs_cuda,),
            run=lambda: measure_encode(device),
        ),
        Step(
            name="stage1_aim",
            title="stage 1 trains AIM",
            needs=(needs_cuda,),
            run=lambda: train_stage1(device, preset="aim_vit_b16"),
        ),
        Step(
            name="stage1_temporal",
            title="stage 1 trains frame_temporal",
            needs=(needs_cuda,),
            run=lambda: train_stage1(device, preset="frame_temporal_small"),
        ),
        Step(
            name="stage2",
            title="stage 2 trains the composer",
            needs=(needs_cuda, needs_packages("transformers", "tokenizers")),
            run=lambda: train_stage2(device),
        ),
        Step(
            name="onnx_cuda",
            title="ONNX Runtime CUDA equals torch",
            needs=(needs_cuda, onnx, needs_onnx_cuda),
            run=lambda: compare_onnx_cuda("cuda"),
        ),
        *(
            Step(
                name=f"tensorrt_{precision}",
                title=f"TensorRT in {precision} is within the drift limits",
                needs=(needs_cuda, onnx, needs_packages("tensorrt")),
                run=lambda precision=precision: compare_tensorrt("cuda", precision=precision),
            )
            for precision in ENGINE_PRECISIONS
        ),
        Step(
            name="nvdec",
            title="DALI on NVDEC equals PyAV (H.264)",
            needs=(needs_cuda, needs_packages("av", "nvidia.dali")),
            run=lambda: compare_nvdec("cuda", codec="h264"),
        ),
        Step(
            name="index",
            title="an archive into Milvus, beside decode and encode alone",
            needs=(
                needs_cuda,
                needs_packages("av", "nvidia.dali", "ray", "tyro", "pymilvus", "milvus_lite"),
            ),
            run=lambda: measure_index("cuda"),
        ),
        Step(
            name="tests",
            title="pytest tests/gpu",
            needs=(needs_cuda, needs_packages("pytest", "pytest_timeout")),
            run=run_gpu_tests,
        ),
    ]


def choose_steps(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The named steps in their own order; all of them for no name."""
    known = [step.name for step in steps]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"no step {', '.join(unknown)}; the steps are {', '.join(known)}")
    return [step for step in steps if not names or step.name in names]


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """One line for each step, with its figures or its reason."""
    table = Table(title="gpu-check", title_justify="left", box=None, pad_edge=False)
    for name in ("step", "result", "seconds", "what"):
        table.add_column(name, overflow="fold", justify="right" if name == "seconds" else "left")
    for outcome in outcomes:
        table.add_row(
            outcome.step.name,
            f"[{_MARKS[outcome.state]}]{outcome.state}[/]",
            f"{outcome.seconds:.1f}" if outcome.seconds else "",
            f"{outcome.step.title}: {outcome.detail}".replace("[", r"\["),
        )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if a step failed; steps that were skipped are no failure, and are shown."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.check",
        description="Check and measure what needs a GPU; records go to $OUT or benchmarks/results/.",
        epilog="example: OUT=/tmp/records python -m benchmarks.gpu.check --steps matmul encode",
    )
    steps = all_steps()
    parser.add_argument(
        "--steps", nargs="+", default=[], metavar="NAME", help=" ".join(step.name for step in steps)
    )
    options = parser.parse_args(argv)
    try:
        chosen = choose_steps(steps, options.steps)
    except ValueError as error:
        parser.error(str(error))
    console = Console(width=None if sys.stdout.isatty() else 140)

    def report(outcome: Outcome) -> None:
        console.print(f"{outcome.step.name}: {outcome.state}, {outcome.detail}", markup=False)
        if outcome.trace:
            console.print(outcome.trace, markup=False)

    outcomes = run_steps(chosen, report)
    console.print(summary_table(outcomes))
    return int(any(outcome.state == "failed" for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
