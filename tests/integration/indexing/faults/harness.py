"""One seeded fault in one indexing run: what is killed, cut or filled, and when, follows from the seed alone."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from places import MilvusProcess, Proxy, RayCluster
from small_videos import write_video

from encoders.card import read_card
from encoders.clips import Clip, write_clips
from indexing.milvus import open_collection
from indexing.verify import VerifyConfig, faults, verify_archive

KINDS = ("driver", "worker", "milvus", "cut", "raylet", "disk")
NUM_VIDEOS, CLIPS_PER_VIDEO = 16, 4
_CHILD = "isolate_child"
_NUM_CLIPS = NUM_VIDEOS * CLIPS_PER_VIDEO
_RUN_LIMIT_S = 300.0
_CUT_S = 20.0
_TMPFS = "size=300k"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """`after` ledger lines the fault strikes; -1 = while the workers start."""

    seed: int
    kind: str
    after: int
    shares_device: bool
    """Whether the workers that decode are those that encode."""
    victim: str
    """What is killed, of kind worker: a stage's worker, or the process in which a worker decodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultResult:
    """What a rerun could not mend is in lost, doubled and wrong."""

    fault: Fault
    num_runs: int
    struck: bool
    is_hung: bool
    lost: int
    doubled: int
    stale: int
    wrong_vectors: int

    @property
    def is_right(self) -> bool:
        return not (self.is_hung or self.lost or self.doubled or self.stale or self.wrong_vectors)


def fault_of_seed(seed: int) -> Fault:
    """Each kind in turn; time and victim at random."""
    draw = random.Random(seed)
    after = draw.choice((-1, 1, _NUM_CLIPS // 4, _NUM_CLIPS // 2))
    shares_device = draw.random() < 0.7
    stages = ("decode_embed", "write") if shares_device else ("decode", "embed", "write")
    return Fault(
        seed=seed,
        kind=KINDS[seed % len(KINDS)],
        after=after,
        shares_device=shares_device,
        victim=draw.choice((*stages, _CHILD)),
    )


def write_archive(folder: Path) -> Path:
    """Sixteen videos of four clips."""
    folder.mkdir()
    clips = []
    for number in range(NUM_VIDEOS):
        path = write_video(folder / f"{number:02d}.mp4", number, num_frames=6 * CLIPS_PER_VIDEO)
        clips += [
            Clip(
                clip_id=f"{number:02d}-{i}",
                video_uri=str(path),
                start_s=i * 0.24,
                end_s=(i + 1) * 0.24,
            )
            for i in range(CLIPS_PER_VIDEO)
        ]
    write_clips(folder / "clips.parquet", clips)
    return folder / "clips.parquet"


def run_fault(
    fault: Fault, folder: Path, *, bundle_dir: Path, clips: Path, expected: dict[str, np.ndarray]
) -> FaultResult:
    """Index with the fault, index again until a run ends well (at most three more), then verify."""
    with ExitStack() as stack:
        trial = _Trial(fault, folder, stack, bundle_dir=bundle_dir, clips=clips)
        struck, is_hung, num_runs = trial.first_run()
        while not is_hung and trial.last_status != 0 and num_runs < 4:
            is_hung = not trial.run_to_the_end()
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
    found = verify_archive(
        VerifyConfig(
            bundle_dir=trial.bundle_dir,
            clips=str(trial.clips),
            milvus_uri=trial.uri,
            run_dir=trial.run_dir,
        )
    )
    counts = {kind: len(names) for kind, names in faults(found).items()}
    with open_collection(trial.uri, "clips") as collection:
        collection.check(encoder_id=read_card(trial.bundle_dir).encoder_id)
        rows = list(collection.rows(("clip_key", "embedding")))
    wrong = sum(
        row["clip_key"] not in expected
        or bool(np.abs(np.asarray(row["embedding"]) - expected[row["clip_key"]]).max() > 1e-5)
        for row in rows
    )
    return FaultResult(
        fault=fault,
        num_runs=num_runs,
        struck=struck,
        is_hung=is_hung,
        lost=counts["missing"] + len(found.dead) + len(found.unreadable),
        doubled=counts["duplicate"] + len(rows) - len({row["clip_key"] for row in rows}),
        stale=counts["stale"] + counts["orphaned"],
        wrong_vectors=wrong,
    )


class _Trial:
    last_status: int | None = None

    def __init__(
        self, fault: Fault, folder: Path, stack: ExitStack, *, bundle_dir: Path, clips: Path
    ) -> None:
        self.fault, self.bundle_dir, self.clips = fault, bundle_dir, clips
        self._folder, self._stack = folder, stack
        self._log = folder / "log"
        self.run_dir = folder / "run"
        if fault.kind == "disk":
            self._mount(self.run_dir)
        self._milvus = MilvusProcess(folder / "milvus", self._log)
        stack.callback(lambda: self._milvus.close())
        self._proxy = Proxy(self._milvus.port)
        stack.callback(self._proxy.close)
        self.uri = f"http://127.0.0.1:{self._proxy.port}"
        self._cluster = RayCluster(self._log) if fault.kind == "raylet" else None
        if self._cluster is not None:
            stack.callback(self._cluster.close)

    def first_run(self) -> tuple[bool, bool, int]:
        """(did the fault strike, did the run hang, runs so far)."""
        driver = self._start()
        struck = self._wait_for_moment(driver)
        if struck:
            self._strike(driver)
        ended = self._wait(driver)
        if self.fault.kind == "disk":
            (self.run_dir / "filler").unlink(missing_ok=True)
        return struck, not ended, 1

    def run_to_the_end(self) -> bool:
        return self._wait(self._start())

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "indexing.pipeline", "--bundle-dir", str(self.bundle_dir)]
        command += ["--clips", str(self.clips), "--milvus-uri", self.uri, "--batch-size", "2"]
        command += ["--run-dir", str(self.run_dir)]
        command += ["--workers.share-device", "on" if self.fault.shares_device else "off"]
        environment = dict(os.environ)
        environment.pop("RAY_ADDRESS", None)
        if self._cluster is not None:
            environment["RAY_ADDRESS"] = self._cluster.address
        with self._log.open("ab") as log:
            driver = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        self._stack.callback(_end_group, driver)
        return driver

    def _wait(self, driver: subprocess.Popen) -> bool:
        try:
            self.last_status = driver.wait(_RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _wait_for_moment(self, driver: subprocess.Popen) -> bool:
        """False when the run ended before the fault could strike."""
        give_up = time.monotonic() + _RUN_LIMIT_S
        while driver.poll() is None and time.monotonic() < give_up:
            if self.fault.after < 0:
                is_late = bool(self._processes(driver, "_Step_decode"))
            else:
                is_late = self._num_recorded() >= self.fault.after
            if is_late and (self.fault.kind != "worker" or self._victims(driver)):
                return True
            time.sleep(0.01)
        return False

    def _victims(self, driver: subprocess.Popen) -> list[psutil.Process]:
        victim = self.fault.victim
        return self._processes(driver, victim if victim == _CHILD else f"_Step_{victim})")

    def _num_recorded(self) -> int:
        path = self.run_dir / "ledger" / "outcomes.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

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

    def _strike(self, driver: subprocess.Popen) -> None:
        match self.fault.kind:
            case "driver":
                driver.kill()
            case "worker":
                for one in self._victims(driver)[:1]:
                    one.kill()
            case "milvus":
                self._milvus.kill()
                time.sleep(2)
                self._milvus = MilvusProcess(self._folder / "milvus", self._log)
                self._proxy.target_port = self._milvus.port
            case "cut":
                self._proxy.cut()
                time.sleep(_CUT_S)
                self._proxy.mend()
            case "raylet":
                assert self._cluster is not None
                os.kill(self._cluster.second_raylet, signal.SIGKILL)
                self._cluster.ask("add")
            case "disk":
                with suppress(OSError), (self.run_dir / "filler").open("wb") as file:
                    while True:
                        file.write(b"\0" * 1024)
                        file.flush()

    def _mount(self, folder: Path) -> None:
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", _TMPFS, "none", str(folder)], check=True)
        self._stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=False)


def _end_group(driver: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
