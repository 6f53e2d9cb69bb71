import pytest

from benchmarks.harness.thresholds import Bar, Verdict, format_figure, judge, read_bars


def bar(**rule: float) -> Bar:
    return Bar(
        benchmark="b",
        metric="m",
        hardware=rule.pop("hardware", ""),  # type: ignore[arg-type]
        unit="count",
        title="t",
        meaning="x",
        **rule,
    )


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        ({"min": 0.75}, 0.75, True),
        ({"min": 0.75}, 0.7499, False),
        ({"max": 900}, 900.0, True),
        ({"max": 900}, 900.1, False),
        ({"above": 0}, 0.0, False),
        ({"above": 0}, 1e-9, True),
        ({"exact": 3}, 3, True),
        ({"exact": 3}, 4, False),
        ({"min": 0}, float("nan"), False),
        ({"max": 0}, float("nan"), False),
    ],
)
def test_rules_at_their_edges(rule: dict, value: float, holds: bool) -> None:
    assert bar(**rule).holds(value) is holds


def test_what_was_not_measured_is_no_pass() -> None:
    assert Verdict(bar=bar(max=1), value=None).state == "not measured"
    (verdict,) = judge([bar(max=1)], benchmark="b", hardware="x", metrics={"m": None})
    assert verdict.state == "not measured"


def test_only_the_bars_of_this_benchmark_and_hardware_are_judged() -> None:
    bars = [bar(min=1), bar(min=2, hardware="nvidia-h200"), bar(min=3, hardware="amd")]
    found = judge(bars, benchmark="b", hardware="nvidia-h200-x2", metrics={"m": {"median": 1.5}})
    assert [(verdict.bar.min, verdict.state) for verdict in found] == [(1, "pass"), (2, "fail")]
    assert judge(bars, benchmark="other", hardware="amd", metrics={"m": 9}) == []


def test_a_bar_without_one_clear_rule_is_refused() -> None:
    for rules in ({}, {"min": 1, "max": 2}):
        with pytest.raises(ValueError, match="exactly one"):
            bar(**rules)


def test_a_misspelled_key_names_the_file(tmp_path) -> None:
    path = tmp_path / "t.toml"
    path.write_text("[[bar]]\nbenchmark = 'b'\nminimum = 3\n")
    with pytest.raises(ValueError, match=r"t\.toml: .*minimum"):
        read_bars(path)


def test_the_bars_of_the_demo_are_those_of_the_promise() -> None:
    bars = {bar.metric: bar for bar in read_bars() if bar.benchmark == "demo"}
    assert bars["top1"].min == 0.75
    assert bars["top1_over_single_frame"].min == 0.25
    assert bars["top1_lost_by_shuffling"].min == 0.20
    assert bars["map50_composed_over_best_other"].min == 1.3
    assert bars["seconds_total"].rule() == "at most 15 min"
    assert bars["peak_memory_gb"].rule() == "at most 8 GB"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.8612, "percent", "86.1 %"),
        (0.314, "points", "31.4 points"),
        (1.723, "times", "1.72 times"),
        (75, "s", "1 min 15 s"),
        (9.44, "s", "9.4 s"),
        (59.7, "s", "1 min"),
        (0.9999987, "cosine", "0.999999"),
        (12345, "count", "12,345"),
    ],
)
def test_figures_read_as_people_write_them(value: float, unit, text: str) -> None:
    assert format_figure(value, unit) == text
