"""Timelines of cuts: OpenTimelineIO, and FCPXML 1.9 for Final Cut Pro and DaVinci Resolve."""

from collections.abc import Sequence
from fractions import Fraction
from xml.etree import ElementTree

from indexing.handoff.cuts import Cut, common_timing, sources_of, timing_of
from indexing.handoff.premiere_xml import xml_document


def write_otio(cuts: Sequence[Cut], title: str) -> str:
    """One track of clips, each at the rate of its own source, as JSON text. ValueError for a variable frame rate."""
    import opentimelineio as otio

    time, time_range = otio.opentime.RationalTime, otio.opentime.TimeRange
    timeline = otio.schema.Timeline(title)
    track = otio.schema.Track("V1", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    for cut in cuts:
        timing = timing_of(cut.source)
        rate = float(timing.rate)
        media = otio.schema.ExternalReference(
            target_url=cut.source.path.as_uri(),
            available_range=time_range(
                time(timing.first_frame, rate), time(len(cut.source.times.times_s), rate)
            ),
        )
        media.name = cut.source.times.reel or cut.source.path.name
        metadata = {"label": cut.pick.label, "note": cut.pick.note}
        metadata |= {"drop_frame": bool(timing.is_drop_frame)}
        first = timing.first_frame + cut.frames.start
        track.append(
            otio.schema.Clip(
                name=cut.name,
                media_reference=media,
                source_range=time_range(time(first, rate), time(len(cut.frames), rate)),
                metadata={"tfcovr": metadata},
            )
        )
    return otio.adapters.write_to_string(timeline, "otio_json")


def write_fcpxml(cuts: Sequence[Cut], title: str) -> str:
    """FCPXML as text, all times whole frames. ValueError for several frame rates or a variable one."""
    rate, is_drop_frame = common_timing(cuts)
    form = "DF" if is_drop_frame else "NDF"
    root = ElementTree.Element("fcpxml", version="1.9")
    resources = ElementTree.SubElement(root, "resources")
    formats: dict[tuple[int, int], str] = {}
    assets: dict[object, str] = {}
    for source in sources_of(cuts):
        size = (source.times.width, source.times.height)
        if size not in formats:
            formats[size] = f"r{len(formats) + len(assets) + 1}"
            ElementTree.SubElement(
                resources,
                "format",
                id=formats[size],
                frameDuration=_time(1, rate),
                width=str(size[0]),
                height=str(size[1]),
            )
        assets[source.path] = f"r{len(formats) + len(assets) + 1}"
        asset = ElementTree.SubElement(
            resources,
            "asset",
            id=assets[source.path],
            name=source.path.name,
            start=_time(timing_of(source).first_frame, rate),
            duration=_time(len(source.times.times_s), rate),
            hasVideo="1",
            format=formats[size],
        )
        ElementTree.SubElement(asset, "media-rep", kind="original-media", src=source.path.as_uri())
    event = ElementTree.SubElement(ElementTree.SubElement(root, "library"), "event", name=title)
    project = ElementTree.SubElement(event, "project", name=title)
    first_size = (cuts[0].source.times.width, cuts[0].source.times.height)
    num_frames = sum(len(cut.frames) for cut in cuts)
    sequence = ElementTree.SubElement(
        project,
        "sequence",
        format=formats[first_size],
        duration=_time(num_frames, rate),
        tcStart="0s",
        tcFormat=form,
    )
    spine = ElementTree.SubElement(sequence, "spine")
    place = 0
    for cut in cuts:
        source = cut.source
        clip = ElementTree.SubElement(
            spine,
            "asset-clip",
            ref=assets[source.path],
            name=cut.name,
            offset=_time(place, rate),
            start=_time(timing_of(source).first_frame + cut.frames.start, rate),
            duration=_time(len(cut.frames), rate),
            format=formats[(source.times.width, source.times.height)],
            tcFormat=form,
        )
        ElementTree.SubElement(clip, "note").text = cut.pick.note
        place += len(cut.frames)
    return xml_document(root)


def _time(num_frames: int, rate: Fraction) -> str:
    """Not reduced, so that programs see whole frames: 1001/30000s."""
    return f"{num_frames * rate.denominator}/{rate.numerator}s" if num_frames else "0s"
