"""The registry of benchmarks, and all that derives from it."""

import importlib
import json
from pathlib import Path
from typing import get_args

import pytest

import benchmarks.search.run as search_benchmark
import benchmarks.throughput.index as index_benchmark
from benchmarks import __main__ as entry
from benchmarks.doctor import report as doctor
from benchmarks.gpu.check import all_parts
from benchmarks.gpu.steps import measure_registered
from benchmarks.harness.registry import BENCHMARKS, benchmark_table
from benchmarks.report.tables import README_PATH, REGISTRY_BEGIN, REGISTRY_END, update_registry
from cluster.machine import Gpu, Machine

ROOT = Path(__file__).resolve().parents[3]
TOY = '''
"""A toy benchmark, written outside of the repository."""

from dataclasses import dataclass

from benchmarks.harness.registry import BENCHMARKS, Benchmark


@dataclass(frozen=True, kw_only=True)
class Config:
    """Count to a number."""

    limit: int = 3


def measure(config: Config) -> dict[str, object]:
    """The count."""
    return {"count": len(range(config.limit))}


BENCHMARKS["toy-count"] = Benchmark(
    module="toy_benchmark", measures="how far it counts", needs="a GPU"
)
'''


def test_the_readme_has_the_table_of_the_registry() -> None:
    text = README_PATH.read_text()
    block = text.split(REGISTRY_BEGIN)[1].split(REGISTRY_END)[0]
    assert block.strip() == benchmark_table(), "run `tfcovr report results`"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_run_by_its_name(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        entry.main([name, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out.lower()


def test_parts_are_those_of_the_modules() -> None:
    assert BENCHMARKS["index"].parts == get_args(index_benchmark.PartName)
    assert BENCHMARKS["search"].parts == get_args(search_benchmark.PartName)
    assert BENCHMARKS["gpu"].parts == tuple(part.name for part in all_parts())


def test_a_file_that_can_be_run_and_records_figures_is_registered() -> None:
    registered = {benchmark.module for benchmark in BENCHMARKS.values()}
    writers = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "benchmarks").rglob("*.py")
        if "write_record(" in path.read_text() and '"__main__"' in path.read_text()
    }
    assert writers <= registered


def test_the_list_and_an_unknown_name(capsys) -> None:
    assert entry.main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in BENCHMARKS)
    assert entry.main(["indx"]) == 2
    assert "benchmark is 'indx'; choose from encode, " in capsys.readouterr().err


@pytest.fixture
def toy(tmp_path: Path, monkeypatch):
    """The one file of somebody else's benchmark, imported."""
    before = dict(BENCHMARKS)
    (tmp_path / "toy_benchmark.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("toy_benchmark")
    BENCHMARKS.clear()
    BENCHMARKS.update(before)


@pytest.mark.usefixtures("toy")
def test_a_benchmark_is_added_in_one_file(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OUT", str(tmp_path / "records"))
    assert entry.main([]) == 0
    assert "how far it counts" in capsys.readouterr().out

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{REGISTRY_BEGIN}\nold\n{REGISTRY_END}\nafter\n")
    assert "| `toy-count` | how far it counts | a GPU |  |" in update_registry(readme).read_text()

    assert entry.main(["toy-count", "--limit", "5"]) == 0
    (path,) = (tmp_path / "records").iterdir()
    record = json.loads(path.read_text())
    assert (record["benchmark"], record["metrics"]) == ("toy_count", {"count": 5})
    assert record["config"] == {"limit": 5}

    assert [part.name for part in all_parts()][-1] == "toy-count"
    assert measure_registered("toy-count").metrics == {"count": 3}

    gpu = Gpu(name="NVIDIA H200", memory_gib=140.4, driver="580.1", num_nvdec=7)
    for gpus in ((), (gpu,)):
        machine = Machine(cpu="a", num_cores=2, memory_gib=16, gpus=gpus, python="3.11", system="")
        line = doctor._benchmark_findings(machine)[-1]
        assert (line.is_ok, line.detail) == (bool(gpus), "gpu, toy-count")
