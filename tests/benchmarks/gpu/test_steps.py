import json
import time

import pytest

from benchmarks.gpu.steps import (
    NO_TIME,
    CheckRecord,
    Measurement,
    gpu_part,
    needs_packages,
    needs_time,
)
from benchmarks.harness.parts import PartRecord, PartRunner, Requirement


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path / "records"))
    (tmp_path / "records").mkdir()
    return tmp_path / "records"


@pytest.fixture
def check(tmp_path):
    """Runs measurements by name as gpu-check does."""

    def run(*needs: Requirement, **measured) -> list[PartRecord]:
        record = CheckRecord()
        parts = [gpu_part(record, name, name, needs, measure) for name, measure in measured.items()]
        runner = PartRunner(tmp_path / "work", settings={}, say=lambda _: None, keep_going=True)
        return runner.run(parts)

    return run


def good(problems: tuple[str, ...] = (), **metrics: float) -> Measurement:
    return Measurement(line="fine", config={"size": 1}, metrics=metrics, problems=problems)


def fails() -> Measurement:
    raise RuntimeError("CUDA out of memory")


def test_a_failing_part_costs_the_others_nothing(check, results) -> None:
    first, second = check(first=fails, second=lambda: good(rate=2.0))
    assert (first.state, second.state) == ("failed", "finished")
    assert first.detail == "failed, RuntimeError: CUDA out of memory"
    assert "in fails" in first.trace
    (path,) = results.iterdir()
    record = json.loads(path.read_text())
    assert record["benchmark"] == "gpu_check"
    assert record["metrics"] == {"second_rate": 2.0}
    assert record["config"]["second"] == {
        "line": "fine", "config": {"size": 1}, "ceiling": None, "excluded": [],
    }  # fmt: skip
    assert second.figures["metrics"] == {"rate": 2.0}
    assert second.detail == "fine"


def test_what_is_missing_is_named_and_the_part_does_not_run(check, results) -> None:
    (record,) = check(needs_packages("json", "no_such_package", "no_such.nested"), first=fails)
    assert record.state == "skipped"
    assert record.detail == "not installed: no_such_package, no_such.nested"
    assert list(results.iterdir()) == []


def test_one_record_has_every_part_and_is_there_before_the_next_one_starts(check, results) -> None:
    def second() -> Measurement:
        (path,) = results.iterdir()
        assert json.loads(path.read_text())["metrics"] == {"first_rate": 1.0}
        return good(rate=2.0)

    records = check(first=lambda: good(rate=1.0), second=second)
    assert [record.state for record in records] == ["finished"] * 2
    (path,) = results.iterdir()
    assert json.loads(path.read_text())["metrics"] == {"first_rate": 1.0, "second_rate": 2.0}


def test_a_part_that_has_no_time_left_is_skipped_and_says_so(check) -> None:
    (record,) = check(needs_time(time.monotonic() + 30, 60), first=fails)
    assert record.state == "skipped"
    assert record.detail.startswith(f"{NO_TIME}: ")
    (record,) = check(needs_time(time.monotonic() + 90, 60), first=good)
    assert record.state == "finished"


def test_a_problem_fails_the_part_but_keeps_its_record(check, results) -> None:
    (record,) = check(first=lambda: good(problems=("loss did not fall",)))
    assert record.state == "failed"
    assert record.detail == "fine; loss did not fall"
    assert len(list(results.iterdir())) == 1


def test_a_figure_below_its_bar_fails_the_part(check) -> None:
    (record,) = check(onnx_cuda=lambda: good(min_cosine=0.99))
    assert record.state == "failed"
    assert "onnx_cuda_min_cosine is 0.99, it must be at least 0.9999" in record.detail
    (record,) = check(onnx_cuda=lambda: good(min_cosine=0.99999))  # a failed part runs again
    assert record.state == "finished"
