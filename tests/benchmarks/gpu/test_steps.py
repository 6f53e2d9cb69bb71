import json

import pytest

from benchmarks.gpu.steps import Measurement, Outcome, Step, needs_packages, run_steps


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path))
    return tmp_path


def step(name: str, run, *needs) -> Step:
    return Step(name=name, title=name, needs=needs, run=run)


def good(problems: tuple[str, ...] = (), **metrics: float) -> Measurement:
    return Measurement(line="fine", config={"size": 1}, metrics=metrics, problems=problems)


def fails() -> Measurement:
    raise RuntimeError("CUDA said no")


def test_a_failing_step_costs_the_others_nothing(results) -> None:
    seen: list[Outcome] = []
    run_steps([step("one", fails), step("two", lambda: good(rate=2.0))], seen.append)
    assert [outcome.state for outcome in seen] == ["failed", "passed"]
    assert seen[0].detail == "RuntimeError: CUDA said no"
    assert "in fails" in seen[0].trace
    (path,) = results.iterdir()
    record = json.loads(path.read_text())
    assert record["benchmark"] == "gpu_two"
    assert record["metrics"] == {"rate": 2.0}
    assert seen[1].record == path


def test_what_is_missing_is_named_and_the_step_does_not_run(results) -> None:
    need = needs_packages("json", "no_such_package", "no_such.nested")
    (outcome,) = run_steps([step("one", fails, need)], lambda _: None)
    assert outcome.state == "skipped"
    assert outcome.detail == "not installed: no_such_package, no_such.nested"
    assert list(results.iterdir()) == []


def test_records_are_there_before_the_next_step_starts(results) -> None:
    def second() -> Measurement:
        assert len(list(results.iterdir())) == 1
        return good()

    outcomes = run_steps([step("one", good), step("two", second)], lambda _: None)
    assert [outcome.state for outcome in outcomes] == ["passed", "passed"]


def test_a_problem_fails_the_step_but_keeps_its_record(results) -> None:
    (outcome,) = run_steps(
        [step("one", lambda: good(problems=("loss did not fall",)))], lambda _: None
    )
    assert outcome.state == "failed"
    assert outcome.detail == "fine; loss did not fall"
    assert len(list(results.iterdir())) == 1


def test_a_figure_below_its_bar_fails_the_step() -> None:
    (outcome,) = run_steps([step("onnx_cuda", lambda: good(min_cosine=0.99))], lambda _: None)
    assert outcome.state == "failed"
    assert "min_cosine is 0.99, it must be at least 0.9999" in outcome.detail
    (outcome,) = run_steps([step("onnx_cuda", lambda: good(min_cosine=0.99999))], lambda _: None)
    assert outcome.state == "passed"
