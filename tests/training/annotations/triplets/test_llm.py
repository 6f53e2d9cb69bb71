import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from encoders.clips import Clip, write_clips
from tfcovr import run_command
from training.annotations.labels.pairs import AttributeChange, LabelPair
from training.annotations.triplets.llm import LlmConfig, write_texts
from training.annotations.triplets.table import read_triplets


class Writer:
    """A small local endpoint: `answer(user message)` gives (status, content of the reply)."""

    def __init__(self):
        self.requests = []
        self.answer = good_answer
        writer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                writer.requests.append((self.path, dict(self.headers), body))
                status, content = writer.answer(body["messages"][-1]["content"])
                if isinstance(content, bytes):
                    reply = content
                else:
                    message = {"choices": [{"message": {"content": content}}]}
                    reply = json.dumps(message).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def good_answer(message):
    written = {
        number: [f"Let it have {target} twists.", f"with {target} twists please"]
        for number, target in re.findall(r"^(\d+)\. twists: \S+ -> (\S+)$", message, flags=re.M)
    }
    return 200, f"Sure!\n```json\n{json.dumps(written)}\n```"


@pytest.fixture
def writer(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Writer()
    yield server
    server.close()


def twist_pairs(num_labels):
    return [
        LabelPair(
            source_label=f"L{a}",
            target_label=f"L{b}",
            changes=(AttributeChange(name="twists", source=f"{a}.5", target=f"{b}.5"),),
        )
        for a in range(num_labels)
        for b in range(num_labels)
        if a != b
    ]


def config(writer, tmp_path, **options):
    settings = {"pairs_per_request": 4, "attempts": 2, "first_wait_s": 0.0, "timeout_s": 5.0}
    return LlmConfig(
        base_url=writer.url, model="m", cache_path=tmp_path / "cache.json", **settings | options
    )


def test_all_pairs_are_written_and_asking_again_is_free(writer, tmp_path, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", "secret-7")
    pairs = twist_pairs(3)
    with_key = config(writer, tmp_path, api_key_env="WRITER_KEY")
    first = write_texts(pairs, with_key)
    assert first.texts == {
        (p.source_label, p.target_label): (
            f"Let it have {p.changes[0].target} twists",
            f"with {p.changes[0].target} twists please",
        )
        for p in pairs
    }
    assert (first.num_requests, first.num_pairs_from_llm, first.warning) == (2, 6, None)
    assert {path for path, _, _ in writer.requests} == {"/v1/chat/completions"}
    assert {headers["Authorization"] for _, headers, _ in writer.requests} == {"Bearer secret-7"}
    assert "secret-7" not in (tmp_path / "cache.json").read_text()

    again = write_texts(list(reversed(pairs)), with_key)
    assert again.texts == first.texts
    assert (again.num_requests, again.num_replies_from_cache, len(writer.requests)) == (0, 2, 2)
    other_model = write_texts(pairs, config(writer, tmp_path, sentences_per_pair=2))
    assert other_model.num_requests == 2


def test_changed_and_dropped_numbers_are_refused(writer, tmp_path, caplog):
    def answer(_message):
        return 200, json.dumps(
            {"1": ["with 9 twists", "with many twists"], "2": ["with 2.5 twists"], "3": "text"}
        )

    writer.answer = answer
    pairs = twist_pairs(3)[:4]
    result = write_texts(pairs, config(writer, tmp_path))
    assert result.texts == {("L0", "L2"): ("with 2.5 twists",)}
    assert (result.num_pairs_from_llm, result.num_pairs_from_templates) == (1, 3)
    assert result.num_sentences_refused == 2
    assert "'with 9 twists' refused" in result.refusals[0]
    assert "3 of 4 label pairs use templates" in caplog.text


def test_an_endpoint_that_fails_once_is_asked_again(writer, tmp_path):
    def answer(message):
        return (503, "busy") if len(writer.requests) == 1 else good_answer(message)

    writer.answer = answer
    result = write_texts(twist_pairs(2), config(writer, tmp_path))
    assert result.num_pairs_from_llm == 2
    assert len(writer.requests) == 2


@pytest.mark.parametrize(
    ("status", "content", "num_asked"),
    [(500, "down", 4), (400, "bad", 2), (302, "moved", 2), (200, b"<html>", 2), (200, "no json", 2),
     (200, "[" * 100_000, 2), (200, b'{"choices": []}', 2)],
)  # fmt: skip
def test_an_endpoint_that_fails_for_good_leaves_templates_and_says_so(
    writer, tmp_path, status, content, num_asked
):
    writer.answer = lambda message: (status, content)
    result = write_texts(twist_pairs(4), config(writer, tmp_path))  # 12 pairs, 3 requests
    assert result.texts == {}
    assert result.num_pairs_from_templates == 12
    assert len(writer.requests) == num_asked  # two requests, the third is not even tried
    assert "12 of 12 label pairs use templates" in result.warning
    assert not (tmp_path / "cache.json").exists()


def test_an_endpoint_that_is_not_there(tmp_path, writer):
    gone = config(writer, tmp_path)
    writer.server.server_close()
    result = write_texts(twist_pairs(2), gone)
    assert "did not answer" in result.warning


def test_an_endpoint_that_hangs(tmp_path, writer):
    release = threading.Event()

    def answer(message):
        release.wait(5)
        return good_answer(message)

    writer.answer = answer
    slow = config(writer, tmp_path, timeout_s=0.1, attempts=1)
    result = write_texts(twist_pairs(2), slow)
    release.set()
    assert "did not answer" in result.warning


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_raises_at_once(writer, tmp_path, status):
    writer.answer = lambda message: (status, "no")
    with pytest.raises(PermissionError, match=f"answered {status}.*check URL, model and key"):
        write_texts(twist_pairs(3), config(writer, tmp_path))
    assert len(writer.requests) == 1


def test_a_broken_setup_is_named(writer, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ValueError, match="'NO_SUCH_KEY' holds no API key"):
        write_texts(twist_pairs(2), config(writer, tmp_path, api_key_env="NO_SUCH_KEY"))
    (tmp_path / "cache.json").write_text("[]")
    with pytest.raises(ValueError, match=r"cache\.json is not a cache of replies"):
        write_texts(twist_pairs(2), config(writer, tmp_path))
    with pytest.raises(ValueError, match="'file:///etc/passwd'; it must begin with http"):
        LlmConfig(base_url="file:///etc/passwd", model="m", cache_path=tmp_path)


def test_the_command_says_which_texts_came_from_where(writer, tmp_path, capsys):
    def answer(message):
        status, content = good_answer(message)
        return status, content.replace("2.5", "7")  # edits to 2.5 twists come back wrong

    writer.answer = answer
    clips = [
        Clip(clip_id=f"{n}-{t}", video_uri=f"/{n}-{t}", label=t, attributes={"twists": t})
        for n in range(3)
        for t in ("0.5", "1.5", "2.5")
    ]
    write_clips(tmp_path / "clips.parquet", clips)
    arguments = ["--clips", str(tmp_path / "clips.parquet"), "--out", str(tmp_path / "t.parquet")]
    run_command("triplets", [*arguments, "--llm-url", writer.url, "--llm-model", "m"])
    for triplet in read_triplets(tmp_path / "t.parquet"):
        is_written = "Let it have" in triplet.edit_text or "please" in triplet.edit_text
        assert is_written == (triplet.target_label != "2.5")
    shown = " ".join(capsys.readouterr().out.split())
    assert "edit texts: 12 from m, 6 from templates" in shown
    assert "warning: 2 of 6 label pairs use templates" in shown
    assert json.loads((tmp_path / "t.json").read_text())["edit_texts"] == {
        "llm": 12,
        "templates": 6,
    }
    assert (tmp_path / "t.llm.json").exists()
