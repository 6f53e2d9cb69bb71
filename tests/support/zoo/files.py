"""A zoo of small media files, made when it is asked for: codecs x containers x groups of pictures x oddities of time.

Each file shows numbered frames.
"""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg

from tests.support.videos import numbered_frame
from tests.support.zoo.matroska import write_laced

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
_WIDTH, _HEIGHT = 64, 48
_X264 = "-c:v libx264 -preset veryfast -x264-params {}"
_OPEN = _X264.format("keyint=12:bframes=3:open-gop=1:scenecut=0")
_HEVC = "-c:v libx265 -x265-params keyint=12:bframes=3:open-gop=1:log-level=none:pools=1"
_CLOSED = _X264.format("keyint=12:bframes=3:scenecut=0")


def run(*arguments: str | Path) -> str:
    """FFmpeg's command; what it says."""
    command = [FFMPEG, "-nostdin", "-hide_banner", "-y", "-threads", "1", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')[-800:]}"
    return done.stderr.decode(errors="replace")


class Zoo:
    """Makes files of a folder by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Path] = {}

    def make(self, name: str) -> Path:
        """The file of that name of KINDS; others that it is made of lie beside it."""
        if name not in self._made:
            path = self.folder / name
            KINDS[name](self, path)
            self._made[name] = path
        return self._made[name]

    def source(self, num_frames: int = 60, rate: str = "25") -> Path:
        """Numbered frames, lossless."""
        path = self.folder / f"source-{num_frames}-{rate.replace('/', '_')}.nut"
        if not path.exists():
            frames = (numbered_frame(n, _WIDTH, _HEIGHT) for n in range(num_frames))
            raw = b"".join(frame.tobytes() for frame in frames)
            given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{_WIDTH}x{_HEIGHT}"]
            command = [FFMPEG, "-v", "error", "-y", *given, "-r", rate, "-i", "-"]
            command += ["-c:v", "ffv1", "-pix_fmt", "yuv420p", str(path)]
            subprocess.run(command, input=raw, check=True)
        return path


Make = Callable[[Zoo, Path], object]


def encoded(options: str, *, num_frames: int = 60, rate: str = "25") -> Make:
    """The numbered frames in a codec and container."""
    return lambda zoo, path: run(
        "-v", "error", "-i", zoo.source(num_frames, rate), *options.split(), path
    )


def two_pass(options: str) -> Make:
    """As encoded(), by an encoder that has seen the whole before: only then VP9 makes hidden frames at every bit rate."""

    def make(zoo: Zoo, path: Path) -> None:
        given = ["-v", "error", "-i", zoo.source(), *options.split(), "-passlogfile", path]
        run(*given, "-pass", "1", "-f", "null", "-")
        run(*given, "-pass", "2", path)

    return make


def remuxed(name: str, options: str = "", *, before: str = "") -> Make:
    """The packets of another file of the zoo; `before` are options of the input."""
    return lambda zoo, path: run(
        *("-v", "error", *before.split(), "-i", zoo.make(name)),
        *("-map", "0:v", "-c", "copy", *options.split(), path),
    )


def filtered(name: str, filters: str) -> Make:
    """The packets of another file through bitstream filters, each with a time of its own (Matroska's muxer would undo the split)."""
    return remuxed(name, f"-fflags -autobsf -bsf:v {filters},setts=ts=N*20")


def retimed(
    name: str, times: Callable[[int, int | None, int | None], tuple], **options: str
) -> Make:
    """The packets of another file with other times: (place, pts, dts) -> (pts, dts), in ticks of the source."""

    def make(zoo: Zoo, path: Path) -> None:
        with (
            av.open(str(zoo.make(name))) as source,
            av.open(str(path), "w", container_options=options) as target,
        ):
            given = source.streams.video[0]
            stream = target.add_stream_from_template(given)
            stream.time_base = given.time_base
            for place, packet in enumerate(p for p in source.demux(given) if p.size):
                packet.pts, packet.dts = times(place, packet.pts, packet.dts)
                packet.stream = stream
                target.mux(packet)

    return make


def cut(name: str, start: float, end: float = 1.0) -> Make:
    """The bytes of another file from one part of its length to another."""

    def make(zoo: Zoo, path: Path) -> None:
        data = zoo.make(name).read_bytes()
        path.write_bytes(data[int(len(data) * start) : int(len(data) * end)])

    return make


def joined(*names: str, hole: float = 0.0) -> Make:
    """The bytes of files one after the other; the first without the last part of it."""

    def make(zoo: Zoo, path: Path) -> None:
        first, *others = (zoo.make(name).read_bytes() for name in names)
        first = first[: int(len(first) * (1 - hole)) // 188 * 188]
        path.write_bytes(b"".join([first, *others]))

    return make


def appended(name: str, *, header: int = 0) -> Make:
    """A file twice, the second time without so many bytes of a header."""

    def make(zoo: Zoo, path: Path) -> None:
        data = zoo.make(name).read_bytes()
        path.write_bytes(data + data[header:])

    return make


def concatenated(*names: str) -> Make:
    """FFmpeg's concat demuxer over files of different sizes or codec settings."""

    def make(zoo: Zoo, path: Path) -> None:
        listing = path.with_suffix(".txt")
        listing.write_text("".join(f"file '{zoo.make(name)}'\n" for name in names))
        run("-v", "error", "-f", "concat", "-safe", "0", "-i", listing, "-c", "copy", path)

    return make


def _two_programs(zoo: Zoo, path: Path) -> None:
    first, second = zoo.make("mpeg2.ts"), zoo.make("open.ts")
    run(
        *("-v", "error", "-i", first, "-i", second, "-map", "0:v", "-map", "1:v", "-c", "copy"),
        *("-program", "title=a:st=0", "-program", "title=b:st=1", path),
    )


def _jpegs_with_exif(_zoo: Zoo, path: Path) -> None:
    """JPEGs of a camera: their EXIF is side data that PyAV has no name for."""
    import io

    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "A maker of cameras"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuvj420p"
        for number in range(30):
            buffer = io.BytesIO()
            picture = Image.fromarray(numbered_frame(number, _WIDTH, _HEIGHT))
            picture.save(buffer, "jpeg", exif=exif, subsampling=2)
            packet = av.Packet(buffer.getvalue())
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = Fraction(1, 25), True
            container.mux(packet)


def changed(name: str, change: Callable[[bytearray], None]) -> Make:
    """Another file with some of its bytes changed in place."""

    def make(zoo: Zoo, path: Path) -> None:
        data = bytearray(zoo.make(name).read_bytes())
        change(data)
        path.write_bytes(data)

    return make


def _flip_decoding_time(data: bytearray) -> None:
    """One bit of a PES header: the 30th packet of an elementary stream is decoded 46 s later."""
    headers = [
        at for at in range(len(data)) if data[at : at + 3] == b"\0\0\1" and data[at + 3] == 0xE0
    ]
    with_both = [at for at in headers if data[at + 7] >> 6 == 3]
    data[with_both[20] + 15] ^= 0x80


def _double_the_edit_rate(data: bytearray) -> None:
    """The media rate of the one edit to 2; players show the frames at their own times all the same."""
    edit = data.index(b"elst")
    assert data[edit + 4] == 0
    data[edit + 20 : edit + 22] = b"\0\2"


def _forget_fragment_times(data: bytearray) -> None:
    """Fragments without `tfdt`, as before 2012: each goes on where the one before it ended."""
    at = data.find(b"tfdt")
    while at >= 0:
        data[at : at + 4] = b"free"
        at = data.find(b"tfdt", at)


def _lose_packets(data: bytearray) -> None:
    """Three transport packets in the middle are another program's: continuity breaks, and the pictures lack a part."""
    for packet in range(len(data) // 188 // 2, len(data) // 188 // 2 + 3):
        data[packet * 188 + 1] = (data[packet * 188 + 1] & 0xE0) | 0x1F
        data[packet * 188 + 2] = 0xFF


def _forget_sync_samples(data: bytearray) -> None:
    """An MP4 without `stss`, which says that every sample is a keyframe."""
    at = data.index(b"stss")
    data[at : at + 4] = b"free"


def _in_block_groups(zoo: Zoo, path: Path) -> None:
    """Matroska without SimpleBlocks: every packet has a duration of its own, so FFmpeg writes a BlockGroup."""
    source = zoo.make("closed.mp4")
    run(
        "-v",
        "error",
        "-i",
        source,
        "-map",
        "0:v",
        "-c",
        "copy",
        "-bsf:v",
        "setts=duration=DURATION+1",
        path,
    )


_VP9 = "-c:v libvpx-vp9 -b:v 60k -g 30 -auto-alt-ref 1 -lag-in-frames 16 -cpu-used 2"
_AV1 = "-c:v libaom-av1 -cpu-used 8 -b:v 60k -g 20 -lag-in-frames 19 -usage good"
KINDS: dict[str, Make] = {
    # H.264 and HEVC
    "open.mp4": encoded(_OPEN),
    "closed.mp4": encoded(_CLOSED),
    "open.mkv": remuxed("open.mp4"),
    "open.ts": encoded(_OPEN),
    "closed.ts": encoded(_CLOSED),
    "closed.m2ts": remuxed("closed.mp4", "-mpegts_m2ts_mode 1 -f mpegts"),
    "closed.flv": remuxed("closed.mp4"),
    "closed.mxf": encoded("-c:v libx264 -g 12 -bf 2 -pix_fmt yuv422p -b:v 2M"),
    "pyramid.mp4": encoded(_X264.format("keyint=60:bframes=8:b-pyramid=normal:b-adapt=0")),
    "one_gop.mp4": encoded(_X264.format("keyint=250:bframes=3"), num_frames=80),
    "intra.mp4": encoded(_X264.format("keyint=1")),
    "no_b.mp4": encoded(_X264.format("keyint=12:bframes=0")),
    "refresh.mp4": encoded(_X264.format("keyint=12:intra-refresh=1:bframes=2")),
    "mbaff.ts": encoded(_X264.format("keyint=12:interlaced=1:bframes=3")),
    "zero_latency.flv": encoded("-c:v libx264 -tune zerolatency -g 10"),
    "fragmented.mp4": remuxed("open.mp4", "-movflags frag_keyframe+empty_moov"),
    "hevc.mp4": encoded(_HEVC),
    "hevc_closed.mkv": encoded("-c:v libx265 -x265-params keyint=12:bframes=4:open-gop=0:log-level=none:pools=1"),
    "hevc.ts": encoded(_HEVC),
    # starts and times
    "cut_open.mkv": remuxed("open.mp4", before="-ss 1.3"),
    "cut_open.mp4": remuxed("open.mp4", before="-ss 1.3"),
    "cut_open.ts": remuxed("open.ts", before="-ss 1.3"),
    "cut_hevc.mkv": remuxed("hevc.mp4", before="-ss 1.3"),
    "cut_hevc.ts": remuxed("hevc.ts", before="-ss 1.3"),
    "h264.avi": remuxed("closed.mp4", "-bsf:v h264_mp4toannexb"),
    "genpts.mp4": remuxed("h264.avi", before="-fflags +genpts"),
    "genpts.mkv": remuxed("h264.avi", before="-fflags +genpts"),
    "negative.mkv": remuxed("closed.mp4", "-avoid_negative_ts disabled -output_ts_offset -0.1"),
    "late.mp4": remuxed("closed.mp4", "-output_ts_offset 5000"),
    "late.mkv": remuxed("closed.mp4", "-output_ts_offset 50000"),
    "decode_order.mp4": retimed("closed.mp4", lambda place, _p, _d: (place * 512, place * 512)),
    "decode_order.mkv": retimed("closed.mp4", lambda place, _p, _d: (place * 512, place * 512)),
    "hevc_decode_order.mp4": retimed("hevc.mp4", lambda place, _p, _d: (place * 512, place * 512)),
    "doubled.mkv": retimed("intra.mp4", lambda place, _p, _d: (place // 2 * 512, place // 2 * 512)),
    "gap.mp4": retimed("closed.mp4", lambda place, p, d: (p + 25600 * (place >= 24), d + 25600 * (place >= 24))),
    "vfr.mkv": encoded("-vf setpts=N*N/90/25/TB -fps_mode passthrough " + _CLOSED),
    "ntsc.mp4": encoded(_CLOSED, rate="30000/1001"),
    "ntsc.mkv": remuxed("ntsc.mp4"),
    "edit.mp4": encoded("-vf setpts=PTS-0.4/TB -avoid_negative_ts disabled " + _CLOSED),
    "negative_offsets.flv": remuxed("closed.mp4", "-bsf:v setts=dts=DTS:pts=PTS-80"),
    "negative_offsets.mp4": remuxed("closed.mp4", "-movflags negative_cts_offsets"),
    "edit_rate.mp4": changed("edit.mp4", _double_the_edit_rate),
    "no_tfdt.mp4": changed("fragmented.mp4", _forget_fragment_times),
    "cra.mkv": remuxed("hevc.mp4", before="-ss 0.96"),
    "block_groups.mkv": _in_block_groups,
    "laced.mkv": lambda zoo, path: write_laced(zoo.make("mjpeg.avi"), path, size=(_WIDTH, _HEIGHT)),
    # broadcasts
    "mpeg2.ts": encoded("-c:v mpeg2video -g 12 -bf 2 -b:v 2M"),
    "mpeg2.mpg": encoded("-c:v mpeg2video -g 12 -bf 2 -b:v 2M -f vob"),
    "mpeg1.mpg": encoded("-c:v mpeg1video -g 12 -bf 2 -b:v 2M"),
    "mpeg2.mxf": encoded("-c:v mpeg2video -g 12 -bf 2 -b:v 4M -pix_fmt yuv422p"),
    "mpeg2_intra.mkv": encoded("-c:v mpeg2video -g 0 -b:v 2M"),
    "begun_h264.ts": cut("open.ts", 0.3),
    "begun_mpeg2.ts": cut("mpeg2.ts", 0.3),
    "begun_hevc.ts": cut("hevc.ts", 0.3),
    "begun.mpg": cut("mpeg2.mpg", 0.3),
    "begun_mpeg1.mpg": cut("mpeg1.mpg", 0.3),
    "h264_b_frames.mxf": encoded("-c:v libx264 -g 12 -bf 3 -b_strategy 0 -pix_fmt yuv420p"),
    "lost_packets.ts": changed("mpeg2.ts", _lose_packets),
    "lost_packets_h264.ts": changed("closed.ts", _lose_packets),
    "flipped_time.ts": changed("open.ts", _flip_decoding_time),
    "ended.ts": cut("mpeg2.ts", 0.0, 0.8),
    "ended.mpg": cut("mpeg2.mpg", 0.0, 0.8),
    "spliced.ts": joined("closed.ts", "closed.ts"),
    "spliced_later.ts": joined("mpeg2.ts", "mpeg2_late.ts"),
    "mpeg2_late.ts": remuxed("mpeg2.ts", "-output_ts_offset 400"),
    "lost.ts": joined("closed.ts", "closed.ts", hole=0.15),
    "two_programs.ts": _two_programs,
    "wrapped.ts": remuxed("mpeg2.ts", "-output_ts_offset 95442"),
    # the web, phones and editing
    "vp9.webm": two_pass(_VP9),
    "vp9_split.webm": filtered("vp9.webm", "vp9_superframe_split"),
    "vp9_hidden.mp4": remuxed("vp9.webm"),
    "vp9_hidden.mkv": remuxed("vp9.webm", before="-ss 1.0"),
    "av1_existing.mp4": remuxed("av1.mkv", "-bsf:v av1_metadata=td=insert"),
    "av1_svt.mp4": encoded("-c:v libsvtav1 -preset 12 -crf 40 -g 16 -svtav1-params hierarchical-levels=4:lp=1", num_frames=40),
    "vp8.webm": encoded("-c:v libvpx -b:v 60k -g 20 -auto-alt-ref 1 -lag-in-frames 16"),
    "av1.mkv": encoded(_AV1, num_frames=40),
    "av1.mp4": remuxed("av1.mkv"),
    "av1_split.mkv": filtered("av1.mkv", "av1_frame_split"),
    "exif.mov": _jpegs_with_exif,
    "mjpeg.avi": encoded("-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
    "h263.avi": encoded("-vf scale=176:144:flags=neighbor -c:v h263 -g 12 -q:v 2"),  # AVI calls each packet a keyframe
    "asp.mp4": encoded("-c:v mpeg4 -bf 2 -g 12 -q:v 2"),
    "no_stss.mp4": changed("asp.mp4", _forget_sync_samples),
    "palette.avi": encoded("-c:v rawvideo -vf format=rgb8,format=pal8", num_frames=20),
    "gray.mov": encoded("-c:v rawvideo -pix_fmt gray", num_frames=20),
    "appended.mkv": appended("open.mkv"),
    "appended.flv": appended("closed.flv", header=13),
    "appended.mp4": appended("fragmented.mp4"),
    "full_clock.flv": remuxed("closed.mp4", "-avoid_negative_ts disabled -output_ts_offset -0.5"),
    "cut_plain.mp4": remuxed("cut_open.mkv"),
    "lost_key.mkv": remuxed("closed.mp4", "-bsf:v noise=drop='eq(n\\,24)'"),
    "no_times.mkv": remuxed("closed.mp4", "-avoid_negative_ts disabled -output_ts_offset -5"),
    "asp.avi": encoded("-c:v mpeg4 -bf 2 -g 12 -q:v 2"),
    "xvid_packed.avi": encoded("-c:v libxvid -bf 2 -g 12 -q:v 2"),
    "xvid_packed_unbalanced.avi": encoded("-c:v libxvid -bf 3 -g 25 -q:v 6"),
    "xvid_copied.mkv": remuxed("xvid_packed.avi", before="-fflags +genpts"),
    "xvid_unpacked.avi": remuxed("xvid_packed.avi", "-bsf:v mpeg4_unpack_bframes"),
    "asp_copied.mkv": remuxed("asp.avi", before="-fflags +genpts"),
    "flv1.flv": encoded("-c:v flv -g 12 -q:v 2"),
    "h263.3gp": encoded("-vf scale=176:144:flags=neighbor -c:v h263 -g 12 -q:v 2"),
    "wmv2.wmv": encoded("-c:v wmv2 -g 12 -q:v 2"),
    "msmpeg4.avi": encoded("-c:v msmpeg4 -g 12 -q:v 2"),
    "msmpeg4v2.asf": encoded("-c:v msmpeg4v2 -g 12 -q:v 2"),
    "prores.mov": encoded("-c:v prores_ks -pix_fmt yuv422p10le"),
    "dnxhd.mxf": encoded("-vf scale=1280:720:flags=neighbor -c:v dnxhd -b:v 60M -pix_fmt yuv422p", num_frames=12),
    "dnxhr.mov": encoded("-vf scale=256:144:flags=neighbor -c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p"),
    "ffv1.mkv": encoded("-c:v ffv1 -level 3 -g 1"),
    "ffv1.avi": encoded("-c:v ffv1 -level 1 -g 12 -context 1"),
    "png.mov": encoded("-c:v png -pix_fmt rgb24"),
    "qtrle.mov": encoded("-c:v qtrle -g 12 -pix_fmt rgb24"),
    "huffyuv.avi": encoded("-c:v huffyuv -pix_fmt yuv422p"),
    "utvideo.avi": encoded("-c:v utvideo"),
    "dv.avi": encoded("-vf scale=720:576:flags=neighbor -c:v dvvideo -pix_fmt yuv420p", num_frames=12),
    "raw.avi": encoded("-c:v rawvideo -pix_fmt yuv420p"),
    "raw_bgr.avi": encoded("-c:v rawvideo -pix_fmt bgr24", num_frames=30),
}  # fmt: skip
