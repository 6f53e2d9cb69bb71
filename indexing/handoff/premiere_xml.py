"""Final Cut Pro 7 XML (xmeml 5), which Premiere Pro and DaVinci Resolve import: all times are frames."""

import re
from collections.abc import Sequence
from fractions import Fraction
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from encoders.decoding.source import Source
from encoders.media.timecode import timecode_of
from indexing.handoff.cuts import Cut, timecode_timing, timing_of


def write_premiere_xml(cuts: Sequence[Cut], title: str) -> str:
    """The document as text. ValueError for several frame rates, a variable one, or one that has no timecode."""
    rate, is_drop_frame = timecode_timing(cuts)
    root = Element("xmeml", version="5")
    sequence = SubElement(root, "sequence", id="sequence-1")
    _text(sequence, name=title, duration=sum(len(cut.frames) for cut in cuts))
    _add_rate(sequence, rate)
    _add_timecode(sequence, 0, rate, is_drop_frame=is_drop_frame)
    video = SubElement(SubElement(sequence, "media"), "video")
    _add_format(SubElement(video, "format"), cuts[0].source, rate)
    track = SubElement(video, "track")
    file_ids: dict[object, str] = {}
    place = 0
    for number, cut in enumerate(cuts, start=1):
        item = SubElement(track, "clipitem", id=f"clipitem-{number}")
        _text(item, name=cut.name, duration=len(cut.source.times.times_s))
        _add_rate(item, rate)
        _text(
            item,
            start=place,
            end=place + len(cut.frames),
            **{"in": cut.frames.start, "out": cut.frames.stop},
        )
        path = cut.source.path
        if path in file_ids:  # described where it came first
            SubElement(item, "file", id=file_ids[path])
        else:
            file_ids[path] = f"file-{len(file_ids) + 1}"
            _add_file(item, file_ids[path], cut.source, rate, is_drop_frame=is_drop_frame)
        _text(SubElement(item, "logginginfo"), lognote=cut.pick.note)
        place += len(cut.frames)
    return xml_document(root)


def xml_document(root: Element) -> str:
    """Indented, with a head; what XML cannot hold, as notes and names of files may, is a space."""
    for element in root.iter():
        element.text = _storable(element.text or "") or None
        element.attrib = {name: _storable(value) for name, value in element.attrib.items()}
    ElementTree.indent(root)
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE {root.tag}>\n'
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _storable(text: str) -> str:
    """The characters of XML 1.0, section 2.2."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text)


def _add_file(
    item: Element, file_id: str, source: Source, rate: Fraction, *, is_drop_frame: bool
) -> None:
    file = SubElement(item, "file", id=file_id)
    _text(file, name=source.path.name, pathurl=source.path.as_uri())
    _add_rate(file, rate)
    _text(file, duration=len(source.times.times_s))
    first = timing_of(source).first_frame
    timecode = _add_timecode(file, first, rate, is_drop_frame=is_drop_frame)
    if source.times.reel:
        _text(SubElement(timecode, "reel"), name=source.times.reel)
    _add_format(SubElement(SubElement(file, "media"), "video"), source, rate)


def _add_format(parent: Element, source: Source, rate: Fraction) -> None:
    samples = SubElement(parent, "samplecharacteristics")
    _text(samples, width=source.times.width, height=source.times.height)
    _add_rate(samples, rate)


def _add_rate(parent: Element, rate: Fraction) -> None:
    is_ntsc = "TRUE" if rate.denominator == 1001 else "FALSE"
    _text(SubElement(parent, "rate"), timebase=round(rate), ntsc=is_ntsc)


def _add_timecode(parent: Element, frame: int, rate: Fraction, *, is_drop_frame: bool) -> Element:
    timecode = SubElement(parent, "timecode")
    _add_rate(timecode, rate)
    _text(
        timecode,
        string=timecode_of(frame, rate, is_drop_frame=is_drop_frame),
        frame=frame,
        displayformat="DF" if is_drop_frame else "NDF",
    )
    return timecode


def _text(parent: Element, **texts: object) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = str(text)
