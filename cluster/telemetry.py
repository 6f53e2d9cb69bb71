"""What a process tells those who watch it from elsewhere: log lines as JSON, metrics on Ray's endpoint, spans over OTLP."""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer
    from prometheus_client import Metric
    from ray.util.metrics import Gauge

logger = logging.getLogger(__name__)
_RAY_LOG_ENCODING = "RAY_LOGGING_CONFIG_ENCODING"
_SERVICE = "tfcovr"
_OWN_PACKAGES = frozenset({"benchmarks", "cluster", "encoders", "indexing", "tfcovr", "training"})


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, what `extra={"fields": {...}}` adds, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Own lines from level info, those of libraries from warning.

    Nothing of gRPC, which keeps its own lines from every log but one that asks: each connection to a folder of Milvus Lite is an
    error to it, since Milvus Lite has no clock to ask for.
    """
    package = record.name.partition(".")[0]
    return package in _OWN_PACKAGES or (record.levelno >= logging.WARNING and package != "grpc")


@contextmanager
def json_logs() -> Iterator[None]:
    """Write the log of this process to stderr as JSON, from level info, while the block runs; Ray's workers log as JSON into its files."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_is_wanted)
    root, before = logging.getLogger(), os.environ.get(_RAY_LOG_ENCODING)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    os.environ[_RAY_LOG_ENCODING] = "JSON"
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        os.environ.pop(_RAY_LOG_ENCODING)
        if before is not None:
            os.environ[_RAY_LOG_ENCODING] = before


def logs_are_json() -> bool:
    """Whether the log of this process goes to stderr as JSON, where bars and lines for people have no place."""
    handlers = logging.getLogger().handlers
    return any(isinstance(handler.formatter, JsonFormatter) for handler in handlers)


@contextmanager
def loggers_kept() -> Iterator[None]:
    """Take back what the block does to the handlers of a JSON log, as ray.init does: every line is written once, as JSON."""
    root, ray = logging.getLogger(), logging.getLogger("ray")
    handlers = list(root.handlers)
    try:
        yield
    finally:
        if logs_are_json():
            root.handlers[:] = handlers
            ray.handlers.clear()
            ray.propagate = True


def say(line: str, *, level: int = logging.INFO) -> None:
    """A line for people on stderr; a line of the log where that is JSON."""
    if logs_are_json():
        logger.log(level, "%s", line)
    else:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class MetricSource(Protocol):
    """A registry or a collector of prometheus_client."""

    def collect(self) -> Iterator["Metric"]: ...


class RayMetrics:
    """Copies metrics to the endpoint that each node of the connected Ray has for Prometheus, as gauges named `ray_NAME`.

    Gauges, because they hold sums that were counted elsewhere; the rate of such a sum is asked for as that of a counter.
    """

    def __init__(self, source: MetricSource, *, labels: Mapping[str, str] | None = None) -> None:
        """`labels` tell this process from others that have the same metrics."""
        self._source = source
        self._labels = dict(labels or {})
        self._gauges: dict[str, Gauge] = {}

    def export(self) -> None:
        """Copy the present values; nothing without a connected Ray."""
        import ray
        from ray.util.metrics import Gauge

        if not ray.is_initialized():
            return
        for metric in self._source.collect():
            for sample in metric.samples:
                if sample.name.endswith("_created"):  # when a counter began, which nobody plots
                    continue
                labels = sample.labels | self._labels
                if sample.name not in self._gauges:
                    self._gauges[sample.name] = Gauge(
                        sample.name,
                        description=metric.documentation,
                        tag_keys=tuple(labels),
                    )
                self._gauges[sample.name].set(sample.value, labels)


def open_tracer(endpoint: str) -> "Tracer":
    """A tracer whose spans go to ENDPOINT/v1/traces by OTLP over HTTP, in batches; ImportError without the extra `otel`."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ImportError(
            f"spans need OpenTelemetry ({error}); install it with: pip install 'tfcovr[otel]'"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer(_SERVICE)
