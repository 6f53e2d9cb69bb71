"""Histories of a watched folder against a model: files come, grow, move, are cut, replaced and deleted, and the watch is killed.

Files are boxes of an MP4 with made-up samples, and the encoder is a hash of their bytes; all else is what `tfcovr watch` runs: the
place, the ledger and Milvus Lite. A kill ends all calls of the watch before or after one of its writes, and another watch of the
same folders takes over. The model is the folder itself: when all is quiet, each whole file has one row, with the vector of its bytes,
and nothing else has one.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from encoders.media.container import path_of, sniff_container
from encoders.media.errors import DecodeError
from encoders.stages.base import NO_ERROR, clip_rows_of, error_columns
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.dead_letters import read_dead_letters
from indexing.ledger.ledger import Ledger
from indexing.sources.watching.config import WatchRules
from indexing.sources.watching.follower import Follower, Update
from indexing.sources.watching.places import LIST_AGAIN, Folder
from indexing.sources.watching.watcher import Watch
from indexing.store.collection import ClipCollection, open_collection

_DIM = 8
_NAMES = ("a.mp4", "b.mp4", "sub/c.mp4", "sub/d.mp4", "other/e.mp4")
_RULES = WatchRules(settle_s=2.0, patience_s=60.0, max_delete_share=1.0)
_TICK_S = 0.01
"""Longer than the clock of a file system stands still."""
names = st.sampled_from(_NAMES)
seeds = st.integers(0, 5)


class Killed(BaseException):
    """The watch ends here."""


class Fuse:
    """Ends the watch before or after one of its next writes."""

    def __init__(self) -> None:
        self.left: int | None = None

    def burn(self) -> None:
        """Killed when the count has run out."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed


def fused(call: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
    """The call, with a place to be killed before it and one after it."""

    def burning(*arguments: Any, **options: Any) -> Any:
        fuse.burn()
        result = call(*arguments, **options)
        fuse.burn()
        return result

    return burning


def video_bytes(seed: int, num_boxes: int = 1) -> bytes:
    """A container that is whole; those of different seeds have the same size."""
    samples = hashlib.blake2b(bytes([seed]), digest_size=64).digest() * 2
    head = (16).to_bytes(4, "big") + b"ftypisom\0\0\2\0"
    return head + ((8 + len(samples)).to_bytes(4, "big") + b"mdat" + samples) * num_boxes


def vector_of(content: bytes) -> np.ndarray:
    """A unit vector [8] that stands for the content."""
    numbers = np.frombuffer(hashlib.blake2b(content, digest_size=_DIM).digest(), np.uint8)
    vector_D = numbers.astype(np.float32) + 1
    return vector_D / np.linalg.norm(vector_D)


class History(RuleBasedStateMachine):
    """One history; `problems` are raised, or kept where `keeps` says so."""

    milvus: ClassVar[str] = ""
    keeps: ClassVar[bool] = False
    num_run: ClassVar[int] = 0
    wrong: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        History.num_run += 1
        self.root = Path(tempfile.mkdtemp(prefix="history-"))
        self.base, self.run_dir = self.root / "videos", self.root / "run"
        self.base.mkdir()
        self.fuse, self.clock_s = Fuse(), 0.0
        self.stack = ExitStack()
        name = f"history_{os.getpid()}_{History.num_run}"
        self.collection = self.stack.enter_context(open_collection(self.milvus, name))
        self.collection.create_or_check(encoder_id="e", embedding_dim=_DIM)
        self.meanwhile: dict[str, bytes] = {}
        self.untold: list[str] = []
        self.writer: IO[bytes] | None = None
        self.is_told = True
        self.watch: Watch | None = None

    @initialize(is_told=st.booleans())
    def begin(self, is_told: bool) -> None:
        """A folder that tells its changes, or one that is listed."""
        self.is_told = is_told

    # The watch.

    def opened(self) -> Watch:
        """The watch that runs, or another one after a kill."""
        if self.watch is None:
            ledger, collection = Ledger(self.run_dir), self.fused_collection()
            for name in ("record", "keep_contents", "forget"):
                setattr(ledger, name, fused(getattr(ledger, name), self.fuse))
            follower = Follower(
                collection,
                ledger,
                encoder_id="e",
                archive=ArchiveRows(),
                encode=fused(self.encode, self.fuse),
            )
            place = Folder(self.base, poll_s=1.0)
            self.watch = Watch(place, follower, _RULES, now=lambda: self.clock_s)
            self.watch.start()
        return self.watch

    def fused_collection(self) -> ClipCollection:
        """The collection over a connection of its own."""
        collection = ClipCollection(self.collection.address, self.collection.name)
        self.stack.callback(collection.close)
        for name in ("upsert", "delete"):
            setattr(collection, name, fused(getattr(collection, name), self.fuse))
        return collection

    def encode(self, shards: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """What ArchiveVectorStage gives, of a hash; what was to happen meanwhile happens first."""
        self.happen_meanwhile()
        for shard in shards:
            content, error = b"", None
            try:
                with path_of(shard["video_uri"]).open("rb") as file:
                    content = file.read()
                    if sniff_container(file)[1]:
                        raise DecodeError("corrupt_container", "it is cut")
            except OSError as gone:
                error = DecodeError("fetch_failed", str(gone))
            except DecodeError as cut:
                error = cut
            for number, row in enumerate(clip_rows_of(shard)):
                failed = error and error_columns(error, "none", 0.0, stage="decode")
                yield row | {
                    "labels": shard["labels"][number],
                    "error": failed["error"] if failed else NO_ERROR,
                    "embedding": np.zeros(_DIM, np.float32) if error else vector_of(content),
                    "vector_length": 1.0,
                    "embed_backend": "hash",
                    "embed_precision": "float32",
                }

    def guarded(self, act: Callable[[], object]) -> None:
        """Run; a kill leaves no watch."""
        try:
            act()
        except Killed:
            self.watch = None

    def pass_time(self, seconds: float) -> None:
        """What the loop of a watch does in this time."""
        self.clock_s += seconds

        def loop() -> None:
            watch = self.opened()
            if not self.is_told:
                watch.note({LIST_AGAIN})
            while watch.step() != Update():
                watch.note(self.untold if self.is_told else ())
                self.untold = []

        self.guarded(loop)

    def tell(self, *changed: str) -> None:
        """What the kernel says of these names, to a watch that runs."""
        time.sleep(_TICK_S)
        if self.is_told and self.watch is not None:
            watch = self.watch
            self.guarded(lambda: watch.note(changed))

    def happen_meanwhile(self) -> list[str]:
        """Write what was to be written while the encoder runs; the names."""
        written, self.meanwhile = self.meanwhile, {}
        for name, content in written.items():
            self.path(name).write_bytes(content)
        self.untold += written
        return list(written)

    def path(self, name: str) -> Path:
        """Of a file, whose folder is there afterwards."""
        path = self.base / name
        path.parent.mkdir(exist_ok=True)
        return path

    def write(self, name: str, content: bytes) -> None:
        """In place."""
        self.path(name).write_bytes(content)
        self.tell(name)

    # What happens to files.

    @rule(name=names, seed=seeds, num_boxes=st.integers(1, 2))
    def create(self, name: str, seed: int, num_boxes: int) -> None:
        self.write(name, video_bytes(seed, num_boxes))

    @rule(name=names, seed=seeds, share=st.sampled_from((0.0, 0.3, 0.9)))
    def copy_half(self, name: str, seed: int, share: float) -> None:
        content = video_bytes(seed)
        self.write(name, content[: int(share * len(content))])

    @precondition(lambda self: self.writer is None)
    @rule(name=names, seed=seeds)
    def begin_writing(self, name: str, seed: int) -> None:
        self.writer = self.path(name).open("wb")
        self.writer.write(video_bytes(seed))
        self.writer.flush()
        self.tell(name)

    @precondition(lambda self: self.writer is not None)
    @rule(seed=seeds)
    def end_writing(self, seed: int) -> None:
        assert self.writer is not None
        self.writer.write(video_bytes(seed)[16:])
        self.writer.close()
        where = str(Path(self.writer.name).relative_to(self.base))
        self.writer = None
        self.tell(where)

    @rule(name=names, seed=seeds, num_bytes=st.sampled_from((20, 136)))
    def append(self, name: str, seed: int, num_bytes: int) -> None:
        """A whole box, or the beginning of one."""
        if self.path(name).exists():
            with self.path(name).open("ab") as file:
                file.write(video_bytes(seed)[16 : 16 + num_bytes])
            self.tell(name)

    @rule(name=names, new=names)
    def rename(self, name: str, new: str) -> None:
        if self.path(name).exists() and name != new:
            self.path(name).rename(self.path(new))
            self.tell(name, new)

    @rule(new=st.sampled_from(("other", "new")))
    def rename_folder(self, new: str) -> None:
        if (self.base / "sub").exists() and not (self.base / new).exists():
            (self.base / "sub").rename(self.base / new)
            moved = [f"{new}/{path.name}" for path in (self.base / new).iterdir()]
            self.tell("sub/", *moved)

    @rule(name=names, share=st.sampled_from((0.0, 0.5, 0.95)))
    def truncate(self, name: str, share: float) -> None:
        if self.path(name).exists():
            os.truncate(self.path(name), int(share * self.path(name).stat().st_size))
            self.tell(name)

    @rule(name=names, seed=seeds, in_place=st.booleans())
    def replace_with_the_same_time(self, name: str, seed: int, in_place: bool) -> None:
        path = self.path(name)
        if not path.exists():
            return
        status = path.stat()
        num_boxes = max((status.st_size - 16) // 136, 1)
        target = path if in_place else path.with_suffix(".part")
        target.write_bytes(video_bytes(seed, num_boxes))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        target.rename(path)
        self.tell(name)

    @rule(name=names)
    def delete(self, name: str) -> None:
        if self.path(name).exists():
            self.path(name).unlink()
            self.tell(name)

    @rule(name=names, seed=seeds)
    def replace_while_it_is_encoded(self, name: str, seed: int) -> None:
        self.meanwhile[name] = video_bytes(seed)

    # What happens to the watch.

    @rule(seconds=st.sampled_from((0.5, 2.5, 20.0, 70.0)))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(num_writes=st.integers(0, 12))
    def kill_at_a_write(self, num_writes: int) -> None:
        self.fuse.left = num_writes

    @rule()
    def kill(self) -> None:
        self.watch = None

    @rule()
    def check(self) -> None:
        """All is quiet: what is in the collection is what is in the folder."""
        self.fuse.left = None
        self.tell(*self.happen_meanwhile())
        if self.writer is not None:
            self.end_writing(0)
        for _ in range(12):
            self.pass_time(2.5)
            if self.opened().is_idle:
                break
            self.pass_time(_RULES.patience_s)
        if problems := self.problems():
            History.wrong.append("; ".join(problems))
            if not self.keeps:
                raise AssertionError(History.wrong[-1])

    def problems(self) -> list[str]:
        """What is lost, doubled or stale."""
        expected: dict[str, np.ndarray] = {}
        cut = set()
        for path in self.base.rglob("*.mp4"):
            name = str(path.relative_to(self.base))
            with path.open("rb") as file:
                try:
                    is_whole = not sniff_container(file)[1]
                except DecodeError:
                    is_whole = False
            if is_whole:
                expected[name] = vector_of(path.read_bytes())
            else:
                cut.add(name)
        rows = list(self.collection.rows(("clip_key", "clip_id", "video_uri", "embedding")))
        stored = [row["clip_id"] for row in rows]
        problems = [f"lost: {name}" for name in expected.keys() - set(stored)]
        problems += [f"stale: {name}" for name in set(stored) - expected.keys()]
        problems += [f"doubled: {name}" for name in set(stored) if stored.count(name) > 1]
        problems += [
            f"another content: {row['clip_id']}"
            for row in rows
            if row["clip_id"] in expected
            and not np.allclose(row["embedding"], expected[row["clip_id"]], atol=1e-6)
        ]
        letters = {letter.clip_id for letter in read_dead_letters(self.run_dir)}
        if letters != cut:
            problems.append(f"dead letters {sorted(letters)}, cut files {sorted(cut)}")
        return problems

    def teardown(self) -> None:
        """Every history ends with a check."""
        try:
            self.check()
        finally:
            if self.writer is not None:
                self.writer.close()
            with suppress(OSError):
                self.collection.drop()
            self.stack.close()
            shutil.rmtree(self.root, ignore_errors=True)


def run_histories(num_histories: int, milvus: str, *, keeps: bool, num_steps: int = 25) -> None:
    """The same ones each time; AssertionError for the first wrong one, in its smallest form, or with `keeps` all in History.wrong."""
    History.milvus, History.keeps, History.num_run, History.wrong = milvus, keeps, 0, []
    phases = (Phase.generate,) if keeps else (Phase.generate, Phase.shrink)
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=num_histories,
            stateful_step_count=num_steps,
            derandomize=True,
            database=None,
            deadline=None,
            phases=phases,
            suppress_health_check=(HealthCheck.too_slow,),  # as all is on a busy machine
        ),
    )
