"""The bill of materials against pip's own list, and advisories from a server that answers as OSV does."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from benchmarks.doctor.supply_chain import NOT_RUN, Config, bill_of_materials, run


def test_the_bill_lists_what_pip_lists(tmp_path: Path) -> None:
    assert run(Config(do="sbom", out=tmp_path / "sbom.json")) == 0
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = subprocess.run([sys.executable, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"], capture_output=True, text=True, check=True)  # fmt: skip
    expected = {(p["name"].lower().replace("_", "-").replace(".", "-"), p["version"]) for p in json.loads(listed.stdout)}  # fmt: skip
    components = {(c["name"], c["version"]) for c in bill["components"]}
    assert components == {item for item in expected if item[0] != "tfcovr"}
    references = {c["bom-ref"] for c in bill["components"]}
    assert len(references) == len(bill["components"])
    needs = {d["ref"]: set(d["dependsOn"]) for d in bill["dependencies"]}
    assert all(found <= references for found in needs.values())
    torch = next(c["bom-ref"] for c in bill["components"] if c["name"] == "torch")
    assert torch in needs[bill["metadata"]["component"]["bom-ref"]]


@pytest.fixture
def database() -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
            results = [{"vulns": [{"id": "CVE-1"}]} if "/numpy@" in q["package"]["purl"] else {} for q in queries]  # fmt: skip
            content = json.dumps({"results": results}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_package_with_an_advisory_is_named(database: str, capsys) -> None:
    assert run(Config(do="advisories", database=database)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pkg:pypi/numpy@")
    assert lines[0].endswith(": CVE-1")
    assert lines[1] == f"1 of {len(bill_of_materials()['components'])} packages have advisories"


def test_a_database_that_cannot_be_reached_is_told(capsys) -> None:
    assert run(Config(do="advisories", database="http://127.0.0.1:1")) == NOT_RUN
    assert (
        capsys.readouterr().out == "not run: http://127.0.0.1:1 does not answer (ConnectionError)\n"
    )
