import itertools
import json
import re

import pytest

from benchmarks.harness.figures import derived_figures
from benchmarks.harness.thresholds import Bar
from benchmarks.report.answers import describe_dive
from benchmarks.report.charts import Estimate, interval_bar, line_charts, tick_values
from benchmarks.report.page import write_report
from benchmarks.report.tables import BEGIN, END, update_tables
from tfcovr import run_command

ENVIRONMENT = {"git_commit": "0123456789abcdef", "cpu": "a CPU", "packages": {"torch": "2"}}
SUMMARY = {
    "seconds_total": 742.0,
    "top1": 0.85,
    "top1_shuffled": 0.54,
    "top1_single_frame": 0.70,
    "map50_composed": 0.41,
    "map50_composed_low": 0.39,
    "map50_video_only": 0.10,
    "map50_text_only": 0.21,
    "map50_mean": 0.28,
    "map50_raw": 0.08,
    "map50_best_other_high": 0.30,
}
# The smallest PNG: one transparent pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000000"
    "020001e221bc330000000049454e44ae426082"
)


def write(run_dir, name: str, content: object) -> None:
    path = run_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def page(run_dir) -> str:
    return write_report(run_dir, environment=ENVIRONMENT).read_text()


def test_figures_that_follow_from_the_summary() -> None:
    figures = derived_figures(SUMMARY)
    assert figures["top1_over_single_frame"] == pytest.approx(0.15)
    assert figures["top1_lost_by_shuffling"] == pytest.approx(0.31)
    assert figures["map50_composed_over_best_other"] == pytest.approx(0.41 / 0.28)
    assert figures["map50_interval_gap"] == pytest.approx(0.09)


def test_a_lead_over_rows_that_were_not_all_measured_is_no_figure() -> None:
    summary = {name: value for name, value in SUMMARY.items() if name != "map50_mean"}
    assert derived_figures(summary)["map50_composed_over_best_other"] is None


def test_promises_are_marked_as_they_turned_out(tmp_path) -> None:
    write(tmp_path, "summary.json", SUMMARY)
    text = page(tmp_path)
    states = dict(re.findall(r"<h3>([^<]+)</h3>\s*<span class=\"state\">(\w+)</span>", text))
    assert states["Dives named correctly"] == "pass"
    assert states["More than a frame can tell"] == "fail"  # 15 of the 25 promised points
    assert "Peak memory" not in states
    assert "5 of 9 promises hold" in text


def test_a_tiny_run_is_not_judged(tmp_path) -> None:
    write(tmp_path, "summary.json", {**SUMMARY, "preset": "tiny"})
    text = page(tmp_path)
    assert "A tiny run." in text
    assert 'class="state"' not in text


def test_an_empty_run_folder_still_makes_a_page(tmp_path) -> None:
    text = page(tmp_path)
    assert text.count("not measured") >= 9
    assert "No query was asked" in text


def test_the_page_needs_nothing_but_itself_and_runs_nothing(tmp_path) -> None:
    (tmp_path / "strips").mkdir()
    (tmp_path / "strips" / "a.png").write_bytes(PNG)
    hit = {
        "clip_id": "c1",
        "label": "105b",
        "score": 0.9,
        "is_right": True,
        "strip": "strips/a.png",
    }
    edit_text = '<script src="http://evil.example/x.js"></script>'
    write(tmp_path, "answers.json", [{"query_clip_id": "q", "edit_text": edit_text, "hits": [hit]}])
    text = page(tmp_path)
    assert "<script" not in text
    assert "&lt;script" in text
    references = re.findall(r"(?:src|href)=\"([^\"]*)\"", text)
    assert "data:image/png;base64," in "".join(references)
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert "url(" not in text
    assert "1 of 1 right" in text


def test_a_strip_outside_of_the_run_is_refused(tmp_path) -> None:
    answer = {"edit_text": "x", "query_strip": "../../etc/x.png", "hits": []}
    write(tmp_path, "answers.json", [answer])
    with pytest.raises(ValueError, match="not below"):
        page(tmp_path)


def test_a_broken_file_is_named(tmp_path) -> None:
    (tmp_path / "parts.json").write_text("[{")
    with pytest.raises(ValueError, match=r"parts\.json is not JSON"):
        page(tmp_path)
    (tmp_path / "parts.json").write_text("{}")
    with pytest.raises(ValueError, match=r"parts\.json holds a dict; it must be a list"):
        page(tmp_path)


def test_rows_and_metrics_stand_in_their_cells(tmp_path) -> None:
    composed = {"name": "composed", "map@50": 0.4123, "map@50_low": 0.391, "map@50_high": 0.433}
    rows = [{"name": "raw", "map@50": 0.08}, composed]
    write(tmp_path, "evaluate/metrics.json", {"num_queries": 1204, "rows": rows})
    text = page(tmp_path)
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    names = re.findall(r"<th scope=\"row\">([^<]+)</th>", body)
    assert names == ["Clip + sentence", "Raw clip vector"]
    assert "<td>41.2<small>39.1 to 43.3</small></td>" in body
    assert "1,204 queries" in text


def test_no_bar_is_cut_off_and_parts_share_the_scale(tmp_path) -> None:
    def row(value: float) -> dict:
        return {"name": "composed", "map@50": value, "map@50_low": value, "map@50_high": value}

    parts = {"twists": {"num_queries": 3, "rows": [row(0.76)]}, "pike": {"rows": [row(0.19)]}}
    write(tmp_path, "evaluate/metrics.json", {"rows": [row(0.38)], "by_change": parts})
    text = page(tmp_path)
    widths = re.findall(r"class=\"fill\" style=\"width:([\d.]+)%", text)
    assert [float(width) for width in widths] == [47.5, 95.0, 23.75]  # full width is 80 %
    assert "full width = 80 %" in text
    assert "3 queries" in text


def test_time_evidence_stands_under_its_question(tmp_path) -> None:
    names = [
        "ordered",
        "shuffled",
        "count_given_family_twists",
        "count_given_family_twists_shuffled",
    ]
    rows = [{"name": name, "top1": 0.2 + 0.1 * n, "chance": 0.1} for n, name in enumerate(names)]
    write(tmp_path, "time_evidence/time_evidence.json", {"rows": rows, "num_clips": 560})
    text = page(tmp_path)
    section = text[text.index('id="time"') : text.index('id="training"')]
    found = re.findall(r"<h3>([^<]+)</h3>|bar-label[^>]*>([^<]+)<|role=\"cell\">([^<]+)<", section)
    flat = [part for match in found for part in match if part]
    assert flat == [
        *("Which dive is it?", "All frames, in order", "20.0 %", "All frames, shuffled", "30.0 %"),
        "Only the twists differ: which of its family is it?",
        *("All frames, in order", "40.0 %", "All frames, shuffled", "50.0 %"),
    ]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("5253b", "back, 2.5 somersaults, 1.5 twists, pike"),
        ("401b", "inward, 0.5 somersaults, pike"),
        ("626c", "armstand, back, 3 somersaults, tuck"),
        ("a label of another data set", ""),
    ],
)
def test_dive_numbers_are_said_in_words(label: str, words: str) -> None:
    assert describe_dive(label) == words


def test_a_half_written_last_line_of_curves_is_left_out(tmp_path) -> None:
    (tmp_path / "stage1").mkdir()
    lines = [json.dumps({"step": step, "loss": 3 - step}) for step in range(3)]
    (tmp_path / "stage1" / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "lo')
    assert "loss 1</span>" in page(tmp_path)


def test_bars_are_as_long_as_their_share_of_the_scale() -> None:
    bar = interval_bar("a", "", Estimate(value=0.2, low=0.1, high=0.3), full_scale=0.4, chance=0.05)
    assert (bar.width, bar.low, bar.high, bar.chance) == (50, 25, 75, 12.5)


@pytest.mark.parametrize(("low", "high"), [(0, 2.6), (0, 0.013), (3, 3), (0, 599), (-2, 1e6)])
def test_ticks_are_few_even_and_reach_both_ends(low: float, high: float) -> None:
    ticks = tick_values(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 7
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_lines_go_down_when_the_loss_goes_down() -> None:
    (chart,) = line_charts([{"step": step, "loss": 3.0 - step} for step in range(3)])
    points = [tuple(map(float, point.split(","))) for point in chart.lines[0].points.split()]
    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)  # SVG counts y downwards
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.11)


def record(day: int, value: float, hardware: str = "a-cpu-2c") -> dict:
    return {
        "benchmark": "encode",
        "recorded_at": f"2026-11-{day:02d}T00:00:00+00:00",
        "hardware": hardware,
        "metrics": {"clips_per_s": {"median": value, "p25": 1.0, "p75": 9.0, "n": 5, "warmup": 1}},
        "ceiling": {"name": "matmul", "value": 790.0, "unit": "TFLOP/s", "fraction": 0.41},
    }


def test_tables_show_the_newest_record_and_leave_the_rest_of_the_text_alone(tmp_path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# by hand\n{BEGIN}\nold\n{END}\nalso by hand\n")
    for number, content in enumerate([record(2, 7.5), record(1, 3.5), record(1, 88, "h200")]):
        write(tmp_path, f"results/{number}.json", content)
    bar = Bar(
        benchmark="encode",
        metric="clips_per_s",
        hardware="a-cpu",
        unit="count",
        title="",
        meaning="",
        min=8,
    )
    text = update_tables(readme, tmp_path / "results", bars=[bar]).read_text()
    assert text.startswith("# by hand\n")
    assert text.endswith("\nalso by hand\n")
    assert "| clips_per_s | 7.5 | 1 to 9, n = 5 | at least 8: fail | a-cpu-2c |" in text
    assert "| clips_per_s | 88 | 1 to 9, n = 5 |  | h200 |" in text
    assert "share of matmul (790 TFLOP/s) | 0.41" in text
    assert "3.5" not in text
    assert "old" not in text


def test_what_was_compared_stands_in_rows_of_its_own(tmp_path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    ways = {"ours": {"median": 82.52, "p25": 81.6, "p75": 87.8, "n": 5}, "peer": 65.0871}
    several = record(1, 1.0) | {"metrics": {"clips_per_s": ways, "rounds": [4.00884, 5.0]}}
    write(tmp_path, "results/0.json", several)
    text = update_tables(readme, tmp_path / "results", bars=[]).read_text()
    assert "| clips_per_s: ours | 82.52 | 81.6 to 87.8, n = 5 |" in text
    assert "| clips_per_s: peer | 65.09 |" in text
    assert "| rounds | 4.009, 5 |" in text


def test_a_readme_without_marks_is_refused(tmp_path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing\n")
    with pytest.raises(ValueError, match="must hold"):
        update_tables(readme, tmp_path)


def test_a_folder_where_nothing_has_run_gets_no_page(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"holds none of parts\.json, summary.json"):
        run_command("report", ["page", str(tmp_path)])
    with pytest.raises(ValueError, match="which is not a folder"):
        run_command("report", ["page", str(tmp_path / "nowhere")])
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_a_build_has_what_it_made_and_no_promises(tmp_path) -> None:
    write(tmp_path, "build.json", {"videos": "dives/", "notes": ["a.csv: <b> 3 labels"], "next_steps": ["  tfcovr serve runs/mine"]})  # fmt: skip
    write(
        tmp_path, "index/index_summary.json", {"written": 5, "skipped": 2, "dead": 0, "clips_in": 7}
    )
    write(tmp_path, "encoder/card.json", {"encoder_id": "0123abcd", "labels": None})
    text = page(tmp_path)
    assert f"<h1>{tmp_path.name}</h1>" in text
    assert "tfcovr serve runs/mine" in text
    assert "a.csv: &lt;b&gt; 3 labels" in text
    assert "0123abcd" in text
    assert "clips in the index</dt><dd>7" in text
    for name in ("answers", "bars", "quality", "time", "training"):
        assert f'id="{name}"' not in text
        assert f"#{name}" not in text
    row = {"name": "composed", "map@50": 0.61}
    write(tmp_path, "evaluate/metrics.json", {"rows": [row]})
    with_labels = page(tmp_path)
    assert 'id="quality"' in with_labels
    assert "61.0" in with_labels
    assert 'id="bars"' not in with_labels
