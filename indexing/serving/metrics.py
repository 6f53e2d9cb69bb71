"""Prometheus metrics of the service: latency, batch sizes and recall against exact search."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

_WINDOW = 2000
_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


class Quality:
    """Latency, rate and recall of live queries, for Prometheus and for the page."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._latency = Histogram(
            "tfcovr_search_seconds",
            "a query, waiting included",
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._errors = Counter(
            "tfcovr_search_errors", "refused or failed", ["status"], registry=self.registry
        )
        self._steps = Histogram(
            "tfcovr_step_seconds",
            "steps of a batch",
            ["step"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._recall = Gauge(
            "tfcovr_recall_at_k", "of the sampled queries, against exact", registry=self.registry
        )
        self._sampled = Counter(
            "tfcovr_sampled", "queries also run as exact search", registry=self.registry
        )
        self._quantiles = Gauge(
            "tfcovr_latency_ms", "of the last queries", ["quantile"], registry=self.registry
        )
        self._qps = Gauge("tfcovr_qps", "over the last minute", registry=self.registry)
        self._recent: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._recalls: deque[float] = deque(maxlen=_WINDOW)

    def answered(self, seconds: float, timings_ms: dict[str, float]) -> None:
        """Count an answered query."""
        self._latency.observe(seconds)
        self._recent.append((time.monotonic(), seconds * 1000))
        for step, step_ms in timings_ms.items():
            self._steps.labels(step).observe(step_ms / 1000)

    def failed(self, status: int) -> None:
        """Count a query that failed or was refused."""
        self._errors.labels(str(status)).inc()

    def sampled(self, recall: float) -> None:
        """Count a query that was also run as exact search."""
        self._recalls.append(recall)
        self._sampled.inc()
        self._recall.set(float(np.mean(self._recalls)))

    def summary(self) -> dict[str, Any]:
        """Figures for the page; None where nothing was measured yet."""
        now_s = time.monotonic()
        latencies_ms = [latency_ms for _when, latency_ms in self._recent]
        names = ("p50_ms", "p95_ms", "p99_ms")
        values: list[float | None] = [None, None, None]
        if latencies_ms:
            values = [round(float(v), 2) for v in np.percentile(latencies_ms, [50, 95, 99])]
        last_minute = sum(when > now_s - 60 for when, _ in self._recent)
        return {
            **dict(zip(names, values, strict=True)),
            "qps": round(last_minute / 60, 3),
            "num_queries": len(latencies_ms),
            "recall_at_k": float(np.mean(self._recalls)) if self._recalls else None,
            "num_sampled": len(self._recalls),
        }

    def collect(self) -> Iterator[Metric]:
        """The metrics as of now, as a collector of prometheus_client."""
        summary = self.summary()
        for name in ("p50_ms", "p95_ms", "p99_ms"):
            if summary[name] is not None:
                self._quantiles.labels(f"0.{name[1:3]}").set(summary[name])
        self._qps.set(summary["qps"])
        return iter(self.registry.collect())

    def exposition(self) -> bytes:
        """Metrics in Prometheus text format."""
        self.collect()
        return generate_latest(self.registry)
