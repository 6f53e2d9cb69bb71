"""A sandbox runs a named function in a killable child process: a crash or a hang costs one request, not the worker.

The child serves the next request too, and is started again after a crash. It is a fresh interpreter, not a fork, so it holds
nothing of a large parent.
"""

import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Generic, Self

from encoders.decoding.sandbox.worker import (
    DEVICE_LOST_STATUS,
    HEADER_LENGTH,
    Codec,
    ReplyT,
    RequestT,
    setup_errors_by_name,
)
from encoders.media.errors import DecodeError, DecodeSetupError

DEFAULT_MEMORY_LIMIT_BYTES = 4 << 30
DEFAULT_DEADLINE_S = 120.0
logger = logging.getLogger(__name__)
_START_TIMEOUT_S = 120.0
# Before another start of a child that something ended while it started.
_PAUSES_S = (1.0, 4.0)
# A large encoder on a slow core embeds its canaries meanwhile.
_FIRST_TIMEOUT_S = 900.0

_PIPE_BYTES = 1 << 20
_SOURCE_ROOT = Path(__file__).resolve().parents[3]


class DecoderDiedError(DecodeError):
    """The child crashed, hung or ran out of memory; what it had not given back is lost with it."""


class Sandbox(Generic[RequestT, ReplyT]):
    """A function "module:function" from a request to replies, in a child process with a deadline and a memory limit.

    `deadline_s` is the longest wait for the next message, a reply or a None of the function, so that a long video with many
    spans does not count as a hang. `memory_limit_bytes` is what a child may take beyond what it holds when `first_request` is answered.
    `first_request` goes to every new child before any other, with a deadline of minutes: what it loads for that, it keeps.
    `first_replies` are the answer.
    """

    def __init__(
        self,
        function: str,
        codec: Codec[RequestT, ReplyT],
        *,
        deadline_s: float,
        memory_limit_bytes: int | None = DEFAULT_MEMORY_LIMIT_BYTES,
        first_request: RequestT | None = None,
        niceness: int = 0,
    ) -> None:
        if deadline_s <= 0:
            raise ValueError(f"deadline_s is {deadline_s}; it must be above 0")
        self.deadline_s = deadline_s
        self._memory_limit_bytes = memory_limit_bytes or 0
        self._function, self._codec = function, codec
        self._first_request, self._niceness = first_request, niceness
        self.first_replies: list[ReplyT] = []
        self._child: SandboxProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def iter_replies(self, request: RequestT) -> Generator[ReplyT]:
        """Replies that arrived before an error are good; the error then stands for the rest of the video.

        DecoderDiedError where the decoder, not the file, failed: other spans of the video may still decode.
        """
        self.start()
        yield from self._ask(request, self.deadline_s, self._memory_limit_bytes)

    def start(self) -> None:
        """Start the child where none runs; again after a pause where something ended it meanwhile, such as the kernel of a machine without memory."""
        if self._child is not None:
            return
        for pause_s in _PAUSES_S:
            try:
                self._start_child()
            except DecodeSetupError as error:
                if signal.SIGKILL.name not in str(error):
                    raise
                logger.warning("%s; starting it again in %g s", error, pause_s)
                time.sleep(pause_s)
            else:
                return
        self._start_child()

    def _start_child(self) -> None:
        self._child = SandboxProcess(self._function, self._codec, self._niceness)
        if self._first_request is not None:
            try:
                self.first_replies = list(self._ask(self._first_request, _FIRST_TIMEOUT_S, 0))
            except DecodeError as error:
                raise DecodeSetupError(f"the decoding process cannot start: {error}") from error

    def _ask(
        self, request: RequestT, deadline_s: float, memory_limit_bytes: int
    ) -> Iterator[ReplyT]:
        child = self._child
        assert child is not None
        is_in_step = False
        try:
            limits = {"deadline_s": deadline_s, "memory_limit_bytes": memory_limit_bytes}
            child.send({"request": self._codec.request_to_dict(request), **limits})
            while True:
                header, payload = child.receive(deadline_s)
                if header["kind"] == "reply":
                    yield self._codec.reply_from_message(header["reply"], payload)
                if header["kind"] in ("reply", "at_work"):
                    continue
                is_in_step = header["kind"] in ("end", "video_error")
                break
        finally:
            if not is_in_step:  # crashed, hung, or the reader left early: the pipes are out of step
                self.close()
        if header["kind"] == "setup_error":
            raise _setup_error(header, self._codec)
        if header["kind"] != "end":
            kind = DecoderDiedError if header["kind"] == "fatal" else DecodeError
            raise kind(header["reason"], header["detail"])

    def interrupt(self) -> None:
        """End the child from any thread: the request that runs ends with DecoderDiedError, and the next one gets a new child."""
        child = self._child
        if child is not None:
            child.interrupt()

    def cpu_s(self) -> float:
        """CPU-seconds of the thread that decodes, since its process started; 0 where none runs."""
        return 0.0 if self._child is None else self._child.cpu_s()


def nice_prefix(niceness: int) -> list[str]:
    """What goes before a command so that it runs at a lower priority from its first instruction."""
    return ["nice", "-n", str(niceness)] if niceness else []


def memory_limit_for(device: str) -> int | None:
    """The limit that suits where a child decodes, `cpu` or `cuda`."""
    # CUDA and the GPU's pinned memory are private mappings too: no limit that makes sense for them.
    return DEFAULT_MEMORY_LIMIT_BYTES if device == "cpu" else None


class SandboxProcess:
    """The child process, its two pipes and its end."""

    def __init__(self, function: str, codec: Codec[Any, Any], niceness: int) -> None:
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        fcntl.fcntl(
            reply_read, fcntl.F_SETPIPE_SZ, _PIPE_BYTES
        )  # a clip in two writes, not in thirty
        paths = [str(_SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [
            *nice_prefix(niceness),
            sys.executable,
            "-P",
            "-m",
            "encoders.decoding.sandbox.worker",
        ]
        command += ["--function", function, "--parent-pid", str(os.getpid())]
        command += ["--codec", f"{type(codec).__module__}:{type(codec).__qualname__}"]
        command += ["--request-fd", str(request_read), "--reply-fd", str(reply_write)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=2,  # what native code prints belongs to the log
                pass_fds=(request_read, reply_write),
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            )
        finally:
            os.close(request_read)
            os.close(reply_write)
        self._request_fd, self._reply_fd = request_write, reply_read
        self.kill = weakref.finalize(self, _end, self._process, request_write, reply_read)
        header, _ = self.receive(_START_TIMEOUT_S)
        if header["kind"] != "ready":
            self.kill()
            if header["kind"] == "setup_error":
                raise _setup_error(header, codec)
            raise DecodeSetupError(
                f"the decoding process cannot start: {header['reason']}: {header['detail']}"
            )

    def cpu_s(self) -> float:
        try:  # nanoseconds on a CPU, of the main thread
            return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            return 0.0

    def interrupt(self) -> None:
        self._process.kill()  # only the signal: the descriptors belong to the thread that reads them

    def send(self, message: dict[str, Any]) -> None:
        line = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._request_fd, line) :]
        except BrokenPipeError:
            return  # died while idle; receive() says how

    def receive(self, deadline_s: float) -> tuple[dict[str, Any], bytearray]:
        """The next message; a child that ended or is silent as one of kind `fatal`."""
        give_up = time.monotonic() + deadline_s
        try:
            (length,) = HEADER_LENGTH.unpack(self._read(HEADER_LENGTH.size, give_up))
            header = json.loads(self._read(length, give_up))
            return header, self._read(header["num_bytes"], give_up)
        except TimeoutError:
            reason, detail = "decode_timeout", f"decoder produced no output for {deadline_s:g} s"
        except EOFError:
            reason, detail = self._exit_reason()
        return {"kind": "fatal", "reason": reason, "detail": detail}, bytearray()

    def _read(self, num_bytes: int, give_up: float) -> bytearray:
        buffer = bytearray(num_bytes)
        rest = memoryview(buffer)
        poll = select.poll()
        poll.register(self._reply_fd, select.POLLIN)
        while rest:
            if not poll.poll(max(give_up - time.monotonic(), 0) * 1000):
                raise TimeoutError
            count = os.readv(self._reply_fd, [rest])
            if count == 0:
                raise EOFError
            rest = rest[count:]
        return buffer

    def _exit_reason(self) -> tuple[str, str]:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "decoder_crashed", "the decoding process closed its pipe"
        if status == -signal.SIGALRM:
            return "decode_timeout", "the alarm ended the decoding process"
        if status == DEVICE_LOST_STATUS:
            return "decoder_crashed", "the GPU refused all further work of the decoding process"
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return "decoder_crashed", f"the decoding process ended with {name}"


def _end(process: subprocess.Popen[bytes], *descriptors: int) -> None:
    process.kill()
    process.wait()
    for descriptor in descriptors:
        os.close(descriptor)


def _setup_error(header: dict[str, Any], codec: Codec[Any, Any]) -> Exception:
    """The error of the set-up that a message of the child names."""
    kind = setup_errors_by_name(codec).get(header["error"], DecodeSetupError)
    return kind(header["detail"])
