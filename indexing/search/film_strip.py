"""Film strips: an image of a query and its answers, one row of frames and labels per clip."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cluster.storage import atomic_path
from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.request import DecodeRequest
from encoders.media.container import LIMITS_OF_AN_ARCHIVE
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

if TYPE_CHECKING:
    from indexing.search.types import ClipPlace, Hit, SearchResult

DECODE_DEADLINE_S = 60.0

_PAPER = (250, 250, 248)
_INK = (24, 28, 34)
_GREY = (110, 116, 124)
_QUERY = (0, 92, 168)
_MARGIN = 12
_GAP = 2
_Line = tuple[str, tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmStripStyle:
    """Layout of a film strip, in pixels."""

    num_frames: int = 8
    frame_size: int = 112
    label_width: int = 300
    font_size: int = 15


def draw_film_strips(
    result: "SearchResult", path: str | Path, *, style: FilmStripStyle | None = None
) -> Path:
    """Write a PNG with the film strips of the query and its answers; a clip that cannot be decoded gets a grey strip with the reason."""
    style = style or FilmStripStyle()
    with IsolatedDecoder(deadline_s=DECODE_DEADLINE_S) as decoder:
        strips = [film_strip(place, style, decoder) for place in (result.query, *result.hits)]
    rows = [_row(strips[0], _query_lines(result), style)]
    rows += [
        _row(strip, _hit_lines(rank, hit), style)
        for rank, (strip, hit) in enumerate(zip(strips[1:], result.hits, strict=True), start=1)
    ]
    height = sum(row.height for row in rows) + _MARGIN * (len(rows) + 1)
    image = Image.new("RGB", (rows[0].width + 2 * _MARGIN, height), _PAPER)
    top = _MARGIN
    for row in rows:
        image.paste(row, (_MARGIN, top))
        top += row.height + _MARGIN
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
    return Path(path)


def film_strip_html(result: "SearchResult", *, num_shown: int = 10) -> str:
    """Query and answers as a table with film strips; every text is escaped. A clip that cannot be decoded shows the reason."""
    style = FilmStripStyle(frame_size=64)
    rows = []
    with IsolatedDecoder(deadline_s=DECODE_DEADLINE_S) as decoder:
        shown = [(_query_lines(result), result.query)] if result.query.video_uri else []
        shown += [(_hit_lines(n, hit), hit) for n, hit in enumerate(result.hits[:num_shown], 1)]
        for lines, place in shown:
            buffer = io.BytesIO()
            film_strip(place, style, decoder).save(buffer, "JPEG", quality=80)
            picture = base64.b64encode(buffer.getvalue()).decode()
            text = "<br>".join(html.escape(line) for line, _ in lines if line)
            rows.append(
                f'<tr><td style="text-align:left">{text}</td><td><img alt="" src="data:image/jpeg;base64,{picture}"></td></tr>'
            )
    reason = html.escape(result.mismatch_text())
    note = f"<p>Nothing in the archive matches: {reason}. The nearest clips:</p>" if reason else ""
    return f"{note}<table>{''.join(rows)}</table>"


def film_strip(
    place: "ClipPlace", style: FilmStripStyle, decoder: IsolatedDecoder | None = None
) -> Image.Image:
    """The frames of a clip side by side, in order. Pass a decoder when drawing many: each decoder starts a process."""
    if decoder is None:
        with IsolatedDecoder(deadline_s=DECODE_DEADLINE_S) as own_decoder:
            return film_strip(place, style, own_decoder)
    try:
        return decoded_strip(place, style, decoder)
    except DecodeError as error:
        return failed_strip(error, style)


def decoded_strip(
    place: "ClipPlace", style: FilmStripStyle, decoder: IsolatedDecoder
) -> Image.Image:
    """The frames of a clip side by side; DecodeError where it cannot be decoded or its row has a span that cannot be."""
    sampling = SamplingConfig(
        num_frames=style.num_frames, frame_size=style.frame_size, color="file"
    )
    frames_THWC = _decoded(place, sampling, decoder).copy()
    frames_THWC[:-1, :, -_GAP:] = _PAPER
    return Image.fromarray(np.concatenate(list(frames_THWC), axis=1))


def decoded_poster(place: "ClipPlace", size: int, decoder: IsolatedDecoder) -> Image.Image:
    """The middle frame of a clip in its own shape, at most `size` pixels wide and high; errors as of `decoded_strip`."""
    middle_HWC = _decoded(
        place, SamplingConfig(num_frames=3, frame_size=None, color="file"), decoder
    )[1]
    poster = Image.fromarray(middle_HWC)
    poster.thumbnail((size, size))
    return poster


def _decoded(place: "ClipPlace", sampling: SamplingConfig, decoder: IsolatedDecoder) -> np.ndarray:
    """uint8 frames [T, H, W, 3]."""
    try:
        span = Span(start_s=place.start_s, end_s=place.end_s)
    except ValueError as error:
        raise DecodeError("span_outside_video", str(error)) from error
    request = DecodeRequest(
        video=place.video_uri, spans=(span,), sampling=sampling, limits=LIMITS_OF_AN_ARCHIVE
    )
    decoded = decoder.decode(request)
    if decoded.errors[0] is not None:
        raise decoded.errors[0]
    return decoded.frames_NTHWC[0]


def failed_strip(error: DecodeError, style: FilmStripStyle) -> Image.Image:
    """A grey strip with the reason."""
    size = (style.num_frames * style.frame_size, style.frame_size)
    strip = Image.new("RGB", size, (206, 208, 212))
    ImageDraw.Draw(strip).text((8, 8), str(error)[:120], fill=_INK, font=_font(style))
    return strip


def _query_lines(result: "SearchResult") -> list[_Line]:
    query = result.query
    name = query.clip_id or Path(query.video_uri).name
    return [
        ("query", _QUERY),
        (f"+ {result.edit_text!r}" if result.edit_text else "most similar clips", _QUERY),
        (query.label or "no label", _INK),
        (f"{name}  {query.span()}", _GREY),
    ]


def _hit_lines(rank: int, hit: "Hit") -> list[_Line]:
    attributes = ", ".join(f"{name} {value}" for name, value in sorted(hit.attributes.items()))
    return [
        (f"{rank}.  {hit.score:.3f}", _INK),
        (hit.label or "no label", _INK),
        (attributes, _GREY),
        (f"{hit.clip_id}  {hit.span()}", _GREY),
    ]


def _row(strip: Image.Image, lines: Sequence[_Line], style: FilmStripStyle) -> Image.Image:
    row = Image.new("RGB", (style.label_width + strip.width, strip.height), _PAPER)
    draw = ImageDraw.Draw(row)
    font = _font(style)
    top = 2.0
    for line in (part for text, colour in lines for part in _wrapped(text, colour, font, style)):
        draw.text((0, top), line[0], fill=line[1], font=font)
        top += style.font_size * 1.3
    row.paste(strip, (style.label_width, 0))
    return row


def _wrapped(
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    style: FilmStripStyle,
) -> list[_Line]:
    """At most two lines that fit the label's width."""
    lines: list[str] = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= style.label_width - 8 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1]} ..."]
    return [(line, colour) for line in lines if line]


def _font(style: FilmStripStyle) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=style.font_size)
