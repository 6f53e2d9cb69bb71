"""OpenTelemetry spans of queries: one of the request, which joins the caller's trace, and one of each step of its batch."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

Answered = Callable[[Mapping[str, float]], None]
"""Takes the milliseconds of each step of an answer (SearchResult.timings_ms)."""


class QuerySpans:
    """Spans of queries by a tracer; None = no spans, and OpenTelemetry is not needed."""

    def __init__(self, tracer: "Tracer | None") -> None:
        self._tracer = tracer

    @contextmanager
    def query(self, headers: Mapping[str, str]) -> Iterator[Answered]:
        """The span `search` while the block runs, below the one that a `traceparent` header names; an error ends it as failed.

        What is yielded is called with the answer's timings.
        """
        if self._tracer is None:
            yield lambda _timings_ms: None
            return
        from opentelemetry.propagate import extract

        with self._tracer.start_as_current_span("search", context=extract(headers)):
            yield self._add_steps

    def _add_steps(self, timings_ms: Mapping[str, float]) -> None:
        """Steps are timed where a batch runs, in another thread: their spans are laid one after the other up to now."""
        assert self._tracer is not None
        steps_ns = {name: int(step_ms * 1e6) for name, step_ms in timings_ms.items()}
        start_ns = time.time_ns() - sum(steps_ns.values())
        for name, step_ns in steps_ns.items():
            span = self._tracer.start_span(name, start_time=start_ns)
            start_ns += step_ns
            span.end(end_time=start_ns)
