"""Hardware of this machine: cores, memory, GPUs and their video decoders."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

# NVDEC engines per GPU, by a part of the name that nvidia-smi prints; first match wins.
_NVDEC_ENGINES: tuple[tuple[str, int], ...] = (
    ("H200", 7),
    ("H100", 7),
    ("A100", 5),
    ("A30", 4),
    ("L40", 3),
    ("L4", 4),
    ("A10", 2),
    ("T4", 2),
    ("V100", 1),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU; `num_nvdec` is None where the number of its decoders is unknown."""

    name: str
    memory_gib: float
    driver: str
    num_nvdec: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Resources that a run can use: `num_cores` and `memory_gib` respect affinity and cgroup limits."""

    cpu: str
    num_cores: int
    memory_gib: float
    gpus: tuple[Gpu, ...]
    python: str
    system: str


def describe_machine() -> Machine:
    """Inspect this machine afresh; the only process that it starts is nvidia-smi."""
    return Machine(
        cpu=_cpu_name(),
        num_cores=_num_cores(),
        memory_gib=round(_memory_bytes() / 2**30, 1),
        gpus=_gpus(),
        python=platform.python_version(),
        system=platform.platform(),
    )


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _num_cores() -> int:
    cores = len(os.sched_getaffinity(0))
    path = Path("/sys/fs/cgroup/cpu.max")
    quota = path.read_text().split() if path.exists() else ["max"]
    if quota[0] != "max":
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def _memory_bytes() -> int:
    total = psutil.virtual_memory().total
    path = Path("/sys/fs/cgroup/memory.max")
    limit = path.read_text().strip() if path.exists() else "max"
    return total if limit == "max" else min(total, int(limit))


def _gpus() -> tuple[Gpu, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    result = subprocess.run(
        [
            "nvidia-smi",
            "--query-gpu=name,memory.total,driver_version",
            "--format=csv,noheader,nounits",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return parse_nvidia_smi(result.stdout) if result.returncode == 0 else ()


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """Parse lines of `name, memory in MiB, driver`."""
    gpus = []
    for line in filter(str.strip, text.splitlines()):
        name, memory_mib, driver = (part.strip() for part in line.rsplit(",", 2))
        engines = next((count for part, count in _NVDEC_ENGINES if part in name), None)
        memory_gib = round(float(memory_mib) / 1024, 1)
        gpus.append(Gpu(name=name, memory_gib=memory_gib, driver=driver, num_nvdec=engines))
    return tuple(gpus)
