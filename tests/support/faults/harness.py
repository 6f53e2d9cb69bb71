"""One seeded fault in one indexing run: what is killed, cut or filled, and when, follows from the seed alone."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from encoders.bundle.card import read_card
from encoders.clips import read_clips, write_clips
from indexing.ledger.dead_letters import DEAD_LETTERS, read_dead_letters
from indexing.pipeline.config import CONFIG, VerifyConfig
from indexing.pipeline.verify import verify_archive
from indexing.store.collection import open_collection
from tests.support.faults.fault import CHILD, MOMENTS, NUM_CLIPS, NUM_VIDEOS, Fault, FaultResult
from tests.support.faults.places import MilvusProcess, MilvusServer, Proxy, RayCluster
from tests.support.ledgers import num_recorded
from tests.support.remote_server import serve_folder

_RUN_LIMIT_S = 300.0
_CUT_S = 20.0
_FETCH_S = 0.3  # of a video at least, so that fetching goes on while others are decoded
_TMPFS = "size=4m"


def run_fault(
    fault: Fault, folder: Path, *, bundle_dir: Path, clips: Path, expected: dict[str, np.ndarray]
) -> FaultResult:
    """Index with the fault, index again until a run ends well (at most three more), then verify.

    Clips whose video could not be fetched are dead letters of a run that ended well: those are tried again, as a person would.
    """
    with ExitStack() as stack:
        trial = _Trial(fault, folder, stack, bundle_dir=bundle_dir, clips=clips)
        struck, is_hung, num_runs = trial.first_run()
        while not is_hung and trial.last_status != 0 and num_runs < 4:
            is_hung = not trial.run_to_the_end()
            num_runs += 1
        if not is_hung and trial.has_unfetched():
            is_hung = not trial.retry_unfetched()
            num_runs += 1
        return _judge(fault, trial, num_runs, struck, is_hung or trial.last_status != 0, expected)


def _judge(
    fault: Fault,
    trial: "_Trial",
    num_runs: int,
    struck: bool,
    is_hung: bool,
    expected: dict[str, np.ndarray],
) -> FaultResult:
    verification = verify_archive(
        VerifyConfig(
            bundle=trial.bundle_dir,
            clips=str(trial.clips),
            milvus_uri=trial.uri,
            run_dir=trial.run_dir,
        )
    )
    counts = {kind: fault.count for kind, fault in verification.faults.items()}
    with open_collection(trial.uri, "clips") as collection:
        collection.check(encoder_id=read_card(trial.bundle_dir).encoder_id)
        rows = list(collection.rows(("clip_id", "embedding")))
        num_rows = collection.count()
    wrong = sum(
        row["clip_id"] not in expected
        or bool(np.abs(np.asarray(row["embedding"]) - expected[row["clip_id"]]).max() > 1e-5)
        for row in rows
    )
    return FaultResult(
        fault=fault,
        num_runs=num_runs,
        struck=struck,
        is_hung=is_hung,
        lost=counts["missing"] + verification.dead + verification.unreadable,
        doubled=counts["duplicate"] + num_rows - len({row["clip_id"] for row in rows}),
        stale=counts["stale"] + counts["orphaned"],
        wrong_vectors=wrong,
    )


class _Trial:
    last_status: int | None = None

    def __init__(
        self, fault: Fault, folder: Path, stack: ExitStack, *, bundle_dir: Path, clips: Path
    ) -> None:
        self.fault, self.bundle_dir = fault, bundle_dir
        self._folder, self._stack = folder, stack
        self._log = folder / "log"
        self.run_dir = folder / "run"
        if fault.kind == "disk":
            self._mount(self.run_dir)
        self._milvus = self._start_milvus()
        stack.callback(lambda: self._milvus.close())
        self._proxy = Proxy(self._milvus.port)
        stack.callback(self._proxy.close)
        self.uri = f"http://127.0.0.1:{self._proxy.port}"
        self._cluster = RayCluster(self._log) if fault.kind == "raylet" else None
        if self._cluster is not None:
            stack.callback(self._cluster.close)
        self._videos: Proxy | None = None
        self._requests: list[str] = []
        self.clips = self._serve(clips) if fault.is_remote else clips

    def first_run(self) -> tuple[bool, bool, int]:
        """(did the fault strike, did the run hang, runs so far)."""
        driver = self._start()
        struck = self._strike_in_time(driver)
        ended = self._wait(driver)
        if self.fault.kind == "disk":
            (self.run_dir / "filler").unlink(missing_ok=True)
        return struck, not ended, 1

    def run_to_the_end(self) -> bool:
        return self._wait(self._start())

    def has_unfetched(self) -> bool:
        if not (self.run_dir / DEAD_LETTERS).exists():
            return False
        return any(one.error.reason == "fetch_failed" for one in read_dead_letters(self.run_dir))

    def retry_unfetched(self) -> bool:
        command = ["tfcovr", "retry", "--run-dir", str(self.run_dir)]
        return self._wait(self._start_module(*command, "--reason", "fetch_failed"))

    def _start_milvus(self) -> "MilvusProcess | MilvusServer":
        kind = MilvusServer if self.fault.has_server else MilvusProcess
        return kind(self._folder / "milvus", self._log)

    def _serve(self, clips: Path) -> Path:
        """The same clips, their videos behind a web server and a proxy of their own."""
        server = self._stack.enter_context(serve_folder(clips.parent))
        server.delay_s = _FETCH_S
        self._requests = server.requests
        self._videos = Proxy(int(server.url.rpartition(":")[2]))
        self._stack.callback(self._videos.close)
        served = f"http://127.0.0.1:{self._videos.port}"
        path = self._folder / "clips.parquet"
        write_clips(
            path,
            [
                replace(clip, video_uri=f"{served}/{Path(clip.video_uri).name}")
                for clip in read_clips(clips)
            ],
        )
        return path

    def _start(self) -> subprocess.Popen:
        command = ["tfcovr", "index", "--bundle", str(self.bundle_dir)]
        command += ["--clips", str(self.clips), "--milvus-uri", self.uri, "--batch-size", "2"]
        command += ["--run-dir", str(self.run_dir)]
        command += ["--fetch.cache-dir", str(self._folder / "cache")]
        command += ["--workers.share-device", "on" if self.fault.shares_device else "off"]
        return self._start_module(*command)

    def _start_module(self, *command: str) -> subprocess.Popen:
        environment = dict(os.environ)
        environment.pop("RAY_ADDRESS", None)
        if self._cluster is not None:
            environment["RAY_ADDRESS"] = self._cluster.address
        with self._log.open("ab") as log:
            driver = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        self._stack.callback(_end_group, driver)
        return driver

    def _wait(self, driver: subprocess.Popen) -> bool:
        try:
            self.last_status = driver.wait(_RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            return False
        if (
            self.last_status == 1 and self.has_unfetched()
        ):  # ended well, and says that clips were left out
            self.last_status = 0
        return True

    def _strike_in_time(self, driver: subprocess.Popen) -> bool:
        """False when the run ended before the fault could strike."""
        give_up = time.monotonic() + _RUN_LIMIT_S
        while driver.poll() is None and time.monotonic() < give_up:
            if self._has_come(driver):
                if self.fault.kind != "worker":
                    return self._strike(driver)
                if self._kill_victim(driver):
                    return True
            time.sleep(0.01)
        return False

    def _has_come(self, driver: subprocess.Popen) -> bool:
        share = MOMENTS[self.fault.moment]
        if self.fault.moment == "plan":
            return (self.run_dir / CONFIG).exists()
        if self.fault.while_fetching:
            num_asked = sum(request.startswith("GET") for request in list(self._requests))
            return num_asked >= max((share or 0.0) * NUM_VIDEOS, 1)
        if share is None:
            return bool(self._processes(driver, "_Step_decode"))
        return num_recorded(self.run_dir) >= max(share * NUM_CLIPS, 1)

    def _kill_victim(self, driver: subprocess.Popen) -> bool:
        victim = self.fault.victim
        for one in self._processes(driver, victim if victim == CHILD else f"_Step_{victim})"):
            with suppress(psutil.NoSuchProcess):
                one.kill()
                return True
        return False

    def _processes(self, driver: subprocess.Popen, name: str) -> list[psutil.Process]:
        roots = [driver.pid] if self._cluster is None else [self._cluster.process.pid]
        found = []
        for root in roots:
            with suppress(psutil.NoSuchProcess):
                for one in psutil.Process(root).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        if name in " ".join(one.cmdline()):
                            found.append(one)
        return found

    def _strike(self, driver: subprocess.Popen) -> bool:
        """Whether it hit anything."""
        match self.fault.kind:
            case "driver":
                if driver.poll() is not None:
                    return False
                driver.kill()
            case "milvus":
                self._milvus.kill()
                time.sleep(2)
                self._milvus = self._start_milvus()
                self._proxy.target_port = self._milvus.port
            case "cut" | "videos":
                proxy = self._proxy if self.fault.kind == "cut" else self._videos
                assert proxy is not None
                proxy.cut()
                time.sleep(_CUT_S)
                proxy.mend()
                return proxy.num_harmed > 0
            case "raylet":
                assert self._cluster is not None
                os.kill(self._cluster.second_raylet, signal.SIGKILL)
                self._cluster.ask("add")
            case "disk":
                with suppress(OSError), (self.run_dir / "filler").open("wb") as file:
                    while True:
                        file.write(b"\0" * 1024)
                        file.flush()
        return True

    def _mount(self, folder: Path) -> None:
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", _TMPFS, "none", str(folder)], check=True)
        self._stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=False)


def _end_group(driver: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
