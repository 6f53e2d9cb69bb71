"""Bodies of queries: what is refused, how fast, and forms against python-multipart as the reference."""

import io
import json
import mmap
import random
import tempfile
import time

import pytest
from python_multipart.multipart import parse_form

from indexing.serving.guard.problems import ProblemError
from indexing.serving.schemas import SearchRequest
from indexing.serving.uploads import parse_json, split_form

BOUNDARY = b"----WebKitFormBoundaryX"


def split(body: bytes, boundary: bytes = BOUNDARY) -> list[tuple[str, bool, bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        with mmap.mmap(file.fileno(), len(body), access=mmap.ACCESS_READ) as data:
            parts = split_form(data, boundary)
            return [(name, is_file, data[start:end]) for name, is_file, start, end in parts]


def form(*parts: tuple[str, str | None, bytes], boundary: bytes = BOUNDARY) -> bytes:
    body = b""
    for name, file_name, content in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        head += "" if file_name is None else f'; filename="{file_name}"'
        body += b"--" + boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + boundary + b"--\r\n"


def reference(body: bytes) -> list[tuple[str, bool, bytes]]:
    """As python-multipart reads it."""
    parts: list[tuple[str, bool, bytes]] = []

    def on_field(field) -> None:
        parts.append((field.field_name.decode(), False, field.value or b""))

    def on_file(file) -> None:
        file.file_object.seek(0)
        parts.append((file.field_name.decode(), True, file.file_object.read()))

    kind = {"Content-Type": b"multipart/form-data; boundary=" + BOUNDARY}
    parse_form({**kind, "Content-Length": str(len(body)).encode()}, io.BytesIO(body), on_field, on_file)  # fmt: skip
    return parts


def test_forms_are_split_as_python_multipart_splits_them() -> None:
    rng = random.Random(0)
    pieces = [
        b"\r\n",
        b"--",
        BOUNDARY,
        b"\r\n--",
        b"\r\n--" + BOUNDARY[:-1],
        b"\0",
        b"{}",
        b"\r",
        b"-",
    ]
    for _ in range(100):
        contents = [b"".join(rng.choices(pieces, k=rng.randrange(8))) for _ in range(2)]
        contents = [
            content for content in contents if b"\r\n--" + BOUNDARY not in b"\r\n" + content
        ]
        parts = [(f"n{i}", rng.choice([None, "f"]), content) for i, content in enumerate(contents)]
        body = form(*parts)
        if not parts:
            continue
        expected = [(name, file_name is not None, content) for name, file_name, content in parts]
        assert split(body) == expected
        assert sorted(reference(body)) == sorted(expected)


@pytest.mark.parametrize(
    "body",
    [
        b"x", b"--" + BOUNDARY, b"--" + BOUNDARY + b"\r\n", form(("a", None, b"x"))[:-4], form(("a", None, b"x"))[:60],
        form(*[("a", None, b"x")] * 3), form(("a", None, b"x")).replace(b"form-data", b"attachment"), b"\r\n" * 5000,
        b"--" + BOUNDARY + b"\r\n" + b"x: y\r\n" * 2000 + b"\r\n--" + BOUNDARY + b"--", b"--" + BOUNDARY + b"\r\n\r\nx\r\n--" + BOUNDARY + b"--",
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        split(body)
    assert refused.value.status == 400


def test_a_preamble_and_an_empty_part_are_read() -> None:
    assert split(b"hello\r\n" + form(("a", None, b""), ("b", "f", b"1"))) == [("a", False, b""), ("b", True, b"1")]  # fmt: skip
    assert split(b"\r\n" + form(("a", None, b"2"))) == [("a", False, b"2")]


def test_a_form_of_delimiters_is_split_at_the_speed_of_a_search() -> None:
    boundary = b"a" * 70
    body = form(("video", "f", (b"\r\n--" + boundary[:-1]) * 200_000), boundary=boundary)
    start_s = time.process_time()
    ((name, _, content),) = split(body, boundary)
    assert (name, len(content)) == ("video", 73 * 200_000)
    assert time.process_time() - start_s < 1.0


LISTS = ['{"filters":{"label":[' + ",".join(["{}"] * 80_000) + "]}}", '{"filters":{"label":[' + ",".join(["1"] * 100_000) + "]}}"]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        *LISTS, json.dumps({f"k{i}": 1 for i in range(20_000)}), '{"x":[' + ",".join(["[]"] * 80_000) + "]}",
        json.dumps({"filters": {f"f{i}": [{}] * 256 for i in range(32)}}), json.dumps({"edits": [[[[[[[[1]]]]]]]]}),
        json.dumps({"liked": ["x" * 900] * 256}),
    ],
)  # fmt: skip
def test_a_body_that_is_no_query_is_refused_in_milliseconds(text: str) -> None:
    start_s = time.process_time()
    with pytest.raises(ProblemError) as refused:
        parse_json(text.encode(), SearchRequest)
    assert refused.value.status == 422
    assert len(refused.value.detail) <= 1000
    assert time.process_time() - start_s < (0.02 if len(text) > 150_000 else 0.25)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[" * 100_000, 422), ("[" * 10_000, 400), ('{"clip":"a","strength":NaN}', 400), ('{"clip":"a","strength":-Infinity}', 400), ("\x80", 400), ("", 400),
        ('{"clip":"a","limit":1' + "0" * 400 + "}", 422), ('{"clip":"a","filters":{"twists":1' + "0" * 400 + "}}", 422),
        ('{"clip":"a","filters":{"twists":9223372036854775808}}', 422), ('{"clip":"a","limit":' + "9" * 5000 + "}", 422),
        ('{"clip":"a","strength":1e999}', 422), ('{"clip":"a","limit":1e999}', 422), ("null", 422), ("[]", 422), ('"x"', 422),
        ('{"clip":"a","filters":{"\\ud800":{}}}', 422), ('{"clip":"a","\\ud800":1}', 422),
    ],
)  # fmt: skip
def test_a_value_that_no_query_has_is_never_an_error_of_the_service(text: str, status: int) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_json(text.encode("latin-1"), SearchRequest)
    assert refused.value.status == status


def test_only_the_first_errors_are_named() -> None:
    with pytest.raises(ProblemError) as refused:
        parse_json(json.dumps({f"k{i}": 1 for i in range(50)}).encode(), SearchRequest)
    assert refused.value.detail.count("Extra inputs") == 3


def test_a_misspelled_field_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(
        ProblemError, match=r"edit: Extra inputs .* did you mean 'edits'"
    ) as refused:
        parse_json(b'{"edit": ["in tuck"]}', SearchRequest)
    assert refused.value.status == 422
