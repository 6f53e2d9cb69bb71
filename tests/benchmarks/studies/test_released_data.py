"""The run's options come last, a failed run leaves its status and no record, and a record holds no folder of this machine."""

import json
from types import SimpleNamespace

import pytest

from benchmarks.studies import released_data


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """What was called; it ends with the status that stands in the list."""
    calls: list[list[str]] = []
    status = [0]

    def run(command, **_):
        calls.append(command)
        metrics = {"num_queries": 3, "rows": [{"name": "composed", "map@50": 0.5}]}
        folder = tmp_path / "out" / "run" / "evaluate"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return SimpleNamespace(returncode=status[0])

    monkeypatch.setattr(released_data, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(released_data, "write_released", lambda *_: None)
    monkeypatch.setattr(released_data, "make_learnable_data", lambda _: None)
    monkeypatch.setenv("OUT", str(tmp_path / "records"))
    return SimpleNamespace(calls=calls, status=status)


def test_a_record_says_how_it_ran_and_not_where(runs, tmp_path):
    assert released_data.main(["--out", str(tmp_path / "out"), "--num-workers", "2"]) == 0
    (path,) = (tmp_path / "records").glob("data_run_*.json")
    record = json.loads(path.read_text())
    assert record["metrics"]["map50_composed"] == 0.5
    assert record["config"]["on"] == "Ray"
    assert str(tmp_path) not in json.dumps(record["config"])
    assert runs.calls[0][-2:] == ["--num-workers", "2"]


def test_a_run_that_fails_is_no_record(runs, tmp_path):
    runs.status[0] = 2
    assert released_data.main(["--out", str(tmp_path / "out"), "--epochs", "0"]) == 2
    assert not (tmp_path / "records").exists()
