"""What the fault harness owns: a Milvus in a process of its own, a TCP proxy in front of it, and a Ray cluster of several raylets."""

import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from indexing.store import dev_server

_SERVE = (
    "import sys, signal\n"
    "from indexing.store.endpoint import serve_milvus\n"
    "with serve_milvus(sys.argv[1]) as address:\n"
    "    print(address, flush=True)\n"
    "    sys.stdin.read()\n"
)
_CLUSTER = (
    "import sys\n"
    "from ray.cluster_utils import Cluster\n"
    "def add():\n"
    "    for attempt in range(4):\n"  # on a busy machine a raylet may miss Ray's 30 s
    "        try:\n"
    "            return cluster.add_node(num_cpus=2, object_store_memory=1 << 28)\n"
    "        except Exception:\n"
    "            if attempt == 3: raise\n"
    "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1, 'object_store_memory': 1 << 28})\n"
    "node = add()\n"
    "raylet = node.all_processes['raylet'][0].process.pid\n"
    "print(cluster.address, raylet, flush=True)\n"
    "for line in sys.stdin:\n"
    "    add()\n"
    "    print('added', flush=True)\n"
    "cluster.shutdown()\n"
)


class Subprogram:
    """A python process that prints a line when it is ready and ends when its stdin closes."""

    def __init__(self, code: str, *arguments: str, log: Path) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()
        if not self.line:
            raise RuntimeError(f"a process of the harness did not start:\n{log.read_text()}")

    def ask(self, text: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.kill()


class MilvusProcess(Subprogram):
    """Milvus Lite, served to others; after a kill the same folder opens again."""

    def __init__(self, folder: Path, log: Path) -> None:
        super().__init__(_SERVE, str(folder), log=log)
        self.port = int(self.line.rpartition(":")[2])


class MilvusServer:
    """A standalone server; after a kill the same folder is opened by a new one."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self.port = int(dev_server.start(folder).rpartition(":")[2])

    def kill(self) -> None:
        dev_server.crash(self._folder)

    def close(self) -> None:
        dev_server.stop(self._folder)


class RayCluster(Subprogram):
    """A head with one CPU and a second raylet with two."""

    def __init__(self, log: Path) -> None:
        super().__init__(_CLUSTER, log=log)
        address, pid = self.line.split()
        self.address, self.second_raylet = address, int(pid)


class Proxy:
    """Passes bytes to `target_port` on this machine; `is_cut` breaks what is open and refuses what is new."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.is_cut = False
        self.num_harmed = 0
        """Connections that were broken or refused."""
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        self.num_harmed += len(self._open) // 2
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.is_cut:
                    self.num_harmed += 1
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)
