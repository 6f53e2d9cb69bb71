"""The Grafana dashboard asks for metrics and labels that exist: those of a run, of the service and of Ray Data."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from ray.data._internal.execution.interfaces.op_runtime_metrics import OpRuntimeMetrics

from indexing.ledger.progress import RunProgress
from indexing.ledger.summary import Tally
from indexing.serving.metrics import Quality

DASHBOARD = Path(__file__).resolve().parent.parent / "cluster" / "grafana-dashboard.json"
_WORDS = {"by", "rate", "sum", "max", "min", "histogram_quantile", "label_values"}


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Name on Ray's endpoint -> labels, of everything that is exported there."""
    progress = RunProgress(Path("night"))
    progress.begin(Tally(), total=1, num_workers={"decode": 1})
    quality = Quality()
    quality.answered(0.1, {"text": 20.0})
    quality.failed(503)
    quality.sampled(1.0)

    def metrics() -> Iterator[Metric]:
        yield from progress.collect()
        yield from quality.collect()

    labels: dict[str, set[str]] = {}
    for metric in metrics():
        for sample in metric.samples:
            labels.setdefault(f"ray_{sample.name}", set()).update(sample.labels, {"replica"})
    for metric in OpRuntimeMetrics.get_metrics():
        labels[f"ray_data_{metric.name}"] = {"dataset", "operator"}
    return labels


def queries() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]  # fmt: skip
    variables = [
        variable["query"]["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    return panels + variables


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_is_exported(exported, query: str) -> None:
    names = set(re.findall(r"\bray_\w+", query))
    assert names
    assert names <= exported.keys()
    labels = set().union(*(exported[name] for name in names))
    plain = re.sub(r"\"[^\"]*\"|\[\w+\]|\bray_\w+", " ", query)
    used = set(re.findall(r"[a-z_]+", plain)) - _WORDS
    assert used <= labels


def test_every_panel_is_a_place_of_its_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _y in taken) < 24


def test_every_metric_of_a_run_is_shown(exported) -> None:
    asked = set(re.findall(r"\bray_\w+", " ".join(queries())))
    assert {name for name in exported if name.startswith("ray_tfcovr_index_")} <= asked
