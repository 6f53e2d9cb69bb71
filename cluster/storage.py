"""Atomic file writes, folders for the time of a block, and the check that storage is shared by all nodes of a run."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

# File systems that several machines mount together, as /proc/mounts names them.
_SHARED_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "wekafs",
    }
)

_FULL_BYTES = 1 << 20


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write a whole file or nothing; creates the folder."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_list(path: Path, lines: Sequence[str]) -> None:
    """A line each, as a whole; no file where there are none."""
    if lines:
        write_atomic(path, "\n".join(lines) + "\n")
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: str | Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file of the same folder, `.NAME.*.tmp`; after a success it is renamed to `path`, else removed.

    A reader sees the old or the new content, never a part. For files that are too large for `write_atomic`. `is_durable`: it is
    synced first, so that it survives a crash of the machine; a cache need not be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        if is_durable:
            _sync(temporary)
        # mkstemp makes the file private to its owner; a new file gets what open() would give it.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if is_durable:
        _sync(path.parent)  # the rename itself is durable only once the folder is synced


@contextlib.contextmanager
def scratch_folder(parent: Path | None, prefix: str) -> Iterator[Path]:
    """A folder in `parent` (None = the system's temporary one) that is gone after the block.

    Removes those that killed processes left there: whoever uses one holds a lock on it.
    """
    place = Path(parent or tempfile.gettempdir())
    for left in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left)
    made = Path(tempfile.mkdtemp(prefix=f".new-{prefix}", dir=place))
    folder = place / f"{prefix}{made.name.rpartition('-')[2]}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # Where there are no locks, no folder is ever taken for left.
        with contextlib.suppress(OSError):
            stack.enter_context(_locked(made))
        made.rename(folder)  # only now it is one that others look at
        yield folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """BlockingIOError where another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_full(folder: Path) -> bool:
    """Whether a disk has no room: some libraries do not pass on what the system said of a write that failed."""
    return shutil.disk_usage(folder).free < _FULL_BYTES


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def require_shared(
    uri: str | Path, *, num_nodes: int, what: str, needed: str, mounts: str | None = None
) -> None:
    """ValueError for storage that only one of several nodes can reach. `needed` is an example of a suitable URI."""
    if num_nodes <= 1:
        return
    text = str(uri)
    if "://" in text and not text.startswith("file://"):
        parts = urlsplit(text)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            return
        text = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    elif is_network_folder(text.removeprefix("file://"), mounts=mounts):
        return
    raise ValueError(
        f"{what} {text!r} can be reached from one node only, and this run has {num_nodes} nodes; "
        f"give one that all of them reach, such as {needed}"
    )


def is_network_folder(path: str | Path, *, mounts: str | None = None) -> bool:
    """Whether several machines mount the file system that holds the path, or would hold it."""
    return file_system_of(path, mounts=mounts) in _SHARED_FILE_SYSTEMS


def file_system_of(path: str | Path, *, mounts: str | None = None) -> str:
    """The type of the file system that holds the path, or would hold it; "" if unknown."""
    table = Path("/proc/mounts").read_text() if mounts is None else mounts
    target = Path(path).resolve()
    best, kind = "", ""
    for line in table.splitlines():
        _device, mount, file_system = line.split()[:3]
        mount = mount.encode().decode("unicode_escape")
        if target.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, file_system
    return kind
