import importlib.metadata
import io
import json
import re
import tomllib
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.doctor import report
from benchmarks.doctor.codecs import find_codecs
from benchmarks.doctor.packages import pip_line
from benchmarks.doctor.report import Finding, as_table, examine
from cluster.machine import Gpu, Machine
from encoders.decoding.backends import DECODE_BACKENDS
from tfcovr import run_command


def machine(*gpus: Gpu) -> Machine:
    return Machine(
        cpu="a CPU", num_cores=2, memory_gib=16, gpus=gpus, python="3.11.2", system="Linux"
    )


def named(findings: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.name == name]
    return finding


def test_versions_are_those_of_the_installed_packages() -> None:
    findings = examine(machine(), with_codecs=False)
    for name in ("torch", "ray", "pymilvus"):
        finding = named(findings, name)
        assert finding.is_ok
        assert finding.detail.startswith(importlib.metadata.version(name))


def test_a_gpu_shows_with_its_decoders() -> None:
    gpu = Gpu(name="NVIDIA H200", memory_gib=140.4, driver="580.1", num_nvdec=7)
    findings = examine(machine(gpu), with_codecs=False)
    assert "140.4 GiB" in named(findings, "GPU").detail
    assert "7 engines" in named(findings, "NVDEC").detail


def test_without_a_gpu_nothing_required_is_missing_but_the_lines_to_type_are_there() -> None:
    findings = examine(machine(), with_codecs=False)
    assert [finding.name for finding in findings if finding.is_required and not finding.is_ok] == []
    assert not named(findings, "GPU").is_ok
    assert all(finding.fix for finding in findings if not finding.is_ok)


def test_an_extra_is_found_by_any_of_its_distributions_or_its_line_is_there(monkeypatch) -> None:
    versions = {"tensorrt-cu13": "11.1", "milvus": None}
    monkeypatch.setattr(report, "installed_version", lambda name: versions.get(name))
    extras = {extra.name: extra for extra in report.EXTRAS}
    found = report._extra_finding(extras["TensorRT"], has_gpu=False)
    assert found.is_ok
    assert found.detail.startswith("11.1 - ")
    server = report._extra_finding(extras["Milvus server"], has_gpu=False)
    assert (server.is_ok, server.fix) == (False, "pip install -c constraints.txt -e '.[server]'")
    versions.clear()
    found = report._extra_finding(extras["TensorRT"], has_gpu=False)
    assert found.fix == "on a GPU machine: pip install -c constraints-gpu.txt -e '.[gpu]'"


def test_every_extra_is_one_of_pyproject() -> None:
    project = tomllib.loads((report.REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = project["optional-dependencies"]
    for extra in report.EXTRAS:
        named = {re.split(r"[<>=\[]", line)[0] for line in lines[extra.extra]}
        assert named & set(extra.distributions), extra.name


def test_a_missing_required_package_ends_with_status_1_and_its_line(monkeypatch, capsys) -> None:
    monkeypatch.setitem(report.REQUIRED, "no-such-package", "a test")
    assert run_command("doctor", ["--no-codecs", "--json"]) == 1
    findings = [Finding(**row) for row in json.loads(capsys.readouterr().out)]
    missing = named(findings, "no-such-package")
    assert missing.fix == "pip install -c constraints.txt -e '.[cpu]'"


@pytest.mark.parametrize("width", [60, 120])
def test_the_table_shows_brackets_of_extras_as_they_are_typed(width: int) -> None:
    finding = Finding(
        group="packages",
        name="DALI",
        is_ok=False,
        is_required=False,
        detail="not installed",
        fix=pip_line("dali"),
    )
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(as_table([finding]))
    assert "pip install -c constraints.txt -e '.[dali]'" in " ".join(console.export_text().split())


def test_a_decoder_that_does_not_load_is_a_line_with_its_cure(monkeypatch) -> None:
    def list_codecs(kind):
        raise ImportError("no_such_decoder is missing\nand more")

    broken = replace(DECODE_BACKENDS["dali"], list_codecs=list_codecs)
    monkeypatch.setitem(DECODE_BACKENDS, "dali", broken)
    decodes, writes, broken, *_others = find_codecs(has_gpu=False)
    assert decodes["is_ok"]
    assert "h264" in decodes["detail"]
    assert "libx264" in writes["detail"]
    assert (broken["name"], broken["is_ok"]) == ("DALI", False)
    assert broken["detail"] == "no_such_decoder is missing"
    assert broken["fix"] == "pip install -c constraints.txt -e '.[dali]'"
