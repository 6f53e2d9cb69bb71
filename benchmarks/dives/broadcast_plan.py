"""What happens when in a long video, known without rendering: pauses, dives and, in a raw broadcast, replays between wipes."""

from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.dives.archive import ArchiveConfig
from benchmarks.dives.motion.execution import FPS, Execution, draw_execution
from benchmarks.dives.random_streams import open_stream

Range = tuple[float, float]
_WIPE_FRAMES = (7, 13)
_MAX_TAIL_S = 1.0
_NO_LEAD_SHARE = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class RawConfig:
    """What makes a broadcast raw: divers who wait, cutaways, captions drawn in, and replays from another camera in slow motion."""

    speed: Range = (0.9, 1.1)
    """How fast dives are shown; 1 = as in an archive of clips."""
    replay_share: float = 0.4
    """Share of the dives that are shown again."""
    replay_speed: Range = (0.45, 0.65)
    """Of the speed of the dive."""

    def __post_init__(self) -> None:
        if not 0 <= self.replay_share <= 1:
            raise ValueError(f"replay_share is {self.replay_share}; it must be 0 to 1")
        for name in ("speed", "replay_speed"):
            low, high = getattr(self, name)
            if not 0.1 <= low <= high <= 4:
                raise ValueError(f"{name} is {(low, high)}; give 0.1 <= slowest <= fastest <= 4")


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastConfig:
    """How many long videos, and how much happens in them; look and classes are the archive's."""

    archive: ArchiveConfig
    """clips_per_class is not used here."""
    num_broadcasts: int = 1
    """Per split."""
    num_dives: int = 20
    """Per broadcast."""
    dead_time_s: Range = (1.0, 6.0)
    """Shortest and longest pause before a dive."""
    raw: RawConfig | None = None
    """None = an empty pool between the dives, and nothing else."""

    def __post_init__(self) -> None:
        if self.num_broadcasts < 1 or self.num_dives < 1:
            raise ValueError(
                f"num_broadcasts is {self.num_broadcasts} and num_dives {self.num_dives}; "
                "both must be at least 1"
            )
        shortest, longest = self.dead_time_s
        if not 0 < shortest <= longest:
            raise ValueError(f"dead_time_s is {self.dead_time_s}; give 0 < shortest <= longest")


@dataclass(frozen=True, kw_only=True, slots=True)
class Showing:
    """One time that a dive is seen, live or again; frames of the video."""

    first_frame: int
    end_frame: int
    speed: float
    camera: int
    """Which index draws the camera."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedDive:
    """One dive of a broadcast and the dead time before it."""

    label: str
    index: int
    live: Showing
    pause_frames: int
    lead_frames: int = 0
    """Last frames of the pause, in which the diver waits."""
    tail_frames: int = 0
    """Frames of the emptied pool before the picture cuts away."""
    wipe_frames: int = 0
    """Of each wipe before and after the replay."""
    replay: Showing | None = None
    details: int = field(default=0, repr=False)
    """Seed of captions and cutaways."""

    @property
    def end_frame(self) -> int:
        """Where the dead time before the next dive begins."""
        if self.replay is None:
            return self.live.end_frame + self.tail_frames
        return self.replay.end_frame + self.wipe_frames


def plan_broadcast(config: BroadcastConfig, split: str, number: int) -> list[PlannedDive]:
    """All dives of one broadcast, in order."""
    seed = config.archive.seed
    rng = open_stream(seed=seed, split=split, index=number, purpose="broadcast")
    raw_rng = open_stream(seed=seed, split=split, index=number, purpose="television")
    dives: list[PlannedDive] = []
    frame = 0
    for _ in range(config.num_dives):
        label = config.archive.classes[int(rng.integers(len(config.archive.classes)))]
        pause = round(float(rng.uniform(*config.dead_time_s)) * FPS) or 1
        index = int(rng.integers(1 << 48))
        speed = 1.0 if config.raw is None else float(raw_rng.uniform(*config.raw.speed))
        first = frame + pause
        length = execution_of(seed, split, index, speed).num_frames
        live = Showing(first_frame=first, end_frame=first + length, speed=speed, camera=index)
        dive = PlannedDive(label=label, index=index, live=live, pause_frames=pause)
        if config.raw is not None:
            dive = _made_raw(dive, config.raw, raw_rng, seed=seed, split=split)
        dives.append(dive)
        frame = dive.end_frame
    return dives


def execution_of(seed: int, split: str, index: int, speed: float) -> Execution:
    """The performance of a dive at a speed; the motion itself is the same at every speed."""
    execution = draw_execution(
        open_stream(seed=seed, split=split, index=index, purpose="execution")
    )
    if speed == 1:
        return execution
    return replace(
        execution,
        frames_before=max(2, round(execution.frames_before / speed)),
        frames_flight=max(8, round(execution.frames_flight / speed)),
        frames_after=max(2, round(execution.frames_after / speed)),
    )


def _made_raw(
    dive: PlannedDive, raw: RawConfig, rng: np.random.Generator, *, seed: int, split: str
) -> PlannedDive:
    waits = rng.random() > _NO_LEAD_SHARE
    lead = int(dive.pause_frames * rng.uniform(0.2, 0.9)) if waits else 0
    tail = int(rng.uniform(0, _MAX_TAIL_S) * FPS)
    wipe = int(rng.integers(*_WIPE_FRAMES))
    is_shown_again = rng.random() < raw.replay_share
    speed = dive.live.speed * float(rng.uniform(*raw.replay_speed))
    replay = None
    if is_shown_again:
        first = dive.live.end_frame + tail + wipe
        length = execution_of(seed, split, dive.index, speed).num_frames
        replay = Showing(
            first_frame=first,
            end_frame=first + length,
            speed=speed,
            camera=dive.index + 1,
        )
    return replace(
        dive,
        lead_frames=lead,
        tail_frames=tail,
        wipe_frames=wipe,
        replay=replay,
        details=int(rng.integers(1 << 32)),
    )
