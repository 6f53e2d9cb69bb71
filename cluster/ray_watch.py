"""A process beside a driver that says on stderr when Ray has died: Ray ends the driver itself then, without a word and without Python.

Run with the pids of the driver and of Ray's servers. Its stdin is a pipe of the driver: a byte says that Ray is shut down on purpose,
and its end without one that the driver is gone.
"""

import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

_STDIN = 0
# Where all processes are terminated at once, Ray may be gone before the driver has said that this is on purpose.
_TOLD_S = 1.0
# A driver that Ray has not ended by then waits for a server that is gone.
_DRIVER_ENDS_S = 10.0


def watch(pids: list[int], driver_pid: int) -> None:
    """Wait for the end of a server or of the driver; say so where it was a server's."""
    poll = select.poll()
    poll.register(_STDIN, select.POLLIN | select.POLLHUP)
    # By descriptors, not by pids: a pid soon belongs to another process. The pipe alone does not tell the driver's end: a process that
    # the driver forked may hold it too.
    try:
        driver = os.pidfd_open(driver_pid)
    except ProcessLookupError:
        return
    poll.register(driver, select.POLLIN)
    names: dict[int, str] = {}
    for pid in pids:
        with suppress(ProcessLookupError, FileNotFoundError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            descriptor = os.pidfd_open(pid)
            names[descriptor] = f"{name}, process {pid}"
            poll.register(descriptor, select.POLLIN)
    if os.getppid() != driver_pid:
        return
    ready = {descriptor for descriptor, _event in poll.poll()}
    if driver in ready or (_STDIN in ready and os.read(_STDIN, 1)):
        return
    if dead := [names[descriptor] for descriptor in names if descriptor in ready]:
        pipe = select.poll()
        pipe.register(_STDIN, select.POLLIN)
        if pipe.poll(_TOLD_S * 1000) and os.read(_STDIN, 1):
            return
        line = f"error: Ray died ({dead[0]}); see that the machine has memory left, then rerun the same command to resume\n"
        with suppress(OSError):
            os.write(2, line.encode())
        poll = select.poll()
        poll.register(_STDIN, select.POLLIN | select.POLLHUP)
        poll.register(driver, select.POLLIN)
        if not poll.poll(_DRIVER_ENDS_S * 1000):
            signal.pidfd_send_signal(driver, signal.SIGTERM)


if __name__ == "__main__":
    watch([int(pid) for pid in sys.argv[2:]], int(sys.argv[1]))
