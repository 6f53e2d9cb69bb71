"""Bodies of queries: JSON, or a form of JSON and a video, which stays in a file from the socket to the decoder.

Read and checked in threads: the event loop only passes chunks on. A form is split by searching for its delimiter, at the speed of
a search for bytes, whatever the body holds.
"""

import asyncio
import json
import mmap
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header

from indexing.search.filters import MAX_VALUES
from indexing.search.types import UploadedVideo
from indexing.serving.guard.problems import ProblemError
from indexing.serving.schemas import SearchRequest

Model = TypeVar("Model", bound=BaseModel)
_SPOOL_BYTES = 1 << 20
_WINDOW_BYTES = 4 << 20
_MAX_PART_HEADER = 4096
_MAX_PARTS = 2
_MAX_KEYS = 64
_MAX_DEPTH = 6
_MARKS = (b",", b":", b"[", b"{")
_MAX_MARKS = 20_000
_MAX_ERRORS = 3
_LARGE_JSON = 16 << 10
_FORM = "a form has the JSON `query` and the file `video`, each at most once"


class QueryReader:
    """Reads the bodies of queries in threads of its own."""

    def __init__(self, *, max_json_bytes: int, num_threads: int = 2) -> None:
        self._max_json_bytes = max_json_bytes
        self._threads = ThreadPoolExecutor(num_threads, "query-reader")
        # Parsing does not let go of the interpreter: one at a time, so that the event loop waits for one.
        self._parser = ThreadPoolExecutor(1, "json-parser")

    async def read(
        self, request: Request, files: ExitStack
    ) -> tuple[SearchRequest, UploadedVideo | None]:
        """The query and its video, whose file lives until `files` is closed; ProblemError where they are not valid."""
        loop = asyncio.get_running_loop()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await self.read_json(request, SearchRequest), None
        if kind != "multipart/form-data":
            raise ProblemError(415, "send application/json or multipart/form-data")
        boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
        if not 0 < len(boundary) <= 70:
            raise ProblemError(400, "multipart/form-data needs a boundary of 1 to 70 characters")
        body = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        async for chunk in _large_chunks(request):
            await loop.run_in_executor(self._threads, body.write, chunk)
        video_file = files.enter_context(tempfile.NamedTemporaryFile(suffix=".video"))  # noqa: SIM115
        return await loop.run_in_executor(
            self._threads, self._read_form, body, boundary, video_file
        )

    async def read_json(self, request: Request, model: type[Model]) -> Model:
        """A body of JSON as this model; ProblemError where it is not valid."""
        text = await request.body()  # the guard limits it
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parser, _parse_in_turn, text, model)

    def close(self) -> None:
        """End the threads."""
        for threads in (self._threads, self._parser):
            threads.shutdown(wait=True, cancel_futures=True)

    def _read_form(
        self, body: BinaryIO, boundary: bytes, video_file: Any
    ) -> tuple[SearchRequest, UploadedVideo | None]:
        body.flush()
        size = os.fstat(body.fileno()).st_size
        if size == 0:
            raise ProblemError(400, "the form is empty")
        text, video = b"{}", None
        names: set[str] = set()
        with mmap.mmap(body.fileno(), size, access=mmap.ACCESS_READ) as data:
            for name, is_file, start, end in split_form(data, boundary):
                if is_file != {"query": False, "video": True}.get(name) or name in names:
                    raise ProblemError(422, f"{_FORM}; this one has {name[:64]!r}")
                names.add(name)
                if name == "query":
                    if end - start > self._max_json_bytes:
                        raise ProblemError(413, f"`query` may have at most {self._max_json_bytes} bytes")  # fmt: skip
                    text = data[start:end]
                    continue
                for first in range(start, end, _SPOOL_BYTES):
                    video_file.write(data[first : min(first + _SPOOL_BYTES, end)])
                video_file.flush()
                if start == end:
                    raise ProblemError(422, "the query clip has 0 bytes")
                video = UploadedVideo(path=Path(video_file.name))
        return parse_json(text, SearchRequest), video


def _parse_in_turn(text: bytes, model: type[Model]) -> Model:
    """As `parse_json`; after a large text the event loop has the interpreter for as long as that took."""
    start_s = time.perf_counter()
    try:
        return parse_json(text, model)
    finally:
        if len(text) > _LARGE_JSON:
            time.sleep(time.perf_counter() - start_s)


def parse_json(text: bytes, model: type[Model]) -> Model:
    """A request from its JSON; ProblemError 400 where it is not JSON, 422 where it does not fit the model.

    Items are counted before the JSON is read, which no other thread can interrupt; numbers and sizes are checked before pydantic
    reads them, which would make an error of every item of a long list.
    """
    num_items = sum(text.count(mark) for mark in _MARKS)
    if num_items > _MAX_MARKS:
        raise ProblemError(
            422, f"the query has {num_items} items; at most {_MAX_MARKS} are allowed"
        )
    try:
        value = json.loads(text, parse_int=_parse_int, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "the query is not JSON") from error
    _check_sizes(value, _MAX_DEPTH)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ProblemError(422, first_errors(error, model)) from error


def first_errors(error: ValidationError, model: type[BaseModel]) -> str:
    """The first errors of a validation, as one text."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    parts = []
    for problem in errors[:_MAX_ERRORS]:
        name = ".".join(map(str, problem["loc"]))[:100]
        near = get_close_matches(name, model.model_fields, 1)
        hint = (
            f"; did you mean {near[0]!r}?" if problem["type"] == "extra_forbidden" and near else ""
        )
        parts.append(f"{name}: {problem['msg']}{hint}")
    return "; ".join(parts)[:1000]


def split_form(data: "mmap.mmap", boundary: bytes) -> Iterator[tuple[str, bool, int, int]]:
    """(name, whether it has a file name, first byte, end) of each part of a form; ProblemError 400 where it is not a form."""
    delimiter = b"\r\n--" + boundary
    is_first = data[: len(delimiter) - 2] == delimiter[2:]  # else there is a preamble
    at = 0 if is_first else _find(data, delimiter, 0)
    end_of_line = at + len(delimiter) - (2 if is_first else 0)
    num_parts = 0
    while at >= 0:
        if data[end_of_line : end_of_line + 2] == b"--":
            return
        head_start = end_of_line + 2
        if data[end_of_line:head_start] != b"\r\n":
            break
        head_end = data.find(b"\r\n\r\n", end_of_line, head_start + _MAX_PART_HEADER)
        at = -1 if head_end < 0 else _find(data, delimiter, head_end + 2)
        if at < 0:
            break
        num_parts += 1
        if num_parts > _MAX_PARTS:
            raise ProblemError(400, _FORM)
        start = head_end + 4
        yield (*_disposition(data[head_start:head_end]), start, max(at, start))
        end_of_line = at + len(delimiter)
    raise ProblemError(400, "the form is not valid multipart/form-data")


def _disposition(head: bytes) -> tuple[str, bool]:
    """Name of a part, and whether it is a file."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            kind, options = parse_options_header(value.strip())
            if kind == b"form-data" and b"name" in options:
                return options[b"name"].decode("utf-8", "replace"), b"filename" in options
    raise ProblemError(400, "a part of the form has no name")


def _find(data: "mmap.mmap", needle: bytes, start: int) -> int:
    """As `find`, in pieces, between which other threads may run."""
    while start < len(data):
        at = data.find(needle, start, start + _WINDOW_BYTES + len(needle) - 1)
        if at >= 0:
            return at
        start += _WINDOW_BYTES
    return -1


async def _large_chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces that are worth a call in a thread."""
    parts: list[bytes] = []
    num_bytes = 0
    async for chunk in request.stream():
        parts.append(chunk)
        num_bytes += len(chunk)
        if num_bytes >= _SPOOL_BYTES:
            yield b"".join(parts)
            parts, num_bytes = [], 0
    if parts:
        yield b"".join(parts)


def _parse_int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ProblemError(422, f"the number {text[:20]}... does not fit in 64 bits")
    return int(text)


def _refuse_constant(text: str) -> Any:
    raise ProblemError(400, f"{text} is not JSON")


def _check_sizes(value: Any, depth: int) -> None:
    """ProblemError 422 for lists, objects and depths that no query has."""
    if not isinstance(value, list | dict):
        return
    limit = MAX_VALUES if isinstance(value, list) else _MAX_KEYS
    if len(value) > limit:
        kind = "a list" if isinstance(value, list) else "an object"
        raise ProblemError(422, f"{kind} of the query has {len(value)} items; at most {limit} are allowed")  # fmt: skip
    if depth == 0:
        raise ProblemError(422, f"the query is nested more than {_MAX_DEPTH} levels deep")
    for item in value.values() if isinstance(value, dict) else value:
        _check_sizes(item, depth - 1)
