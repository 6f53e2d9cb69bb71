"""The child of a sandbox: requests in on one pipe, the replies of a named function out on another, nothing shared.

It lives no longer than its parent: it ends when the request pipe closes, when its parent is another process than at the start,
and by an alarm of the kernel when one reply takes too long, even if native code holds the interpreter. No pickle: a message is
a length, a JSON header, and a payload of raw bytes, which the codec of the function writes and reads.
"""

import argparse
import importlib
import json
import os
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from encoders.media.errors import DecodeError, DecodeSetupError, is_device_lost

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


class Codec(Protocol[RequestT, ReplyT]):
    """How the requests and replies of one function cross the pipe. Both processes make one, without arguments."""

    @property
    def setup_errors(self) -> tuple[type[Exception], ...]:
        """Errors of a broken set-up that the parent raises as such, beside those of every sandbox."""
        ...

    def request_to_dict(self, request: RequestT) -> dict[str, Any]:
        """The request as JSON can hold it."""
        ...

    def request_from_dict(self, values: dict[str, Any]) -> RequestT:
        """The request that `request_to_dict` wrote."""
        ...

    def reply_to_message(self, reply: ReplyT) -> tuple[dict[str, Any], memoryview | bytes]:
        """The reply as a header that JSON can hold, and a payload."""
        ...

    def reply_from_message(self, values: dict[str, Any], payload: bytearray) -> ReplyT:
        """The reply that `reply_to_message` wrote."""
        ...


IterReplies = Callable[[Any], Iterator[Any]]
"""None among the replies = at work, with nothing to give back yet."""
_SETUP_ERRORS = (
    DecodeSetupError,
    ValueError,
    ImportError,
    ModuleNotFoundError,
    FileNotFoundError,
)


def setup_errors_by_name(codec: Codec[Any, Any] | None) -> dict[str, type[Exception]]:
    """What a broken set-up may be raised as in the parent; anything else is a DecodeSetupError there.

    A fixed table: the child has read hostile files, so the parent imports nothing that the child names.
    """
    kinds = _SETUP_ERRORS + (() if codec is None else codec.setup_errors)
    return {kind.__name__: kind for kind in kinds}


HEADER_LENGTH = struct.Struct(">I")
DEVICE_LOST_STATUS = 70
"""Exit status of a child whose GPU refuses further work (EX_SOFTWARE): the next request gets a new child."""
# The alarm is for a child whose parent is gone; a parent that still runs ends it first.
_ALARM_SLACK_S = 5.0
_PARENT_CHECK_S = 1.0


def write_message(
    pipe: BinaryIO, header: dict[str, Any], payload: memoryview | bytes = b""
) -> None:
    """One message: the length of the header, the header, the payload."""
    text = json.dumps(header | {"num_bytes": len(payload)}).encode()
    pipe.write(HEADER_LENGTH.pack(len(text)) + text)
    pipe.write(payload)
    pipe.flush()


def main(argv: list[str] | None = None) -> None:
    """Answers requests until the request pipe closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--function", required=True, help="module:function like iter_spans")
    parser.add_argument("--codec", required=True, help="module:class of the function's codec")
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--request-fd", type=int, required=True)
    parser.add_argument("--reply-fd", type=int, required=True)
    arguments = parser.parse_args(argv)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the parent, which ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, args=(arguments.parent_pid,), daemon=True).start()
    with (
        open(arguments.request_fd, "rb") as requests,  # noqa: PTH123 - a descriptor, not a path
        open(arguments.reply_fd, "wb") as replies,  # noqa: PTH123
    ):
        codec: Codec[Any, Any] | None = None
        try:
            codec = _named_object(arguments.codec)()
            iter_replies = _named_object(arguments.function)
        except (ImportError, AttributeError) as error:
            write_message(replies, _setup_error(error, codec))
            return
        assert codec is not None
        write_message(replies, {"kind": "ready"})
        try:
            while (line := requests.readline()) and _answer(line, replies, iter_replies, codec):
                pass
        except BrokenPipeError:  # the parent is gone
            os._exit(0)


def _answer(
    line: bytes, replies: BinaryIO, iter_replies: IterReplies, codec: Codec[Any, Any]
) -> bool:
    """False when this process should not be used again."""
    values = json.loads(line)
    _limit_memory(values["memory_limit_bytes"])
    deadline_s = values["deadline_s"] + _ALARM_SLACK_S
    try:
        signal.setitimer(signal.ITIMER_REAL, deadline_s)
        for reply in iter_replies(codec.request_from_dict(values["request"])):
            # A reader that takes its time must not look like a decoder that hangs.
            signal.setitimer(signal.ITIMER_REAL, 0)
            if reply is None:
                write_message(replies, {"kind": "at_work"})
            else:
                header, payload = codec.reply_to_message(reply)
                write_message(replies, {"kind": "reply", "reply": header}, payload)
            signal.setitimer(signal.ITIMER_REAL, deadline_s)
        outcome = {"kind": "end"}
    except DecodeError as error:
        outcome = {"kind": "video_error", "reason": error.reason, "detail": error.detail}
    except (ImportError, DecodeSetupError) as error:
        if is_device_lost(error):  # its first words for it come from whoever met it next
            os._exit(DEVICE_LOST_STATUS)
        outcome = _setup_error(error, codec)
    except BrokenPipeError:
        raise
    except MemoryError as error:
        detail = f"the memory limit ({error})" if str(error) else "the memory limit"
        outcome = {"kind": "fatal", "reason": "limit_exceeded", "detail": detail}
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a hostile file does costs one video
        if is_device_lost(error):  # at once: what runs at exit would wait for the GPU
            os._exit(DEVICE_LOST_STATUS)
        detail = f"{type(error).__name__}: {error}"
        outcome = {"kind": "fatal", "reason": "decoder_crashed", "detail": detail}
    signal.setitimer(signal.ITIMER_REAL, 0)
    write_message(replies, outcome)
    return outcome["kind"] != "fatal"


def _setup_error(error: Exception, codec: Codec[Any, Any] | None) -> dict[str, Any]:
    """With what broke the set-up, where that says more."""
    cause = error.__cause__
    if isinstance(error, DecodeSetupError) and isinstance(cause, Exception):
        error = cause if type(cause).__name__ in setup_errors_by_name(codec) else error
    return {"kind": "setup_error", "error": type(error).__name__, "detail": str(error)}


def _named_object(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache  # once: what was added since would be allowed again
def _limit_memory(limit_bytes: int) -> None:
    """Private memory that may still be added, once; 0 = not yet, or not at all.

    Address space would be the wrong measure: code maps much and touches little.
    """
    if not limit_bytes:
        return
    _, most_bytes = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text()
    used = int(next(line for line in status.splitlines() if line.startswith("VmData")).split()[1])
    limit_bytes += used * 1024
    if most_bytes != resource.RLIM_INFINITY:  # whoever started us may have set less
        limit_bytes = min(limit_bytes, most_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _end_with_parent(parent_pid: int) -> None:
    # Not PR_SET_PDEATHSIG: it fires when the thread that started us ends, and workers start us from short-lived threads.
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
