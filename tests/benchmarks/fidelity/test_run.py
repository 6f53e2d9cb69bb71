"""The record takes what its sources give, and names what they do not give."""

import json
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from benchmarks.fidelity import run
from benchmarks.fidelity.run import Source, collect, main
from benchmarks.harness.record import Samples

KEYS = (
    *("aim_max_abs_error", "clip_max_abs_error", "two_worker_loss_error", "two_worker_grad_error"),
    *("triplets_built", "triplets_s", "triplets_peak_gb", "pickle_vectors_per_s"),
    *("pth_vectors_per_s", "stage2_matmul_share", "stage2_epoch_s", "loader_wait_share"),
    *("bad_inputs_tried", "release_loss_error", "release_grad_error", "release_eval_error"),
    *("raw_combiner_error", "release_text_differences", "release_reader_error"),
    "release_row_differences",
)


@dataclass
class Figures:
    first: int
    second: Samples


@dataclass
class Try:
    name: str
    is_clear: bool


@pytest.fixture
def made_up(monkeypatch):
    """One module whose functions give a dataclass, a number, a list of tries and a mapping."""
    module = ModuleType("made_up")
    median = Samples(median=2.5, p25=2, p75=3, n=9, warmup=0)
    module.several = lambda: Figures(first=1, second=median)
    module.single = lambda: 3
    module.tries = lambda: [Try("one", True), Try("two", True)]
    module.mapping = lambda: {"e": 5.0, "more": "text"}
    monkeypatch.setitem(sys.modules, "made_up", module)
    sources = (
        Source("made_up", "several", ("a", "b"), ("first", "second")),
        Source("made_up", "single", ("c",)),
        Source("made_up", "tries", ("d",)),
        Source("made_up", "mapping", ("e",)),
    )
    monkeypatch.setattr(run, "SOURCES", sources)
    return module


def test_the_record_has_every_figure(made_up, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    assert main([]) == 0
    (path,) = tmp_path.glob("fidelity_*.json")
    assert json.loads(path.read_text())["metrics"] == {"a": 1, "b": 2.5, "c": 3, "d": 2, "e": 5}
    assert "b: 2.5" in capsys.readouterr().out


def test_some_figures_are_printed_and_not_recorded(made_up, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    assert main(["--only", "c"]) == 0
    assert capsys.readouterr().out == "c: 3\n"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no figure 'f'; choose from a, b, c, d, e"):
        main(["--only", "f"])


def test_what_is_not_given_is_an_error(made_up):
    with pytest.raises(ValueError, match=r"benchmarks.nowhere.f is missing; it gives x, y"):
        collect(Source("benchmarks.nowhere", "f", ("x", "y")))
    with pytest.raises(ValueError, match=r"made_up.other is missing; it gives x"):
        collect(Source("made_up", "other", ("x",)))
    with pytest.raises(ValueError, match="made_up gives no figure for z: None"):
        collect(Source("made_up", "mapping", ("e", "z")))
    made_up.single = lambda: float("nan")
    with pytest.raises(ValueError, match="no figure for c: nan"):
        collect(Source("made_up", "single", ("c",)))
    made_up.tries = lambda: [Try("one", True), Try("two", False)]
    with pytest.raises(ValueError, match=r"1 tries failed, first: .'two'."):
        collect(Source("made_up", "tries", ("d",)))


def test_every_figure_is_asked_for():
    asked = {key for source in run.SOURCES for key in source.keys}
    assert asked == {*KEYS, "matmul_flop_per_s"}


def test_the_share_stands_beside_what_it_is_a_share_of(made_up, monkeypatch, tmp_path):
    made_up.speed = lambda: {"stage2_matmul_share": 0.75, "matmul_flop_per_s": 2e11}
    keys = ("stage2_matmul_share", "matmul_flop_per_s")
    monkeypatch.setattr(run, "SOURCES", (Source("made_up", "speed", keys),))
    monkeypatch.setenv("OUT", str(tmp_path))
    main([])
    (path,) = tmp_path.glob("fidelity_*.json")
    ceiling = json.loads(path.read_text())["ceiling"]
    assert (ceiling["value"], ceiling["unit"], ceiling["fraction"]) == (200.0, "GFLOP/s", 0.75)
