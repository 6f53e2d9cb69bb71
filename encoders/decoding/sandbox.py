"""The sandbox: a killable child process with a deadline that runs native decoding."""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

from encoders.decoding.sandbox_worker import HEADER_LENGTH, SETUP_ERRORS
from encoders.media.errors import DecodeSetupError

_START_TIMEOUT_S = 120.0


_PIPE_BYTES = 1 << 20
_SOURCE_ROOT = Path(__file__).resolve().parent.parent.parent


class SandboxProcess:
    """The child process, its two pipes and its end."""

    def __init__(self, decode_function: str) -> None:
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        fcntl.fcntl(
            reply_read, fcntl.F_SETPIPE_SZ, _PIPE_BYTES
        )  # a clip in two writes, not in thirty
        paths = [str(_SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-P", "-m", "encoders.decoding.sandbox_worker"]
        command += ["--function", decode_function, "--parent-pid", str(os.getpid())]
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
                raise setup_error(header)
            raise DecodeSetupError(
                f"the decoding process cannot start: {header['reason']}: {header['detail']}"
            )

    def cpu_s(self) -> float:
        try:  # nanoseconds on a CPU, of the main thread
            return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            return 0.0

    def send(self, message: dict[str, Any]) -> None:
        line = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._request_fd, line) :]
        except BrokenPipeError:
            return  # died while idle; receive() says how

    def receive(self, deadline_s: float) -> tuple[dict[str, Any], bytearray]:
        """The next message; a dead or silent child as one of kind `fatal`."""
        give_up = time.monotonic() + deadline_s
        try:
            (length,) = HEADER_LENGTH.unpack(self._read(HEADER_LENGTH.size, give_up))
            header = json.loads(self._read(length, give_up))
            return header, self._read(header["num_bytes"], give_up)
        except TimeoutError:
            reason, detail = "decode_timeout", f"nothing came for {deadline_s:g} s"
        except EOFError:
            reason, detail = self._cause_of_death()
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

    def _cause_of_death(self) -> tuple[str, str]:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "decoder_crashed", "the decoding process closed its pipe"
        if status == -signal.SIGALRM:
            return "decode_timeout", "the alarm ended the decoding process"
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return "decoder_crashed", f"the decoding process ended with {name}"


def _end(process: subprocess.Popen[bytes], *descriptors: int) -> None:
    process.kill()
    process.wait()
    for descriptor in descriptors:
        os.close(descriptor)


def setup_error(header: dict[str, Any]) -> Exception:
    """The error of the set-up that a message of the child names."""
    return SETUP_ERRORS.get(header["error"], DecodeSetupError)(header["detail"])
