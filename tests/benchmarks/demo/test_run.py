"""What the command refuses at once, and what a record of it holds."""

import json
from dataclasses import replace

import pytest

from benchmarks.commands.demo import Config
from benchmarks.demo import run
from benchmarks.demo.steps import FULL, TINY, plan_steps
from benchmarks.harness.parts import PartRecord
from benchmarks.pretraining import vit
from tfcovr import run_command


def test_a_record_of_the_tiny_demo_is_refused_before_anything_runs(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(run.PartRunner, "run", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="--record is for the full demo"):
        Config(tiny=True, record=True)
    with pytest.raises((ValueError, SystemExit)):
        run_command("demo", ["--tiny", "--record", "--run-dir", str(tmp_path)])


def test_a_record_holds_numbers_alone(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    step = PartRecord(name="dives", key="", state="finished", seconds=3.5)
    summary = {"preset": "full", "top1": 0.9, "top1_single_frame": 0.5, "top1_shuffled": 0.25}
    others = ("video_only", "text_only", "mean", "raw")
    summary |= {f"map50_{name}": 0.2 for name in others}
    summary |= {"map50_composed": 0.8, "map50_composed_low": 0.7, "map50_best_other_high": 0.3}
    run._record(summary, [step], FULL)
    (path,) = tmp_path.glob("demo_*.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert all(isinstance(value, float) for value in metrics.values()), metrics
    assert metrics["seconds_dives"] == 3.5
    assert metrics["map50_composed_over_best_other"] == pytest.approx(4.0)


@pytest.mark.parametrize("plan", [FULL, TINY])
def test_aim_is_pretrained_first_and_stage_1_starts_from_it(plan, tmp_path) -> None:
    own = {step.name: step.command for step in plan_steps(plan, tmp_path)}
    aim = {step.name: step.command for step in plan_steps(replace(plan, encoder="aim"), tmp_path)}
    assert list(aim) == ["pretrain", *own]
    weights = str(tmp_path / "weights" / "vit_tiny")
    assert aim["stage1"][-2:] == ("--config.pretrained-image", weights)
    assert f"demo_actions_aim{plan.recipe_suffix}" in aim["stage1"]
    assert "--config.pretrained-image" not in own["stage1"]
    config = vit.parse(aim["pretrain"][aim["pretrain"].index("--name") :])
    assert str(config.out / config.name) == weights
    with pytest.raises(ValueError, match="--record is for the demo's own encoder"):
        Config(encoder="aim", record=True)
