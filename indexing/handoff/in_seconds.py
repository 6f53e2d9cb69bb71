"""Formats that count in seconds, so that a video may have a variable frame rate: WebVTT chapters, LosslessCut projects, OSL JSON."""

import json
import math
from collections.abc import Sequence

from indexing.handoff.cuts import Cut, one_line, sources_of

_MS = 1000


def write_vtt(cuts: Sequence[Cut], title: str) -> str:
    """WebVTT with a cue per cut: in the time of the video, or of the reel where there are several videos."""
    names = [source.path.name for source in sources_of(cuts)]
    times = "the video" if len(names) == 1 else "the reel, one span after the other"
    lines = ["WEBVTT", "", f"NOTE {_cue_text(title)}; times are those of {times}"]
    place_s = 0.0
    for number, cut in enumerate(cuts, start=1):
        start_s, end_s = cut.start_s, cut.end_s
        if len(names) > 1:
            start_s, end_s = place_s, place_s + end_s - start_s
            place_s = end_s
        origin = f"{_cue_text(cut.source.path.name)} {_clock(cut.start_s)}-{_clock(cut.end_s)}"
        lines += ["", str(number), f"{_clock(start_s)} --> {_clock(end_s)}"]
        lines += [_cue_text(cut.name), origin]
    return "\n".join(lines) + "\n"


def write_llc(cuts: Sequence[Cut], title: str) -> str:
    """A LosslessCut project, which lies beside its video. ValueError where the cuts are of several videos."""
    sources = sources_of(cuts)
    if len(sources) > 1:
        raise ValueError(
            f"the spans are of {len(sources)} videos ({sources[0].path.name}, {sources[1].path.name} ...); a LosslessCut project has "
            "one, so export each video alone"
        )
    segments = [
        {
            "start": round(cut.start_s, 6),
            "end": round(cut.end_s, 6),
            "name": cut.name,
            "tags": {"reel": title} | ({"label": cut.pick.label} if cut.pick.label else {}),
        }
        for cut in cuts
    ]
    project = {"version": 2, "mediaFileName": sources[0].path.name, "cutSegments": segments}
    return json.dumps(project, indent=2, ensure_ascii=False) + "\n"


def write_osl(cuts: Sequence[Cut], title: str) -> str:
    """OSL JSON (OpenSportsLab, SoccerNet): the annotations of each video by time, as milliseconds of their first frames.

    The format knows moments, not spans: the end is in an annotation's metadata, as `end_position`.
    """
    videos = []
    for source in sources_of(cuts):
        own = [cut for cut in cuts if cut.source.path == source.path]
        annotations = [
            {
                "position": _floor_ms(cut.start_s),
                "label": cut.pick.label or cut.name,
                "metadata": {
                    "end_position": _floor_ms(cut.end_s),
                    "name": cut.name,
                    "note": cut.pick.note,
                },
            }
            for cut in sorted(own, key=lambda cut: cut.start_s)
        ]
        videos.append({"path": str(source.path), "annotations": annotations})
    labels = sorted({one["label"] for video in videos for one in video["annotations"]})
    content = {"dataset_name": title, "labels": labels, "videos": videos}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _floor_ms(seconds: float) -> int:
    """Rounded down: the first frame at or after the written time is the one that was meant."""
    return math.floor(seconds * _MS + 1e-6)


def _clock(seconds: float) -> str:
    ms = _floor_ms(seconds)
    minutes, ms = divmod(ms, 60 * _MS)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{ms // _MS:02}.{ms % _MS:03}"


def _cue_text(text: str) -> str:
    """WebVTT ends a cue at an empty line and reads `<` and `-->` as its own."""
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
