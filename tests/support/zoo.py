"""A zoo of small media files, made when it is asked for: codecs x containers x groups of pictures x oddities of time.

Each file shows numbered frames; `reference` is what FFmpeg's command makes of it.
"""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from tests.support.videos import numbered_frame

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
_WIDTH, _HEIGHT = 64, 48
_X264 = "-c:v libx264 -preset veryfast -x264-params {}"
_OPEN = _X264.format("keyint=12:bframes=3:open-gop=1:scenecut=0")
_HEVC = "-c:v libx265 -x265-params keyint=12:bframes=3:open-gop=1:log-level=none:pools=1"
_CLOSED = _X264.format("keyint=12:bframes=3:scenecut=0")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What FFmpeg's command shows of a file."""

    frames_FHWC: np.ndarray
    times_s: np.ndarray
    """After the first frame."""


def run(*arguments: str | Path) -> str:
    """FFmpeg's command; what it says."""
    command = [FFMPEG, "-nostdin", "-hide_banner", "-y", "-threads", "1", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')[-800:]}"
    return done.stderr.decode(errors="replace")


def reference(path: Path, folder: Path) -> Reference:
    """Every frame that FFmpeg shows, as RGB, by the arithmetic that we ask of it too."""
    raw = folder / "reference.rgb"
    said = run(
        *("-loglevel", "info", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-vf", "showinfo=checksum=0,scale=in_color_matrix=bt601:flags=accurate_rnd+full_chroma_int+bilinear,format=rgb24"),
        *("-f", "rawvideo", raw),
    )  # fmt: skip
    times = [float(t) for t in re.findall(r"showinfo.* pts_time:(-?[\d.]+(?:e[-+]\d+)?)", said)]
    size = re.findall(r"Stream #0:0.*rawvideo.* (\d+)x(\d+)", said)[-1]
    width, height = int(size[0]), int(size[1])
    frames = np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, height, width, 3)
    raw.unlink()
    return Reference(frames_FHWC=frames, times_s=np.array(times) - times[0])


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
    # broadcasts
    "mpeg2.ts": encoded("-c:v mpeg2video -g 12 -bf 2 -b:v 2M"),
    "mpeg2.mpg": encoded("-c:v mpeg2video -g 12 -bf 2 -b:v 2M -f vob"),
    "mpeg1.mpg": encoded("-c:v mpeg1video -g 12 -bf 2 -b:v 2M"),
    "mpeg2.mxf": encoded("-c:v mpeg2video -g 12 -bf 2 -b:v 4M -pix_fmt yuv422p"),
    "mpeg2_intra.mkv": encoded("-c:v mpeg2video -g 0 -b:v 2M"),
    "begun_h264.ts": cut("open.ts", 0.3),
    "begun_mpeg2.ts": cut("mpeg2.ts", 0.3),
    "begun_hevc.ts": cut("hevc.ts", 0.3),
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
    "vp8.webm": encoded("-c:v libvpx -b:v 60k -g 20 -auto-alt-ref 1 -lag-in-frames 16"),
    "av1.mkv": encoded(_AV1, num_frames=40),
    "av1.mp4": remuxed("av1.mkv"),
    "av1_split.mkv": filtered("av1.mkv", "av1_frame_split"),
    "exif.mov": _jpegs_with_exif,
    "mjpeg.avi": encoded("-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
    "asp.avi": encoded("-c:v mpeg4 -bf 2 -g 12 -q:v 2"),
    "xvid_packed.avi": encoded("-c:v libxvid -bf 2 -g 12 -q:v 2"),
    "asp.mp4": encoded("-c:v mpeg4 -bf 2 -g 12 -q:v 2"),
    "xvid_copied.mkv": remuxed("xvid_packed.avi", before="-fflags +genpts"),
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
