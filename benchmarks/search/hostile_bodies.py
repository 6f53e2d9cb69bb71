"""Bodies that a hostile client would send: JSON that is large, deep or of values that no query has, and forms that are not forms."""

import json
from collections.abc import Iterator
from urllib.parse import unquote

from benchmarks.search.hostile import Hostile, hostile_requests

_JSON = {"content-type": "application/json"}
_KB = 1 << 10


def hostile_bodies(clip_id: str) -> Iterator[Hostile]:
    """All of them; `clip_id` is one that exists."""
    yield from _sizes(clip_id)
    yield from _numbers(clip_id)
    yield from _shapes(clip_id)
    yield from _texts(clip_id)
    yield from _forms()
    yield from _types()


def _post(name: str, body: bytes, *, may_answer: bool = False, kind: str = "") -> Hostile:
    headers = {"content-type": kind} if kind else _JSON
    return Hostile(
        name=name,
        path="/v1/search",
        method="POST",
        headers=headers,
        body=body,
        may_answer=may_answer,
    )


def all_hostile(clip_id: str) -> list[Hostile]:
    """Every hostile request; `clip_id` is one that exists, as it stands in a URL."""
    return [*hostile_requests(clip_id), *hostile_bodies(unquote(clip_id))]


def _sizes(clip_id: str) -> Iterator[Hostile]:
    """Small bodies that would be expensive to read, and large ones."""
    for size in (60 * _KB, 250 * _KB, 300 * _KB, 1500 * _KB):
        for number, item in enumerate(
            (b"{}", b"[]", b"1", b'""', b"null", b"{},[]", b"[[[]]]", b"1e9")
        ):
            items = b",".join([item] * (size // (len(item) + 1)))
            yield _post(f"size-list-{size}-{number}", b'{"filters":{"label":[' + items + b"]}}")
        yield _post(f"size-unknown-{size}", b'{"x":[' + b",".join([b"[]"] * (size // 3)) + b"]}")
        keys = b",".join(b'"%d":1' % key for key in range(size // 9))
        yield _post(f"size-keys-{size}", b"{" + keys + b"}")
        yield _post(f"size-filters-{size}", b'{"filters":{' + keys + b"}}")
        yield _post(
            f"size-edits-{size}", json.dumps({"edits": ["in tuck"] * (size // 12)}).encode()
        )
        yield _post(
            f"size-text-{size}", json.dumps({"clip": clip_id, "edits": ["a" * size]}).encode()
        )


def _numbers(clip_id: str) -> Iterator[Hostile]:
    """Whatever a number is, it is never an error of the service."""
    values = (
        "1" + "0" * 400, "-1" + "0" * 400, "1" + "0" * 5000, "1e400", "-1e400", "1e-400", "NaN", "Infinity", "9223372036854775808", "-0.0",
        "0x10", "1_000", "01", '"1"', "true", "null", "[]", "{}",
    )  # fmt: skip
    for field in ("strength", "limit", "group_above"):
        for number, value in enumerate(values):
            body = f'{{"clip": {json.dumps(clip_id)}, "{field}": {value}}}'
            yield _post(f"number-{field}-{number}", body.encode(), may_answer=True)
    for name in ("twists", "start_s", "duration_s", "label"):
        for number, value in enumerate(values[:10]):
            for shape in ("{}", "[{}, null]"):
                body = f'{{"clip": {json.dumps(clip_id)}, "filters": {{"{name}": {shape.format(value)}}}}}'
                yield _post(f"number-{name}-{number}-{shape[0]}", body.encode(), may_answer=True)


def _shapes(clip_id: str) -> Iterator[Hostile]:
    for number, body in enumerate((
        b"", b"null", b"[]", b'"x"', b"1", b"{", b"}", b"{}" * 2, b"[" * 200_000, b'{"a":' * 30_000, b"\x00", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}",
        b'{"clip": "a", "clip": {}}', b'{"edits": {"0": "a"}}', b'{"edits": [[[[[[[["a"]]]]]]]]}', b'{"liked": [1]}', b'{"explain": []}',
    )):  # fmt: skip
        yield _post(f"shape-{number}", body)
    for name in ("clip", "keep", "exclude", "clip_url"):
        for number, value in enumerate(({}, [], 1, None, True, "a" * 5000)):
            body = json.dumps({"edits": ["in tuck"], name: value}).encode()
            yield _post(f"shape-{name}-{number}", body)
    yield _post("shape-both", json.dumps({"clip": clip_id, "clip_url": "http://x/"}).encode())


def _texts(clip_id: str) -> Iterator[Hostile]:
    """Texts that are no Unicode, or that end a line or a string somewhere."""
    texts = (
        r"\ud800",
        r"\udfff\ud800",
        r"\u0000",
        r"\u202e",
        r"\r\n",
        r"\u2028",
        r"\"'\\",
        r"${jndi:x}",
        r"{{7*7}}",
        r"%00%s%n",
        r"\u001b[2J",
    )
    for number, text in enumerate(texts):
        for body in (
            f'{{"clip": "{text}"}}', f'{{"edits": ["{text}"]}}', f'{{"{text}": 1}}', f'{{"edits": ["a"], "keep": "{text}"}}',
            f'{{"clip": {json.dumps(clip_id)}, "filters": {{"{text}": "a"}}}}', f'{{"clip": {json.dumps(clip_id)}, "filters": {{"label": "{text}"}}}}',
        ):  # fmt: skip
            yield _post(f"text-{number}-{len(body)}", body.encode(), may_answer=True)


def _part(name: str, content: bytes, *, file_name: str = "") -> bytes:
    head = f'content-disposition: form-data; name="{name}"'
    head += f'; filename="{file_name}"' if file_name else ""
    return b"--xx\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def _forms() -> Iterator[Hostile]:
    end = b"--xx--\r\n"
    query = b'{"edits":["in tuck"]}'
    large = b'{"filters":{"label":[' + b",".join([b"{}"] * 20_000) + b"]}}"
    for number, body in enumerate((
        b"", b"--xx", b"--xx--", end, b"\r\n" * 10_000, b"--xx\r\n" * 10_000, _part("query", query), _part("query", query)[:-2] + b"--xx--",
        b"".join([_part("query", query)] * 2) + end, b"".join([_part("x", b"1")] * 1000) + end, _part("query", query, file_name="q.json") + end,
        _part("video", b"1") + end, _part("", b"1") + end, _part("clip", b"1", file_name="a.mp4") + end, _part("query", large) + end,
        _part("query", b"{" * 70_000) + end, _part("video", b"", file_name="a.mp4") + end, b"--xx\r\n" + b"a: b\r\n" * 50_000 + b"\r\n" + end,
        b"--xx\r\na: " + b"b" * 300_000 + b"\r\n\r\n" + end, b"--xx\r\ncontent-disposition: form-data\r\n\r\n1\r\n" + end,
        b"--xx\r\ncontent-disposition: form-data; name*=utf-8''query\r\n\r\n{}\r\n" + end, b"--xx\ncontent-disposition: form-data; name=query\n\n{}\n--xx--",
        b"--xx\r\ncontent-disposition: form-data; name=\"query\"\r\ncontent-transfer-encoding: base64\r\n\r\ne30=\r\n" + end, b"--xx" * 60_000,
    )):  # fmt: skip
        yield _post(f"form-{number}", body, kind="multipart/form-data; boundary=xx")


def _types() -> Iterator[Hostile]:
    body = _part("query", b"{}") + b"--xx--\r\n"
    for number, kind in enumerate((
        "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 71, "multipart/form-data; boundary=\"xx",
        "multipart/form-data; boundary=xx; charset=undefined", "multipart/form-data; boundary=xx; charset=idna", "multipart/mixed; boundary=xx",
        "application/json; charset=utf-16", "application/x-www-form-urlencoded", "text/plain", "application/json-seq", "a/b/c", ";", "multipart/form-data; " * 50,
    )):  # fmt: skip
        yield _post(f"type-{number}", body, kind=kind)
