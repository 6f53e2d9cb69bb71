"""TCP ports and listening sockets: a free port, whether a server listens, and servers that are kept on loopback.

For servers that can be told a port but no address, a seccomp filter hands every bind() of the program to a thread of its parent,
which writes a loopback address over any other one before the kernel continues. It needs Linux 5.5 and no privileges, and the program
cannot take it off.
"""

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import threading
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

# Numbers of <asm/unistd.h>, <linux/audit.h>, <linux/seccomp.h> and <linux/prctl.h>: machine -> (audit arch, seccomp, bind).
_SYSCALLS = {"x86_64": (0xC000003E, 317, 49), "aarch64": (0xC00000B7, 277, 200)}
_SET_NO_NEW_PRIVILEGES = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_ALLOW, _ASK_LISTENER, _REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.EPERM
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RECEIVE, _ANSWER, _CONTINUE = 0xC0502100, 0xC0182101, 1
# struct seccomp_notif: id, pid, flags, then the system call: number, arch, instruction pointer, six arguments.
_NOTICE = struct.Struct("=QIIiIQ6Q")
_REPLY = struct.Struct("=QqiI")
# Address family -> where its address lies in struct sockaddr, and the loopback address. An IPv6 socket for all addresses serves
# IPv4 too; it gets loopback in IPv4, where clients look for it.
_ADDRESS_IN: dict[int, tuple[int, bytes]] = {
    socket.AF_INET: (4, socket.inet_aton("127.0.0.1")),
    socket.AF_INET6: (8, socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1")),
}


def keep_on_loopback() -> None:
    """From now on, this thread and every program that it starts can listen on loopback only; OSError where the kernel cannot do that."""
    handed_over: list[int] = []
    is_filtered = threading.Event()

    def watch() -> None:  # a thread from before the filter, whose own calls are not stopped by it
        is_filtered.wait()
        if handed_over:
            _answer_binds(handed_over[0])

    threading.Thread(target=watch, name="keep-on-loopback", daemon=True).start()
    try:
        handed_over.append(_install_filter())
    finally:
        is_filtered.set()


def is_loopback(address: str) -> bool:
    """Whether an address of a socket is this machine's own, in IPv4, IPv6 or IPv4 within IPv6."""
    ip = ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def is_loopback_host(host: str) -> bool:
    """Whether a host of a URL is this machine: localhost or a loopback address; any other name may be any machine."""
    try:
        return host == "localhost" or is_loopback(host)
    except ValueError:
        return False


def _install_filter() -> int:
    """The descriptor on which the kernel reports calls of bind()."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _SYSCALLS:
        raise OSError(
            f"this machine is {platform.system()} on {machine}; only Linux on {' or '.join(_SYSCALLS)} can keep a "
            "server on loopback"
        )
    arch, seccomp, bind = _SYSCALLS[machine]
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD_WORD, 0, 0, 4),  # the architecture: another one numbers its calls otherwise
            (_JUMP_IF_EQUAL, 1, 0, arch),
            (_RETURN, 0, 0, _REFUSE),
            (_LOAD_WORD, 0, 0, 0),  # the number of the call
            (_JUMP_IF_EQUAL, 0, 1, bind),
            (_RETURN, 0, 0, _ASK_LISTENER),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS) failed")
    listener = libc.syscall(
        ctypes.c_long(seccomp), ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(_NEW_LISTENER), header
    )  # fmt: skip
    if listener < 0:
        reason = os.strerror(ctypes.get_errno())
        raise OSError(f"this kernel cannot keep a server on loopback (seccomp: {reason})")
    return listener


def _answer_binds(listener: int) -> None:
    while True:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, notice)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):  # the caller was interrupted or is gone
                continue
            return
        notice_id, pid, _flags, _number, _arch, _pointer, _fd, address, length, *_ = _NOTICE.unpack(notice)  # fmt: skip
        try:
            _move_to_loopback(pid, address, length)
            reply = _REPLY.pack(notice_id, 0, 0, _CONTINUE)
        except OSError:
            reply = _REPLY.pack(notice_id, 0, -errno.EACCES, 0)
        try:
            fcntl.ioctl(listener, _ANSWER, reply)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def _move_to_loopback(pid: int, address: int, length: int) -> None:
    """Replace the address in the caller's memory, while the caller waits."""
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(address)
        content = memory.read(min(length, 28))
        (family,) = struct.unpack("=H", content[:2])
        offset, loopback = _ADDRESS_IN.get(family, (0, b""))
        requested = content[offset : offset + len(loopback)]
        if loopback and not is_loopback(str(ip_address(requested))):
            memory.seek(address + offset)
            memory.write(loopback)


def require_free_port(host: str, port: int) -> None:
    """OSError if the port cannot be bound; called before anything is started."""
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"--host {host!r} --port {port}: {error.strerror}; give another --port, or end what listens there"
            ) from error


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at this moment."""
    with _socket(host) as free:
        free.bind((host, 0))
        return free.getsockname()[1]


def require_listener(address: str, *, timeout_s: float = 10.0) -> None:
    """OSError if no server listens at [SCHEME://]HOST:PORT; an address without a port passes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=timeout_s).close()


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
