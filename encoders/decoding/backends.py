"""The registry of decode backends: everything that differs between them by name.

To add a backend: a module with a FrameSource, a line in DECODE_BACKENDS, and its extra in pyproject.toml. The choices of configs,
the automatic choice, the device that decodes, the clock of a worker and `tfcovr doctor` are derived from the registry. No library of
a backend is imported here before it decodes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol

from encoders.decoding.frames.pixels import OutBufferFor, no_buffer
from encoders.media.container import ALLOWED_DECODERS
from encoders.media.frame_index import FrameIndex

if TYPE_CHECKING:
    from encoders.decoding.pyav_video import PyavVideo

DeviceKind = Literal["cpu", "cuda"]
DEFAULT_DECODE_BACKEND = "pyav"
"""Opens and checks every file, and decodes what the other backends cannot."""


class FrameSource(Protocol):
    """An open video that gives its frames by number."""

    @property
    def index(self) -> FrameIndex: ...
    @property
    def backend_used(self) -> str: ...
    @property
    def fallback_reason(self) -> str | None: ...
    @property
    def num_frames_decoded(self) -> int: ...
    @property
    def last_error(self) -> str: ...

    def read_frames(
        self, numbers: Iterable[int], out_buffer_for: OutBufferFor = no_buffer
    ) -> Iterator[tuple[int, Any]]:
        """(number, RGB frame as shown [H, W, 3]) in any order; None for a frame that cannot be decoded.

        An array, or a tensor where the source keeps its frames on a device. With resize "swscale_area" of the size that is wanted,
        otherwise of the video's own size. It may be the array that `out_buffer_for` gave for the number, filled.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeBackend:
    """What decodes videos, where it runs and what installs it."""

    label: str
    """Name in the report of `tfcovr doctor`."""
    device_kinds: tuple[DeviceKind, ...]
    """Kinds of device that it decodes on."""
    open_source: "Callable[[PyavVideo, str, bool], FrameSource]"
    """Opens the frames of a video whose file PyavVideo has accepted, from (video, device, whether frames stay on the device).

    An ImportError names the extra that is missing. What it does not decode exactly, it reads from the PyavVideo, with a
    `fallback_reason`.
    """
    list_codecs: Callable[[DeviceKind], Iterable[str]]
    """Returns FFmpeg's names of the codecs that it decodes on a kind of device; an ImportError where it is not installed."""
    module: str
    """Module that must be installed for it."""
    extra: str = ""
    """Extra of pyproject.toml that installs the module; "" = the plain install has it."""
    distributions: tuple[str, ...] = ()
    """Distributions that bring the module, any of them, where an extra installs it."""
    has_own_threads: bool = False
    """Whether it decodes in threads of its own, so that CPU-seconds of the calling thread do not measure it."""

    def import_error(self) -> str | None:
        """Why it cannot be used here; None = it is installed. Looks for the module without importing it."""
        package = self.module.partition(".")[0]
        # The package first: find_spec imports it to look inside, and raises where it is missing.
        if find_spec(package) is not None and find_spec(self.module) is not None:
            return None
        extra = f"'.[{self.extra}]'" if self.extra else "."
        return f"{self.label} needs the module {self.module!r}: pip install -e {extra}"

    def device_kind_for(self, device: str) -> DeviceKind:
        """The kind of `device` where the backend decodes on it, otherwise `cpu`."""
        return "cuda" if device != "cpu" and "cuda" in self.device_kinds else "cpu"


def decode_backend(name: str) -> DecodeBackend:
    """The backend of a name; ValueError lists the names."""
    if name not in DECODE_BACKENDS:
        allowed = ", ".join(DECODE_BACKENDS)
        raise ValueError(f"decode backend is {name!r}; it must be one of {allowed}")
    return DECODE_BACKENDS[name]


def check_decode_choice(choice: str) -> None:
    """ValueError for a choice that is neither `auto` nor the name of a backend."""
    if choice != "auto":
        decode_backend(choice)


def choose_decode_backend(choice: str, device: str) -> str:
    """The name of the chosen backend; `auto` is the first that is installed and made for the device, else the default one.

    On a CPU that is always the default one: others are made for a GPU, even where they also decode on a CPU.
    """
    if choice != "auto":
        return choice
    for name, backend in DECODE_BACKENDS.items():
        if backend.device_kind_for(device) != "cpu" and backend.import_error() is None:
            return name
    return DEFAULT_DECODE_BACKEND


def _open_pyav(video: "PyavVideo", _device: str, _keeps_on_device: bool) -> FrameSource:
    return video


def _pyav_codecs(_kind: DeviceKind) -> Iterable[str]:
    from encoders.decoding import pyav_video  # av only where it decodes

    return set(pyav_video.av.codecs_available) & set(ALLOWED_DECODERS)


def _open_dali(video: "PyavVideo", device: str, keeps_on_device: bool) -> FrameSource:
    from encoders.decoding.nvidia.dali_video import DaliVideo  # dali only where it decodes

    return DaliVideo(video, device, keeps_on_device=keeps_on_device)


def _dali_codecs(kind: DeviceKind) -> Iterable[str]:
    from encoders.decoding.nvidia.dali_video import CPU_CODECS
    from encoders.decoding.nvidia.nvdec_limits import allowed_codecs

    return CPU_CODECS if kind == "cpu" else allowed_codecs(None)


def _open_pynv(video: "PyavVideo", device: str, keeps_on_device: bool) -> FrameSource:
    from encoders.decoding.nvidia.pynv_video import PynvVideo  # its driver only where it decodes

    return PynvVideo(video, device, keeps_on_device=keeps_on_device)


def _pynv_codecs(_kind: DeviceKind) -> Iterable[str]:
    if (error := DECODE_BACKENDS["pynv"].import_error()) is not None:
        raise ImportError(error)
    from encoders.decoding.nvidia.nvdec_limits import allowed_codecs
    from encoders.decoding.nvidia.pynv_video import FILTERS

    return allowed_codecs(None) & set(FILTERS)


DECODE_BACKENDS: dict[str, DecodeBackend] = {
    "pyav": DecodeBackend(
        label="PyAV",
        device_kinds=("cpu",),
        open_source=_open_pyav,
        list_codecs=_pyav_codecs,
        module="av",
    ),
    "dali": DecodeBackend(
        label="DALI",
        device_kinds=("cpu", "cuda"),
        open_source=_open_dali,
        list_codecs=_dali_codecs,
        module="nvidia.dali",
        extra="dali",
        distributions=("nvidia-dali-cuda130", "nvidia-dali-cuda120"),
        has_own_threads=True,
    ),
    "pynv": DecodeBackend(
        label="PyNvVideoCodec",
        device_kinds=("cuda",),
        open_source=_open_pynv,
        list_codecs=_pynv_codecs,
        module="PyNvVideoCodec",
        extra="pynv",
        distributions=("pynvvideocodec",),
        has_own_threads=True,
    ),
}

if TYPE_CHECKING:
    DecodeBackendKind = str
    DecodeChoice = str
else:
    # As literals for the parsers of the command line, which show them in --help. A backend that is registered later is accepted
    # wherever a config is made in Python.
    DecodeBackendKind = Literal[*DECODE_BACKENDS]
    DecodeChoice = Literal["auto", *DECODE_BACKENDS]
