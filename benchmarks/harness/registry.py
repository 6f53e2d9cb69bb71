"""The registry of benchmarks: what each measures, the module that does it, its parts and what it needs.

From it derive the table of benchmarks/README.md, `python -m benchmarks`, the lines of `tfcovr doctor` and what `make gpu-check` runs
beside its own parts. A module has `main(argv)`; or `Config` and `measure(config)`, whose figures `python -m benchmarks NAME` records.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from benchmarks.harness.record import write_record

Need = Literal["", "a quiet machine", "a GPU"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """One benchmark, named by its key in the registry."""

    module: str
    """Imported only when the benchmark runs."""
    measures: str
    """What its figures are about; a line of the table."""
    parts: tuple[str, ...] = ()
    """Names that its option --parts takes."""
    needs: Need = ""
    """Without it the figures mean nothing, or there are none."""


BENCHMARKS: dict[str, Benchmark] = {
    "encode": Benchmark(
        module="benchmarks.throughput.encode",
        measures="clips/s of an encoder as a share of the matrix rate",
        needs="a quiet machine",
    ),
    "training": Benchmark(
        module="benchmarks.throughput.training",
        measures="training: clips/s, triplets/s, share of the matrix rate, waiting for data",
        needs="a quiet machine",
    ),
    "index": Benchmark(
        module="benchmarks.throughput.index",
        measures="archive indexing: decoding beside its peers, the whole flow, growth, writing",
        parts=("decode", "flow", "growth", "write"),
        needs="a quiet machine",
    ),
    "overlap": Benchmark(
        module="benchmarks.throughput.overlap",
        measures="decoding and encoding at once in one process, of the slower of both alone",
        needs="a quiet machine",
    ),
    "scale-manifest": Benchmark(
        module="benchmarks.throughput.manifest",
        measures="what planning, the ledger, verifying and listing a bucket cost the driver, at three sizes",
    ),
    "scale-forecast": Benchmark(
        module="benchmarks.throughput.scale.forecast",
        measures="the forecast of 2,000 clips from a sample of 50, beside the run",
        needs="a quiet machine",
    ),
    "build": Benchmark(
        module="benchmarks.throughput.build",
        measures="one command from 414 videos and a CSV to an archive, beside the steps by hand; 40 videos without labels to the first answer",
        needs="a quiet machine",
    ),
    "scale-watch": Benchmark(
        module="benchmarks.throughput.scale.watch",
        measures="a watched folder: from a closed file to its row, CPU time of an idle watch, seeded histories of files and kills",
        needs="a quiet machine",
    ),
    "scale-migration": Benchmark(
        module="benchmarks.throughput.scale.migration",
        measures="a change of the encoder while people search: mAP@50 at every tenth of the way, failed queries, the way back",
    ),
    "scale-replica": Benchmark(
        module="benchmarks.search.replica",
        measures="memory of a replica of the service at 10,000 and a million rows, and the share of labels and values that it lists",
    ),
    "search": Benchmark(
        module="benchmarks.search.run",
        measures="searching: one client, many, a held load, overload, a crash of Milvus; `exclude`, hostile requests",
        parts=("setup", "speed", "load", "outage", "quality"),
        needs="a quiet machine",
    ),
    "trust-service": Benchmark(
        module="benchmarks.search.trust",
        measures="hostile requests and floods: what they get, and what a second client notices",
        needs="a quiet machine",
    ),
    "trust-runs": Benchmark(
        module="benchmarks.studies.trust.run",
        measures="seeded kills of indexing, vectors, training and Milvus; two drivers, two archives, an index that changes under load",
    ),
    "fidelity": Benchmark(
        module="benchmarks.fidelity.run",
        measures="how near to the paper's equations, formats and scale, in one record",
    ),
    "fidelity-release": Benchmark(
        module="benchmarks.fidelity.release",
        measures="losses, evaluator, Combiner and text splitting beside TF-CoVR's released behaviour",
    ),
    "dives": Benchmark(
        module="benchmarks.studies.dives",
        measures="other seeds, the `full` archive, a random image part, AIM beside the demo's encoder",
    ),
    "composition": Benchmark(
        module="benchmarks.studies.composition.run",
        measures="edits that training did not show, of every fusion: label pairs, values, wordings, classes, few triplets",
    ),
    "abstain": Benchmark(
        module="benchmarks.studies.abstain",
        measures="whether \"nothing matches\" and the probability of a hit can be believed; unrelated texts and videos",
    ),
    "released-data": Benchmark(
        module="benchmarks.studies.released_data",
        measures="the paper's stage 2 from files in the released formats to a table",
    ),
    "handoff": Benchmark(
        module="benchmarks.studies.handoff",
        measures="spans exported for editing programs, read back by other parsers and decoded",
    ),
    "labelling": Benchmark(
        module="benchmarks.studies.labelling.run",
        measures="labels that composed search needs, asked by choice or at random, of an annotator who also errs",
    ),
    "moments": Benchmark(
        module="benchmarks.studies.moments",
        measures="composed search in raw broadcasts without spans: moments beside oracle spans, windows and shots",
    ),
    "gpu": Benchmark(
        module="benchmarks.gpu.check",
        measures="encoding, training, exports, decoding and indexing on a GPU (`make gpu-check`)",
        parts=(
            "matmul", "encode", "stage1_aim", "stage1_temporal", "stage2", "onnx_cuda",
            "tensorrt_fp16", "tensorrt_bf16", "tensorrt_fp32", "nvdec", "index", "tests",
        ),
        needs="a GPU",
    ),
}  # fmt: skip


def benchmarks_that_need(need: Need) -> list[str]:
    """Names, in the order of the registry."""
    return [name for name, benchmark in BENCHMARKS.items() if benchmark.needs == need]


def benchmark_table() -> str:
    """The registry as a table in Markdown."""
    lines = ["| name | measures | needs | parts |", "|---|---|---|---|"]
    for name, benchmark in BENCHMARKS.items():
        parts = ", ".join(f"`{part}`" for part in benchmark.parts)
        lines.append(f"| `{name}` | {benchmark.measures} | {benchmark.needs} | {parts} |")
    return "\n".join(lines)


def run_benchmark(name: str, arguments: Sequence[str]) -> int:
    """Run one by its name; ValueError for a name that is not registered."""
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark is {name!r}; choose from {', '.join(BENCHMARKS)}")
    module = importlib.import_module(BENCHMARKS[name].module)
    if hasattr(module, "main"):
        return module.main(list(arguments))
    import tyro

    config = tyro.cli(module.Config, args=list(arguments), prog=f"python -m benchmarks {name}")
    record_name = name.replace("-", "_")
    path = write_record(record_name, config=asdict(config), metrics=module.measure(config))
    sys.stdout.write(f"{path}\n")
    return 0
