"""The tables of benchmarks/README.md, generated from the registry and the records and never typed by hand."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.record import RESULTS_DIR, read_records
from benchmarks.harness.registry import benchmark_table
from benchmarks.harness.thresholds import Bar, judge, read_bars
from cluster.storage import write_atomic

README_PATH = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- results: generated -->", "<!-- results: end -->"
REGISTRY_BEGIN, REGISTRY_END = "<!-- registry: generated -->", "<!-- registry: end -->"


def update_tables(
    readme: Path = README_PATH, results: Path = RESULTS_DIR, *, bars: Sequence[Bar] | None = None
) -> Path:
    """Replace what lies between the two marks of the README; the rest of it stays as it is."""
    tables = results_tables(read_records(results), read_bars() if bars is None else bars)
    write_atomic(readme, replace_between(readme, tables, begin=BEGIN, end=END))
    return readme


def update_registry(readme: Path = README_PATH) -> Path:
    """Replace the list of benchmarks of the README."""
    table = f"\n{benchmark_table()}\n"
    text = replace_between(readme, table, begin=REGISTRY_BEGIN, end=REGISTRY_END)
    write_atomic(readme, text)
    return readme


def replace_between(readme: Path, block: str, *, begin: str, end: str) -> str:
    """The text of a file with what lies between two marks replaced; ValueError without the marks."""
    text = readme.read_text()
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{readme} must hold {begin} and then {end}, once each")
    before, after = text.split(begin)[0], text.split(end)[1]
    return f"{before}{begin}\n{block}\n{end}{after}"


def results_tables(records: Sequence[Mapping[str, Any]], bars: Sequence[Bar]) -> str:
    """One table per benchmark with its newest record on each hardware."""
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in sorted(records, key=lambda record: record["recorded_at"]):
        newest[record["benchmark"], record["hardware"]] = record
    if not newest:
        return "\nNo records yet: run a benchmark, then `tfcovr report results`."
    blocks = []
    for name in sorted({benchmark for benchmark, _ in newest}):
        rows = [
            line
            for (benchmark, _), record in sorted(newest.items())
            if benchmark == name
            for line in _record_rows(record, bars)
        ]
        head = (
            "| metric | value | p25 to p75 | bar | hardware | record |\n|---|---:|---|---|---|---|"
        )
        blocks.append("\n".join([f"\n### {name}", "", head, *rows]))
    return "\n".join(blocks)


def _record_rows(record: Mapping[str, Any], bars: Sequence[Bar]) -> Iterable[str]:
    metrics: Mapping[str, Any] = record["metrics"]
    verdicts = {
        verdict.bar.metric: verdict
        for verdict in judge(
            bars,
            benchmark=record["benchmark"],
            hardware=record["hardware"],
            metrics=metrics,
        )
    }
    link = f"[{record['recorded_at'][:10]}](results/{record['file']})"
    ceiling = record.get("ceiling")
    rows = dict(metrics)
    if ceiling:
        rows[f"share of {ceiling['name']} ({_text(ceiling['value'])} {ceiling['unit']})"] = ceiling[
            "fraction"
        ]
    for name, value in _flat(rows):
        verdict = verdicts.get(name)
        rule = f"{verdict.bar.rule()}: {verdict.state}" if verdict else ""
        yield (
            f"| {name} | {_text(value)} | {_spread(value)} | {rule} "
            f"| {record['hardware']} | {link} |"
        )


def _flat(rows: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """A figure that is several, one for each of what was compared, as several rows."""
    for name, value in rows.items():
        if isinstance(value, Mapping) and "median" not in value:
            yield from ((f"{name}: {key}", entry) for key, entry in value.items())
        else:
            yield name, value


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return _text(value["median"]) if "median" in value else json.dumps(value)
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "\\|")


def _spread(value: object) -> str:
    if not isinstance(value, Mapping) or "p25" not in value:
        return ""
    return f"{_text(value['p25'])} to {_text(value['p75'])}, n = {value['n']}"
