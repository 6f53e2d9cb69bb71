"""What those who watch from elsewhere get: log lines that a program can read, and spans that arrive."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster.progress import progress_bar
from cluster.telemetry import json_logs, open_tracer, say
from tfcovr import main


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_the_log_is_json(capsys):
    with json_logs():
        logging.getLogger("a.b").warning("%d\nlines", 2, extra={"fields": {"clips": 7}})
        try:
            raise KeyError("x")
        except KeyError:
            logging.getLogger("c").exception("broken")
        say("waiting for nodes")
        with progress_bar("indexing", 3) as update:
            update(3)
    first, second, third = lines_of(capsys.readouterr().err)
    assert (first["level"], first["logger"], first["message"], first["clips"]) == ("warning", "a.b", "2\nlines", 7)  # fmt: skip
    assert first["time"].endswith("+00:00")
    assert "KeyError: 'x'" in second["traceback"]
    assert third["message"] == "waiting for nodes"
    say("for people again")
    assert capsys.readouterr().err == "for people again\n"


def test_one_option_before_the_command_makes_its_errors_json(capsys, tmp_path):
    assert main(["--log-json", "status", "--run-dir", str(tmp_path)]) == 2
    (line,) = lines_of(capsys.readouterr().err)
    assert line["level"] == "error"
    assert line["message"].startswith("error: ")


def test_spans_arrive_at_the_collector():
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracer = open_tracer(f"http://127.0.0.1:{server.server_port}")
        with tracer.start_as_current_span("search"):
            pass
        tracer.span_processor.force_flush()
        server.shutdown()
    ((path, body),) = received
    assert path == "/v1/traces"
    request = ExportTraceServiceRequest.FromString(body)
    (scope,) = request.resource_spans[0].scope_spans
    assert [span.name for span in scope.spans] == ["search"]
