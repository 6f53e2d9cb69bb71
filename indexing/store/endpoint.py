"""Addresses of Milvus: a server's own URI, or a Milvus Lite folder that this process serves.

Only one process may open a Milvus Lite folder, so whoever opens it serves it on a loopback port to the
other processes of the node. A server's token comes from its URI (https://TOKEN@HOST, http://USER:PASSWORD@HOST:19530) or from the
variable MILVUS_TOKEN; the address that is handed to workers has it, and nothing that is stored or logged.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from indexing.sources.uris import public_uri


class _LiteServer:
    """One open Milvus Lite folder of this process, with its number of users."""

    def __init__(self, folder: Path) -> None:
        from milvus_lite.adapter.grpc.server import start_server_in_thread
        from milvus_lite.exceptions import DataDirLockedError

        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._server, self._db, port = start_server_in_thread(str(folder), host="127.0.0.1")
        except DataDirLockedError as error:
            raise OSError(
                f"Milvus Lite folder {str(folder)!r} is open in another process, and only one may "
                "have it open; end that process or use a Milvus server (http://HOST:19530)"
            ) from error
        self.address = f"http://127.0.0.1:{port}"
        self.num_users = 0

    def close(self) -> None:
        self._server.stop(grace=2).wait()
        self._db.close()


_lite_servers: dict[Path, _LiteServer] = {}
_lite_lock = threading.Lock()


def is_lite(uri: str) -> bool:
    """Whether a URI is a local folder."""
    return "://" not in uri


def serves_lite(address: str) -> bool:
    """Whether this process serves a Milvus Lite folder at the address."""
    with _lite_lock:
        return any(server.address == address for server in _lite_servers.values())


def require_archive(uri: str) -> None:
    """ValueError where a Milvus Lite folder does not exist: opening it would create an empty one."""
    if is_lite(uri) and not Path(uri).is_dir():
        raise ValueError(
            f"{uri!r} is not a Milvus Lite folder; run `tfcovr index` first, or give http://HOST:19530"
        )


def place_of(address: str) -> str:
    """The name of a Milvus in messages: the folder that this process serves at the address, or the URI without secrets."""
    with _lite_lock:
        folders = [str(f) for f, server in _lite_servers.items() if server.address == address]
    return folders[0] if folders else public_uri(address)


@contextmanager
def serve_milvus(uri: str) -> Iterator[str]:
    """The address that every process of this node (of every node, for a server) can connect to while the block runs."""
    if not is_lite(uri):
        yield _with_token(uri)
        return
    folder = Path(uri).resolve()
    if folder.is_file():
        raise ValueError(f"Milvus URI {uri!r} is a file; give a folder or http://HOST:PORT")
    with _lite_lock:
        server = _lite_servers.get(folder)
        if server is None:
            server = _lite_servers[folder] = _LiteServer(folder)
        server.num_users += 1
    try:
        yield server.address
    finally:
        with _lite_lock:
            server.num_users -= 1
            if server.num_users == 0:
                del _lite_servers[folder]
                server.close()


def split_token(address: str) -> tuple[str, str]:
    """(address without user info, token): pymilvus itself reads no token with a `/` or `@` from an address, and none for imports."""
    return public_uri(address), unquote(urlsplit(address).netloc.rpartition("@")[0])


def _with_token(uri: str) -> str:
    parts = urlsplit(uri)
    token = os.environ.get("MILVUS_TOKEN", "").strip()
    if "@" in parts.netloc or not token:
        return uri
    user, colon, password = token.partition(":")
    netloc = f"{quote(user, safe='')}{colon}{quote(password, safe='')}@{parts.netloc}"
    return urlunsplit(parts._replace(netloc=netloc))
