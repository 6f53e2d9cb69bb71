"""tfcovr search: a composed query from the command line, its answers as a table, JSON or film strips."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from encoders.media.container import MediaLimits
from indexing.archive_folder import ArchiveOptions

if TYPE_CHECKING:
    from rich.console import Console

    from indexing.archive_folder import Archive
    from indexing.search.client import SearchClient
    from indexing.search.types import SearchResult


EXAMPLES = """
  tfcovr search runs/mine "with 2.5 twists" --clip CLIP_ID
  tfcovr search --bundle runs/demo/stage2/bundle --milvus-uri runs/demo/milvus \\
      --clip dive-000017 --edit 'with 2.5 twists' --limit 10 --sheet answers.png
  tfcovr search ... --clip new_video.mp4@12.0-15.5 --edit 'in tuck position' --json
  tfcovr search ... --clip dive-000017 --edit 'with one more twist' --exclude pike \\
      --filter split=test --filter duration_s=1..6
  tfcovr search ... --clip dive-000017 --edit 'with 2.5 twists' --export reel.fcpxml --export reel.edl
  tfcovr search ... --clip dive-000017 --edit 'with one more twist' --source position=pike
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ArchiveOptions):
    """Ask an indexed archive: a clip and an edit text."""

    text: tyro.conf.Positional[str] = ""
    """An edit text, as --edit."""
    clip: str = ""
    """A clip id of the archive, a video FILE, or FILE@START-END; none = by text alone. Times are seconds, MM:SS, HH:MM:SS.mmm or frames,
    HH:MM:SS:FF (HH:MM:SS;FF where frames are dropped)."""
    edit: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What should be different, such as "with 2.5 twists"; several are applied one after the other; none = the most similar clips."""
    keep: str = ""
    """An attribute of the query clip ("position") or a text that answers should show."""
    exclude: str = ""
    """A text that answers should not show."""
    source: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUE: an attribute of the query clip, such as position=pike, in place of what the encoder reads; may be repeated."""
    strength: float = 1.0
    """0 = the clip alone, 1 = the edit as trained, 2 = twice as far."""
    filter: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUE or NAME=LOW..HIGH, such as split=test or duration_s=1..6. Repeat it for several filters, or for several values of one,
    which may also be a JSON list: label=["107b", "5152b"]."""
    limit: int = 10
    """Number of answers."""
    exact: bool = False
    """Compare with every vector, whatever index the collection has."""
    group_by_video: bool = False
    """At most one answer per video."""
    group_above: float = 1.0
    """Clips with a cosine above this are one answer."""
    backend: Literal["onnx", "torch"] = "onnx"
    """What runs the encoder."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits of a query clip that is a file."""
    json: bool = False
    """Print JSON instead of a table."""
    sheet: Path | None = None
    """Draw query and answers as film strips into this PNG."""
    export: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Also write the answers as a list of cuts for an editing program, in the format that the name says: .otio, .edl, .fcpxml, .xml
    (Premiere), .vtt, .llc (LosslessCut) or .json (OSL); may be repeated."""
    reel: Path | None = None
    """Also write the answers as one MP4, one after the other, without sound."""
    save: Path | None = None
    """Also put the answers into this basket file, for `tfcovr basket`."""


def parse_filters(texts: Sequence[str]) -> dict[str, Any]:
    """`split=test`, `label=["a", "b"]`, `duration_s=1..6` as SearchClient takes them; a name that is repeated has several values."""
    from indexing.search.filters import parse_filter

    filters: dict[str, Any] = {}
    for name, value in map(parse_filter, texts):
        if name not in filters:
            filters[name] = value
            continue
        values = [filters[name], value]
        if any(isinstance(given, tuple | int | float) for given in values):
            raise ValueError(f"filter {name!r} is given twice; a range or number may be given once")
        filters[name] = [
            text for given in values for text in (given if isinstance(given, list) else [given])
        ]
    return filters


def parse_source(texts: Sequence[str]) -> dict[str, str]:
    """`position=pike` as SearchClient takes it; ValueError names what is not NAME=VALUE."""
    source = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise ValueError(f"source is {text!r}; it must be NAME=VALUE, such as position=pike")
        source[name] = value
    return source


def open_client(
    archive: "Archive",
    *,
    backend: Literal["onnx", "torch"] = "onnx",
    limits: MediaLimits | None = None,
) -> "SearchClient":
    """A client, imported only here."""
    from indexing.search.client import SearchClient, SearchOptions

    options = SearchOptions(
        backend=backend, limits=limits or MediaLimits(), moved_videos=archive.moved_videos
    )
    return SearchClient(archive.milvus_uri, archive.collection, archive.bundle, options=options)


def print_answers(console: "Console", result: "SearchResult") -> None:
    """A table without the columns that say nothing, then the file of each answer on a line of its own, which can be copied whole."""
    from rich.text import Text

    from cluster.tables import text_table

    query = result.query
    name = query.clip_id or query.video_uri or "any clip"
    title = f"{name} ({query.label or 'no label'}, {query.span()})"
    reason = result.mismatch_text()
    nearest = "; the nearest are:" if result.hits else ""
    doubt = f"\nnothing in the archive matches ({reason}){nearest}" if reason else ""
    rows = []
    for rank, hit in enumerate(result.hits, start=1):
        changes = "\n".join(
            f"{change.text()}: {change.verdict}"
            for change in hit.predicted
            if change.verdict != "kept"
        )
        likely = "" if hit.probability is None else f"{100 * hit.probability:.0f} %"
        score = f"{hit.score:.4f}"
        rows.append((str(rank), score, likely, hit.clip_id, hit.label or "", changes, hit.span()))
    headings = ("", "score", "likely", "clip", "label", "changes", "span")
    told = [number for number in range(len(headings)) if not rows or any(row[number] for row in rows)]  # fmt: skip
    table = text_table(
        [headings[number] for number in told],
        [[row[number] for number in told] for row in rows],
        title=f"{title}: {result.edit_text or 'most similar'} [{result.backend_used}]{doubt}",
        right=("", "score", "likely"),
        # A clip id is the next query and has to be there whole.
        whole=("", "score", "likely", "clip", "label", "span"),
    )
    console.print(table)
    for rank, hit in enumerate(result.hits, start=1):
        if hit.video_uri:
            console.print(Text(f"{rank:>4}  {hit.video_uri}"), soft_wrap=True)


def run(config: Config) -> int:
    """Print the answers."""
    if config.export:
        from indexing.handoff.export import require_format

        for path in config.export:
            require_format(path)
    if config.reel is not None:
        from indexing.handoff.reel import require_reel

        require_reel(config.reel)
    basket = None
    if config.save is not None:
        from indexing.handoff.basket import Basket

        basket = Basket(config.save)
    how: dict[str, Any] = {
        name: getattr(config, name)
        for name in (
            "keep", "exclude", "strength", "limit", "exact", "group_by_video", "group_above",
        )
    }  # fmt: skip
    how["source"] = parse_source(config.source)
    with open_client(config.located(), backend=config.backend, limits=config.limits) as client:
        filters = parse_filters(config.filter)
        edits = (*((config.text,) if config.text else ()), *config.edit)
        result = client.search(clip=config.clip, edit=edits, filters=filters, **how)
    if config.json:
        sys.stdout.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        print_answers(Console(), result)
    written = []
    if basket is not None:
        num_new = basket.save(result.hits, note=result.edit_text)
        written.append(f"basket: {config.save} ({num_new} new, {len(basket)} spans)")
    written += _hand_off(config, result)
    if not config.json:
        sys.stdout.write("".join(f"{line}\n" for line in written))
    return 0


def _hand_off(config: Config, result: "SearchResult") -> list[str]:
    """Write what was asked for beside the answers; a line for each."""
    written = []
    if config.sheet is not None:
        from indexing.search.film_strip import draw_film_strips

        draw_film_strips(result, config.sheet)
        written.append(f"film strips: {config.sheet}")
    if not config.export and config.reel is None:
        return written
    from indexing.handoff.cuts import picks_of_result
    from indexing.handoff.export import export_picks
    from indexing.handoff.reel import SOUND_NOTE, render_reel

    picks = picks_of_result(result)
    if config.export:
        export_picks(picks, config.export)
        written.append(f"cuts: {', '.join(map(str, config.export))}")
    if config.reel is not None:
        render_reel(picks, config.reel)
        written.append(f"reel: {config.reel} ({len(picks)} spans, {SOUND_NOTE})")
    return written
