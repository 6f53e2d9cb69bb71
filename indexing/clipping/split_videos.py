"""Splits unlabelled videos into clips, windows of one length, shots or moments, and writes clips.parquet.

Every video is one line of `<out>.split.jsonl` as soon as it is cut, so that a run is resumable and a growing archive costs only
its new videos. A video that cannot be read is a line of `<out>.problems.txt`.
"""

import json
import os
from collections.abc import Container, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.progress import progress_bar
from cluster.storage import write_atomic, write_list
from encoders.clips import REPLAY_OF, Clip, write_clips
from encoders.files import parse_json
from encoders.media.container import MediaLimits
from indexing.clipping.cut_video import CutSettings, Cutter
from indexing.clipping.moments import Cut, MomentFinder
from indexing.sources.archive import is_table, list_archive
from indexing.sources.content import Content, FileStamp, read_contents
from indexing.sources.fetch_cache import FetchOptions
from indexing.sources.uris import is_remote, public_uri


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """Cut videos that nobody has labelled into clips. Resumable: rerun the same command after an interruption."""

    videos: str
    """A file, folder or glob of videos; local, s3://, gs://, abfs:// or http(s)://."""
    out: Path
    """The clips.parquet to write."""
    cut: CutSettings = field(default_factory=CutSettings)
    bundle: Path | None = None
    """The bundle whose moment head (`tfcovr moments`) finds the moments; for --by moments only."""
    num_workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Videos that are read at once."""
    decode_deadline_s: float = 120.0
    """A video of which nothing comes for so long is left out (decode_timeout)."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits of the media files; a video beyond one is left out and listed with it."""
    cache_dir: Path | None = None
    """Where remote videos are kept while they are read; None = a folder of this user in the system's temporary folder."""

    def __post_init__(self) -> None:
        for name in ("num_workers", "decode_deadline_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if (self.cut.by == "moments") != (self.bundle is not None):
            raise ValueError(
                f"by is {self.cut.by!r} and bundle is {self.bundle}; --by moments needs --bundle, and nothing else takes it"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSummary:
    """What a run made."""

    num_videos: int
    num_cut_now: int
    num_clips: int
    problems: Mapping[str, str]
    """Video -> why it has no clips."""


def split_videos(
    config: SplitConfig, *, console: Console | None = None, leave_out: Container[str] = ()
) -> SplitSummary:
    """Writes the clips of all videos but those whose URI is in `leave_out`.

    ValueError when there are no videos, or not one of them can be cut.
    """
    console = console or Console(quiet=True)
    finder = None if config.bundle is None else MomentFinder(config.bundle)
    archive = list_archive(config.videos)
    if is_table(config.videos):
        raise ValueError(f"{public_uri(config.videos)!r} has clips already; give videos")
    videos: dict[str, str] = {}
    for clip in archive.clips:  # the path of a link is that of its file
        if (first := videos.setdefault(clip.video_uri, clip.clip_id)) != clip.clip_id:
            console.print(f"{clip.clip_id} is {first} by another name, and is cut once")
    videos = {uri: name for uri, name in videos.items() if uri not in leave_out}
    if not videos:
        write_clips(config.out, [])
        return SplitSummary(num_videos=0, num_cut_now=0, num_clips=0, problems={})
    key = config.cut.key + ("" if finder is None else finder.key)
    ledger = _Ledger(config.out.with_suffix(".split.jsonl"), key)
    with console.status(f"reading the content of {len(videos)} videos"):
        contents = read_contents(
            videos, ledger.contents(), fetch_uris=archive.fetch_uris, stamps=archive.stamps
        )
    todo = [uri for uri in videos if not ledger.has(uri, contents[uri])]
    cutter = Cutter(
        config.cut,
        finder=finder,
        num_workers=config.num_workers,
        deadline_s=config.decode_deadline_s,
        fetch_uris=archive.fetch_uris,
        has_remote=any(map(is_remote, videos)),
        fetch=FetchOptions(cache_dir=config.cache_dir),
        limits=config.limits,
    )
    with cutter, ThreadPoolExecutor(config.num_workers) as pool:
        running = {pool.submit(cutter.cut, uri, contents[uri]): uri for uri in todo}
        try:
            with progress_bar("cutting", len(todo), console=console) as update:
                for number, done in enumerate(as_completed(running), start=1):
                    uri = running[done]
                    cut, problem = done.result()
                    ledger.add(uri, contents[uri], cut, problem)
                    update(number)
        finally:
            pool.shutdown(cancel_futures=True)
    clips = [
        clip for uri, name in sorted(videos.items()) for clip in _clips(name, uri, ledger.cut(uri))
    ]
    problems = {uri: problem for uri in sorted(videos) if (problem := ledger.problem(uri))}
    if not clips and not problems:
        raise ValueError(
            f"no moments in {len(videos)} videos; was the head trained on such videos?"
        )
    if not clips:
        uri, problem = next(iter(problems.items()))
        raise ValueError(f"none of {len(videos)} videos can be cut; {uri}: {problem}")
    write_clips(config.out, clips)
    lines = [f"{uri}: {problem}" for uri, problem in problems.items()]
    write_list(config.out.with_suffix(".problems.txt"), lines)
    return SplitSummary(
        num_videos=len(videos), num_cut_now=len(todo), num_clips=len(clips), problems=problems
    )


def _clips(name: str, uri: str, cut: Cut) -> list[Clip]:
    ids = [f"{name}@{start_s:.3f}-{end_s:.3f}" for start_s, end_s in cut.spans]
    return [
        Clip(
            clip_id=ids[number],
            video_uri=uri,
            start_s=round(start_s, 3),
            end_s=round(end_s, 3),
            attributes={REPLAY_OF: ids[cut.replay_of[number]]} if number in cut.replay_of else {},
        )
        for number, (start_s, end_s) in enumerate(cut.spans)
    ]


class _Ledger:
    """What is known of each video, by URI; one JSON line per video, the last one counts."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._lines: dict[str, dict[str, Any]] = {}
        whole, _, torn = (path.read_text() if path.exists() else "").rpartition("\n")
        for line in whole.splitlines():
            values = parse_json(line)
            self._lines[values["uri"]] = values
        if torn:  # by a kill
            write_atomic(path, whole + "\n" if whole else "")

    def contents(self) -> dict[str, Content]:
        return {
            uri: Content(content_hash=line["content_hash"], stamp=FileStamp(**line["stamp"]))
            for uri, line in self._lines.items()
            if line["stamp"]
        }

    def has(self, uri: str, content: Content) -> bool:
        """Whether this content was cut in this way. What could not be read is tried again."""
        line = self._lines.get(uri)
        is_same = line is not None and (line["key"], line["content_hash"]) == (
            self._key,
            content.content_hash,
        )
        return is_same and not self.problem(uri)

    def add(self, uri: str, content: Content, cut: Cut, problem: str) -> None:
        line: dict[str, Any] = {
            "uri": uri,
            "key": self._key,
            "content_hash": content.content_hash,
            "stamp": asdict(content.stamp) if content.stamp else None,
            "spans": [list(span) for span in cut.spans],
            "replay_of": sorted(cut.replay_of.items()),
            "problem": problem,
        }
        self._lines[uri] = line
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def cut(self, uri: str) -> Cut:
        line = self._lines[uri]
        spans = [(start_s, end_s) for start_s, end_s in line["spans"]]
        return Cut(spans=spans, replay_of=dict(line.get("replay_of", ())))

    def problem(self, uri: str) -> str:
        return self._lines[uri]["problem"]
