"""Which clips of the archive show the query clip, changed as the edit text says?"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from encoders.backends import open_backend
from encoders.card import read_card
from encoders.decode import DecodeError, DecodeRequest, Span
from encoders.isolate import IsolatedDecoder
from indexing.milvus import TO_THE_END, VideoSpan, open_collection
from indexing.plan import VIDEO_SUFFIXES

DECODE_DEADLINE_S = 60.0
_SPAN = re.compile(r"^(?P<file>.+)@(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPlace:
    """Where a clip is: `end_s` None = to the end of its video."""

    clip_id: str
    video_uri: str
    start_s: float
    end_s: float | None
    label: str | None = None
    split: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def span(self) -> str:
        """For people."""
        return f"{self.start_s:.2f}-{'end' if self.end_s is None else f'{self.end_s:.2f}'} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit(ClipPlace):
    """One answer; `score` is the cosine with the composed query."""

    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The query clip as it was understood (clip_id "" for a file), and the answers, best first."""

    query: ClipPlace
    edit_text: str
    hits: tuple[Hit, ...]
    backend_used: str


class SearchClient:
    """An open collection with the encoder that made it; refuses any other encoder."""

    def __init__(
        self,
        milvus_uri: str,
        collection: str,
        bundle_dir: str | Path,
        *,
        backend: Literal["onnx", "torch"] = "onnx",
    ) -> None:
        self._card = read_card(bundle_dir)
        self._stack = ExitStack()
        with ExitStack() as opening:
            self._collection = opening.enter_context(open_collection(milvus_uri, collection))
            self._collection.check(encoder_id=self._card.encoder_id)
            self._encoder = open_backend(bundle_dir, backend)
            self._decoder = opening.enter_context(IsolatedDecoder(deadline_s=DECODE_DEADLINE_S))
            self._stack = opening.pop_all()

    def __enter__(self) -> "SearchClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let Milvus go; a Milvus Lite folder can then be opened by another process."""
        self._stack.close()

    def search(self, *, clip: str, edit: str = "", limit: int = 10) -> SearchResult:
        """`clip` is a clip id of the archive, a video FILE or FILE@START-END in seconds.

        The query clip itself is no answer, nor what overlaps with the span of a file. Without an edit text: the clips most like the query clip.
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        place, vector_D = self._find(clip)
        if edit:
            vector_D = self._encoder.embed_queries(vector_D[None], [edit])[0]
        is_of_archive = bool(place.clip_id)
        span = VideoSpan(video_uri=place.video_uri, start_s=place.start_s, end_s=place.end_s)
        found = self._collection.nearest(
            vector_D,
            limit=limit,
            without_clip_id=place.clip_id,
            without_span=None if is_of_archive else span,
        )
        hits = [Hit(score=score, **asdict(_place_of_row(row))) for score, row in found]
        return SearchResult(
            query=place,
            edit_text=edit,
            hits=tuple(hits),
            backend_used=self._encoder.kind,
        )

    def _find(self, clip: str) -> tuple[ClipPlace, np.ndarray]:
        rows = self._collection.rows_of_clip(clip)
        if rows:
            return _place_of_row(rows[0]), np.asarray(rows[0]["embedding"], np.float32)
        place = parse_file(clip)
        if place is None:
            raise ValueError(
                f"clip {clip!r} is neither a clip id of collection {self._collection.name!r} "
                "nor a video file (FILE or FILE@START-END in seconds)"
            )
        span = Span(start_s=place.start_s, end_s=place.end_s)
        request = DecodeRequest(video=place.video_uri, spans=(span,), sampling=self._card.sampling)
        try:
            decoded = self._decoder.decode(request)
        except DecodeError as error:
            raise ValueError(f"{clip}: {error}") from error
        if decoded.errors[0] is not None:
            raise ValueError(f"{clip}: {decoded.errors[0]}")
        return place, self._encoder.embed_clips(decoded.frames_NTHWC)[0]


def parse_file(text: str) -> ClipPlace | None:
    """FILE, FILE@START-END or FILE@START-; None when there is no such file."""
    path, start_s, end_s = Path(text), 0.0, None
    matched = _SPAN.match(text)
    if not path.is_file() and matched:
        path = Path(matched["file"])
        start_s = float(matched["start"])
        end_s = None if matched["end"] is None else float(matched["end"])
        if end_s is not None and end_s <= start_s:
            raise ValueError(f"{text!r} ends at {end_s} s, which is not after {start_s} s")
    if not path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"there is no file {str(path)!r}")
        return None
    return ClipPlace(clip_id="", video_uri=str(path.resolve()), start_s=start_s, end_s=end_s)


def _place_of_row(row: Mapping[str, Any]) -> ClipPlace:
    return ClipPlace(
        clip_id=row["clip_id"],
        video_uri=row["video_uri"],
        start_s=row["start_s"],
        end_s=None if row["end_s"] == TO_THE_END else row["end_s"],
        label=row["label"] or None,
        split=row["split"] or None,
        attributes=dict(row["attributes"] or {}),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Ask an indexed archive: a clip and an edit text."""

    bundle_dir: Path
    """Bundle that indexed the archive, or one with the same encoder id."""
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    clip: str
    """A clip id of the archive, a video FILE, or FILE@START-END in seconds."""
    edit: str = ""
    """What should be different, such as "with 2.5 twists"; without it, the most similar clips."""
    limit: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """Number of answers."""
    collection: str = "clips"
    backend: Literal["onnx", "torch"] = "onnx"
    """What runs the encoder."""
    json: bool = False
    """Print JSON instead of a table."""
    sheet: Path | None = None
    """Draw query and answers as film strips into this PNG."""


_EXAMPLES = """examples:
  tfcovr search --bundle-dir runs/demo/stage2/bundle --milvus-uri runs/demo/milvus \\
      --clip dive-000017 --edit 'with 2.5 twists' -k 10 --sheet answers.png
  tfcovr search ... --clip new_video.mp4@12.0-15.5 --edit 'in tuck position' --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the answers."""
    config = tyro.cli(
        SearchConfig,
        args=argv,
        prog="tfcovr search",
        description=f"{SearchConfig.__doc__}\n\n{_EXAMPLES}",
    )
    with SearchClient(
        config.milvus_uri, config.collection, config.bundle_dir, backend=config.backend
    ) as client:
        result = client.search(clip=config.clip, edit=config.edit, limit=config.limit)
    if config.sheet is not None:
        from indexing.sheet import draw_sheet  # decodes and draws; only when it is asked for

        draw_sheet(result, config.sheet)
    if config.json:
        sys.stdout.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        return 0
    Console().print(_table(result))
    if config.sheet is not None:
        sys.stdout.write(f"film strips: {config.sheet}\n")
    return 0


def _table(result: SearchResult) -> Table:
    query = result.query
    name = query.clip_id or query.video_uri
    title = f"{name} ({query.label or 'no label'}, {query.span()})"
    table = Table(title=f"{title}: {result.edit_text or 'most similar'} [{result.backend_used}]")
    for heading in ("", "score", "clip", "label", "span", "file"):
        table.add_column(heading, justify="right" if heading in ("", "score") else "left")
    for rank, hit in enumerate(result.hits, start=1):
        cells = (hit.clip_id, hit.label or "", hit.span(), hit.video_uri)
        table.add_row(str(rank), f"{hit.score:.4f}", *cells)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
