"""What needs a GPU, checked: `make gpu-check`, or `python -m benchmarks.gpu.check --parts encode`.

The order matters: encoder, training and ONNX come first and need neither Ray nor av nor DALI, and decoding comes last. One JSON
record in $OUT or benchmarks/results/ has all parts, and is written again after each. Runs under a bare GPU image's own Python, and
ends within nine minutes: what then had no time left runs when the same command runs again, as after an interruption or a failure.
After a run of all parts without a failure, the next one measures all again.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from rich.table import Table
from rich.text import Text

from benchmarks.gpu import steps
from benchmarks.gpu.backends import (
    MAX_TESTS_S,
    compare_nvdec,
    compare_onnx_cuda,
    compare_tensorrt,
    run_gpu_tests,
)
from benchmarks.gpu.encoder import measure_encode, measure_matmul
from benchmarks.gpu.index import measure_index
from benchmarks.gpu.steps import (
    NO_TIME,
    CheckRecord,
    Measurement,
    measure_registered,
    needs_cuda,
    needs_onnx_cuda,
    needs_packages,
    needs_tensorrt,
    needs_time,
)
from benchmarks.gpu.training import train_stage1, train_stage2
from benchmarks.harness.parts import (
    RECORDS,
    Part,
    PartRecord,
    PartRunner,
    Requirement,
    hash_code,
)
from benchmarks.harness.record import capture_environment, results_dir
from benchmarks.harness.registry import BENCHMARKS, benchmarks_that_need
from cluster.tables import text_table, wide_console

_MAX_S = 540.0
# On an H200 with 16 cores, rounded up: a part that has less time left is not begun.
_EXPECTED_S = {
    "matmul": 10.0, "encode": 60.0, "stage1_aim": 60.0, "stage1_temporal": 20.0, "stage2": 30.0, "onnx_cuda": 30.0,
    "nvdec": 10.0, "index": 200.0, "tests": 100.0,
}  # fmt: skip
_OTHER_S = 120.0
ENGINE_PRECISIONS: tuple[Literal["fp32", "fp16", "bf16"], ...] = ("fp16", "bf16", "fp32")
_MARKS = {"finished": "green", "failed": "bold red", "skipped": "yellow"}


def all_parts(record: CheckRecord | None = None, *, end_s: float = math.inf) -> list[Part]:
    """Every part with what it needs, in the order in which they run; last come other benchmarks of the registry that need a GPU."""
    device = torch.device("cuda")
    record = record or CheckRecord()

    def gpu_part(
        name: str, title: str, needs: tuple[Requirement, ...], measure: Callable[[], Measurement]
    ) -> Part:
        has_time = needs_time(end_s, _EXPECTED_S.get(name, _OTHER_S))
        return steps.gpu_part(record, name, title, (*needs, has_time), measure)

    cuda = (needs_cuda,)
    exports = needs_packages("onnx", "onnxscript", "onnxruntime", "transformers", "safetensors")
    onnx = (needs_cuda, exports)
    text = needs_packages("transformers", "tokenizers")
    dali = needs_packages("av", "nvidia.dali")
    milvus = needs_packages("ray", "tyro", "pymilvus", "milvus_lite")
    return [
        gpu_part("matmul", "bf16 matrix product", cuda, lambda: measure_matmul(device)),
        gpu_part("encode", "aim_vit_b16 encodes clips", cuda, lambda: measure_encode(device)),
        gpu_part("stage1_aim", "stage 1 trains AIM", cuda, lambda: train_stage1(device, preset="aim_vit_b16")),
        gpu_part("stage1_temporal", "stage 1 trains frame_temporal", cuda, lambda: train_stage1(device, preset="frame_temporal_small", num_epochs=30)),
        gpu_part("stage2", "stage 2 trains the composer", (*cuda, text), lambda: train_stage2(device)),
        gpu_part("onnx_cuda", "ONNX Runtime CUDA equals torch", (*onnx, needs_onnx_cuda), lambda: compare_onnx_cuda("cuda")),
        *(
            gpu_part(
                f"tensorrt_{precision}", f"TensorRT in {precision} is within the drift limits",
                (*onnx, needs_tensorrt), partial(compare_tensorrt, "cuda", precision=precision),
            )
            for precision in ENGINE_PRECISIONS
        ),
        gpu_part("nvdec", "DALI on NVDEC equals PyAV (H.264)", (*cuda, dali), lambda: compare_nvdec("cuda", codec="h264")),
        gpu_part("index", "an archive into Milvus, beside decode and encode alone", (*cuda, dali, milvus), lambda: measure_index("cuda")),
        gpu_part(
            "tests", "pytest tests/gpu", (*cuda, needs_packages("pytest", "pytest_timeout")),
            lambda: run_gpu_tests(timeout_s=min(end_s - time.monotonic(), MAX_TESTS_S)),
        ),
        *(
            gpu_part(name, BENCHMARKS[name].measures, cuda, partial(measure_registered, name))
            for name in benchmarks_that_need("a GPU")
            if name != "gpu"
        ),
    ]  # fmt: skip


def choose_parts(parts: Sequence[Part], names: Sequence[str]) -> list[Part]:
    """The named parts in their own order; all of them for no name."""
    allowed = [part.name for part in parts]
    if unknown := sorted(set(names) - set(allowed)):
        raise ValueError(f"parts has {', '.join(unknown)}; choose from {', '.join(allowed)}")
    return [part for part in parts if not names or part.name in names]


def summary_table(parts: Sequence[Part], records: Sequence[PartRecord]) -> Table:
    """One line for each part, with its figures or its reason."""
    rows = [
        (
            part.name,
            Text(record.state, style=_MARKS[record.state]),
            f"{record.seconds:.1f}" if record.seconds else "",
            f"{part.title}: {record.detail}",
        )
        for part, record in zip(parts, records, strict=True)
    ]
    headings = ("part", "result", "seconds", "what")
    return text_table(headings, rows, title="gpu-check", right=("seconds",), framed=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if a part failed; what is missing here, and what had no time left, is no failure, and is shown."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.check",
        description="Check and measure what needs a GPU; records go to $OUT or benchmarks/results/.",
        epilog="example: OUT=/tmp/records python -m benchmarks.gpu.check --parts matmul encode",
    )
    record = CheckRecord()
    parts = all_parts(record, end_s=time.monotonic() + _MAX_S)
    parser.add_argument(
        "--parts", nargs="+", default=[], metavar="NAME", help=" ".join(part.name for part in parts)
    )
    parser.add_argument(
        "--work-dir", type=Path, default=Path("runs/gpu_check"), help="finished parts (%(default)s)"
    )
    options = parser.parse_args(argv)
    try:
        chosen = choose_parts(parts, options.parts)
    except ValueError as error:
        parser.error(str(error))
    console = wide_console()
    settings = {
        "code": hash_code(),
        "hardware": capture_environment()["hardware"],
        "records": str(results_dir().resolve()),
    }
    runner = PartRunner(
        options.work_dir,
        settings=settings,
        say=partial(console.print, markup=False, soft_wrap=True),
        keep_going=True,
    )
    records = runner.run(chosen)
    console.print(summary_table(chosen, records))
    for part in records:  # those of an earlier run too
        if part.state == "finished" and part.name not in record.parts:
            record.add(part.name, part.figures)
    if record.path is not None:
        console.print(str(record.path), markup=False, soft_wrap=True)
    if any(part.state == "failed" for part in records):
        return 1
    if not options.parts and not any(NO_TIME in part.detail for part in records):
        (options.work_dir / RECORDS).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
