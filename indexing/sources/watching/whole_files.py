"""Whether a file is whole: nobody has it open for writing, and its container is complete."""

import errno
import fcntl
import os
import signal
from pathlib import Path

from encoders.media.container import open_local, sniff_container
from encoders.media.errors import DecodeError

WRITTEN = "open for writing"
CUT = "not whole"


def reason_to_wait(path: Path) -> str:
    """WRITTEN, CUT, or "" for a file that is whole as far as can be told."""
    if has_writer(path):
        return WRITTEN
    try:
        with open_local(path) as file:
            _container, is_cut = sniff_container(file)
    except DecodeError:  # the head of a container is still to come, or it is not a video
        return CUT
    return CUT if is_cut else ""


def has_writer(path: Path) -> bool:
    """Whether any process of this machine has a file open for writing.

    The kernel tells it the owner of the file and root, of local file systems; of other files this is False.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # A read lease is refused while a file is open for writing (man 2 fcntl). Who opens it in this very moment waits until the
        # lease is given back, and the kernel tells this process with a signal: one that is ignored, where SIGIO would end it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False
