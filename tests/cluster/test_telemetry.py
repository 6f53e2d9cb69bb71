"""What those who watch from elsewhere get: log lines that a program can read, and spans that arrive."""

import json
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster import progress
from cluster.progress import progress_bar
from cluster.telemetry import json_logs, loggers_kept, open_tracer, say
from tfcovr import main


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_the_log_is_json(capsys):
    with json_logs():
        logging.getLogger("indexing.b").warning("%d\nlines", 2, extra={"fields": {"clips": 7}})
        try:
            raise KeyError("x")
        except KeyError:
            logging.getLogger("training").exception("broken")
        say("waiting for nodes")
        with progress_bar("indexing", 3) as update:
            update(3)
    first, second, third = lines_of(capsys.readouterr().err)
    assert (first["level"], first["logger"], first["message"], first["clips"]) == ("warning", "indexing.b", "2\nlines", 7)  # fmt: skip
    assert first["time"].endswith("+00:00")
    assert "KeyError: 'x'" in second["traceback"]
    assert third["message"] == "waiting for nodes"
    say("for people again")
    assert capsys.readouterr().err == "for people again\n"


def test_a_bar_is_a_line_of_the_log_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_EVERY_S", 0.0)
    with json_logs(), progress_bar("clip vectors", 3) as update:
        update(1, "note")
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["message"], line["work"], line["done"], line["total"], line["note"]) == ("progress", "clip vectors", 1, 3, "note")  # fmt: skip
    assert line["left_s"] is None or line["left_s"] >= 0


def test_libraries_are_heard_from_warning_on(capsys):
    with json_logs():
        logging.getLogger("faiss.loader").info("Loading faiss.")
        logging.getLogger("grpc._server").error("Method not implemented!")
        logging.getLogger("filelock").warning("retrying")
    assert [line["message"] for line in lines_of(capsys.readouterr().err)] == ["retrying"]


def test_rays_loggers_write_nothing_of_their_own_into_a_json_log(capsys):
    root, ray = logging.getLogger(), logging.getLogger("ray")
    before = list(ray.handlers), ray.propagate
    try:
        with json_logs():
            with loggers_kept():  # what ray.init does where its log is JSON
                root.addHandler(logging.StreamHandler(sys.stderr))
                ray.addHandler(logging.StreamHandler(sys.stderr))
                ray.propagate = False
            say("said once")
            ray.error("and so is this")
        assert [line["message"] for line in lines_of(capsys.readouterr().err)] == ["said once", "and so is this"]  # fmt: skip
    finally:
        ray.handlers[:], ray.propagate = before


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
