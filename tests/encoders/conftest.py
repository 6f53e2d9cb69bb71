"""Small videos whose frames carry their own number as a picture, so that an exact frame is proven and not believed."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

_BLOCKS = 4  # 4 x 4 blocks = a 16-bit number


def numbered_frame(number: int, width: int, height: int) -> np.ndarray:
    """Gray blocks on the left and right extremes: bit 1 bright, bit 0 dark; the lowest bit is the top left block."""
    bits = (number >> np.arange(_BLOCKS * _BLOCKS)) & 1
    rows = np.arange(height) * _BLOCKS // height
    columns = np.arange(width) * _BLOCKS // width
    gray = np.where(bits.reshape(_BLOCKS, _BLOCKS)[rows][:, columns], 220, 30)
    return np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)


def read_number(frame_HWC: np.ndarray) -> int:
    """The number in a frame of any size; asserts that each block is clearly bright or dark."""
    height, width = frame_HWC.shape[:2]
    number = 0
    for bit in range(_BLOCKS * _BLOCKS):
        y = int((bit // _BLOCKS + 0.5) * height / _BLOCKS)
        x = int((bit % _BLOCKS + 0.5) * width / _BLOCKS)
        value = float(frame_HWC[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean())
        assert abs(value - 125) > 45, f"block {bit} is neither bright nor dark: {value}"
        number |= int(value > 125) << bit
    return number


def read_numbers(frames_THWC: np.ndarray) -> list[int]:
    return [read_number(frame) for frame in frames_THWC]


@dataclass(frozen=True, kw_only=True)
class VideoSpec:
    num_frames: int = 50
    codec: str = "libx264"
    width: int = 64
    height: int = 48
    fps: int = 25
    pts: tuple[int, ...] | None = None
    """Presentation times in ticks of 1/fps; None = 0, 1, 2, ..."""
    options: dict[str, str] = field(default_factory=dict)
    rotation: int | None = None
    """Degrees counter-clockwise in the display matrix."""
    hflip: bool = False
    pix_fmt: str = "yuv420p"
    container_options: dict[str, str] = field(default_factory=dict)
    color_range: int | None = None
    """1 = limited, 2 = full."""
    colorspace: int | None = None
    """FFmpeg's number: 1 = BT.709, 5 = BT.601."""
    picture: str = "number"
    """`number`, or `gradient`: smooth colours for comparing pixels."""


def gradient_frame(number: int, width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [
            40 + 160 * x / width,
            40 + 160 * y / height,
            128 + 80 * np.sin(number / 5 + x / width * 3),
        ],
        axis=2,
    ).astype(np.uint8)


def write_video(path: Path, spec: VideoSpec) -> Path:
    draw = {"number": numbered_frame, "gradient": gradient_frame}[spec.picture]
    with av.open(str(path), "w", container_options=spec.container_options) as container:
        stream = container.add_stream(spec.codec, rate=spec.fps, options=spec.options)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, spec.fps)
        if spec.colorspace is not None:
            stream.codec_context.colorspace = spec.colorspace
            stream.codec_context.color_range = spec.color_range
        if spec.rotation is not None:
            stream.set_display_rotation(spec.rotation, hflip=spec.hflip)
        for number in range(spec.num_frames):
            frame = av.VideoFrame.from_ndarray(draw(number, spec.width, spec.height), "rgb24")
            if spec.colorspace is not None:
                frame = frame.reformat(format=spec.pix_fmt)
                frame.colorspace, frame.color_range = spec.colorspace, spec.color_range
            frame.pts = spec.pts[number] if spec.pts else number
            frame.time_base = Fraction(1, spec.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def make_video(tmp_path_factory):
    """make_video("name.mp4", num_frames=..., ...) -> path, made once per session for the same arguments."""
    folder = tmp_path_factory.mktemp("videos")
    made: dict[str, Path] = {}

    def make(name: str, **spec) -> Path:
        key = f"{name} {sorted(spec.items())}"
        if key not in made:
            made[key] = write_video(folder / f"{len(made)}_{name}", VideoSpec(**spec))
        return made[key]

    return make


@pytest.fixture(scope="session")
def numbers_in():
    return read_numbers


def _tiny_text():
    """A random BERT of one layer with a tokenizer of five words."""
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel

    from encoders.query_encoder.config import TextConfig
    from encoders.query_encoder.text_encoder import TextEncoder, Tokenizer

    words = {"[PAD]": 0, "[UNK]": 1, "in": 2, "tuck": 3, "two": 4, "twists": 5, "with": 6}
    fast = FastTokenizer(WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = Whitespace()
    config = TextConfig(source="made-up", pooling="mean", max_tokens=8)
    shape = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
    )
    return TextEncoder(config, BertModel(shape), Tokenizer(fast, config, pad_token="[PAD]")).eval()


@pytest.fixture
def make_tiny_text():
    return _tiny_text


def _tiny_parts() -> dict:
    """Everything that save_bundle takes, tiny, with no weight at zero."""
    import torch

    from encoders.query_encoder.config import FusionConfig
    from encoders.query_encoder.fusion import build_fusion
    from encoders.video_encoder.config import AimConfig
    from encoders.video_encoder.registry import build_video_encoder

    torch.manual_seed(0)
    config = AimConfig(num_frames=3, image_size=16, patch_size=8, width=12, depth=1, num_heads=2)
    video = build_video_encoder(config).eval()
    with torch.no_grad():
        for parameter in video.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    fusion = FusionConfig(
        kind="combiner", video_dim=12, text_dim=8, projection_dim=6, hidden_dim=10
    )
    return {
        "video": video,
        "text": _tiny_text(),
        "fusion": build_fusion(fusion).eval(),
        "head": torch.nn.Linear(12, 2),
        "labels": ["107b", "109c"],
        "training_info": {"seed": 3, "recipe": "made-up"},
    }


@pytest.fixture
def tiny_parts():
    return _tiny_parts()


@pytest.fixture(scope="session")
def exported_bundle(tmp_path_factory) -> Path:
    """A tiny bundle with its ONNX files and canaries; copy it before changing it."""
    from encoders.bundle.folder import save_bundle
    from encoders.export.onnx_export import ExportConfig, export_onnx

    folder = tmp_path_factory.mktemp("exported") / "bundle"
    save_bundle(folder, **_tiny_parts())
    export_onnx(ExportConfig(bundle_dir=folder))
    return folder


@pytest.fixture(scope="session")
def exported_video_bundle(tmp_path_factory) -> Path:
    """As after stage 1: no text encoder and no fusion. Checked on five clips of the caller."""
    from encoders.bundle.canaries import draw_clips
    from encoders.bundle.folder import save_bundle
    from encoders.export.onnx_export import ExportConfig, export_onnx

    folder = tmp_path_factory.mktemp("exported") / "video_bundle"
    card = save_bundle(folder, video=_tiny_parts()["video"])
    frames = draw_clips(card.sampling, 5, name="mine")
    export_onnx(ExportConfig(bundle_dir=folder, num_clips=5), frames_NTHWC=frames)
    return folder


@pytest.fixture
def engine():
    """The record of an engine that was run on a GPU and came near enough."""
    from encoders.bundle.engine_records import DriftReport, EngineRecord, EngineTarget

    target = EngineTarget(
        library="tensorrt", version="11.4.0", gpu="NVIDIA H200", compute_capability="SM90"
    )
    drift = DriftReport(
        min_cosine_clips=0.9999,
        mean_cosine_clips=0.99999,
        min_cosine_queries=None,
        mean_cosine_queries=None,
        top_k_overlap=0.99,
        map_difference=-0.001,
        map_of="labels",
        top_k=10,
        num_clips=64,
        num_queries=0,
        clips_from="clips.parquet",
    )
    return EngineRecord(
        target=target,
        precision="fp16",
        reduced="most",
        max_batch_size=64,
        graphs={"video.onnx": "a" * 64},
        files={"video.engine": "b" * 64},
        drift=drift,
        onnx_drift=None,
    )
