"""What is a training run? One frozen, checked config per stage; recipes.py returns them complete."""

from dataclasses import dataclass, field
from typing import Literal

from encoders.media.sampling import Resize
from encoders.video_encoder.config import VideoEncoderConfig

Precision = Literal["auto", "fp32", "bf16"]


def _require(is_allowed: bool, name: str, value: object, allowed: str) -> None:
    if not is_allowed:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How the weights move: the same for both stages."""

    num_epochs: int
    batch_size: int
    """Examples per step over all workers together."""
    num_accumulation_steps: int = 1
    """A worker's examples of a step are given to the module in so many parts, whose gradients add up."""
    learning_rate: float
    weight_decay: float
    """Not applied to norms, biases and embeddings."""
    betas: tuple[float, float] = (0.9, 0.999)
    num_warmup_steps: int = 0
    grad_clip_norm: float | None = None
    precision: Precision = "auto"
    """auto = bf16 autocast on a GPU, float32 on a CPU."""
    seed: int = 0
    log_every: int = 1
    """A line in metrics.jsonl every so many steps."""
    eval_every: int = 1
    """Validation every so many epochs, and after the last one."""
    keep: Literal["final", "best"] = "final"
    """Which weights the bundle gets: the last epoch's, or the best on the val split."""
    num_threads: int | None = None
    """Threads of torch per worker; None = as torch decides."""

    def __post_init__(self) -> None:
        counts = ("num_epochs", "batch_size", "num_accumulation_steps", "log_every", "eval_every")
        for name in counts:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        _require(self.num_warmup_steps >= 0, "num_warmup_steps", self.num_warmup_steps, ">= 0")
        clip = self.grad_clip_norm
        _require(clip is None or clip > 0, "grad_clip_norm", clip, "None or above 0")
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", self.betas, "in [0, 1)")
        threads = self.num_threads
        _require(threads is None or threads >= 1, "num_threads", threads, "None or at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How a training clip differs from epoch to epoch, besides the jitter of its frames."""

    flip: bool = True
    """Mirror left and right, half of the time."""
    min_crop_scale: float = 1.0
    """Random resized crop of at least this share of the area; 1 = no crop. Not for cached frame vectors."""
    decode_size: int | None = None
    """Frames are decoded at this size before the crop; None = the encoder's size."""

    def __post_init__(self) -> None:
        _require(0 < self.min_crop_scale <= 1, "min_crop_scale", self.min_crop_scale, "in (0, 1]")
        size = self.decode_size
        _require(size is None or size >= 1, "decode_size", size, "None or at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage1Config:
    """Action classification: the video encoder learns to tell near-identical actions apart."""

    encoder: VideoEncoderConfig
    loop: LoopConfig
    pretrained_image: str | None = None
    """Name or file of weights for the image part; None = random."""
    freeze_pretrained: bool = True
    """Pretrained weights stay; only what the encoder adds to them learns (AIM: adapters, temporal embedding)."""
    order: Literal["shuffled", "label_balanced"] = "shuffled"
    """label_balanced: an epoch draws every label equally often, clips of rare ones several times."""
    recompute_activations: bool = False
    """Activations inside transformer blocks are computed again for the gradients instead of kept: less memory, a third more time."""
    label_smoothing: float = 0.0
    attributes: tuple[str, ...] = ()
    """Clip attributes that get a classification head of their own while training."""
    attribute_weight: float = 0.5
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    num_cached_positions: int = 48
    """Frames per clip whose vectors are kept, for an encoder with a frozen image part."""
    decode_backend: Literal["auto", "pyav", "dali"] = "auto"
    """auto = dali on a GPU where it is installed, pyav elsewhere."""
    resize: Resize = "pillow_bicubic"
    """As the paper's release; swscale_area decodes large frames up to 1.7 times as fast. It goes into the bundle's card."""
    num_decode_threads: int = 2
    record_frames: bool = False
    """Write which frames of which clip each epoch read, to workers/<rank>/frames_read/."""
    train_split: str = "train"
    val_split: str = "val"

    def __post_init__(self) -> None:
        _require(
            0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)"
        )
        _require(
            self.num_cached_positions >= self.encoder.num_frames,
            "num_cached_positions",
            self.num_cached_positions,
            f"at least the encoder's num_frames ({self.encoder.num_frames})",
        )
        _require(
            self.num_decode_threads >= 1, "num_decode_threads", self.num_decode_threads, ">= 1"
        )
        weight = self.attribute_weight
        _require(weight >= 0, "attribute_weight", weight, "at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Config:
    """Composition: (clip, edit text) is pulled to the frozen vectors of the target clips."""

    loop: LoopConfig
    inputs: Literal["both", "video", "text"] = "both"
    """What a query is made of; the other input is zeroed (rows of the evaluation)."""
    fusion: Literal["combiner", "mean"] = "combiner"
    projection_dim: int = 3072
    hidden_dim: int = 6144
    dropout: float = 0.5
    text: str = "packaged:all-MiniLM-L6-v2"
    """Name or folder of the text encoder: BLIP-2 (its Q-Former reads the text), CLIP, or any encoder of sentences."""
    number_words: bool = True
    """The text encoder reads "two and a half" for 2.5, as in the paper."""
    released_words: bool = False
    """... to the letter of the released code, which knows 0.5 ... 7.0."""
    counts: bool = False
    """The fusion also gets the counts that a text names, with a learned vector for each."""
    max_tokens: int = 32
    train_text: bool = False
    text_learning_rate_scale: float = 1.0
    temperature: float = 0.07
    alpha: float = 1.0
    beta: float = 0.5
    mask_same_label: bool = False
    """A batch neighbour with the same target label is no negative. The paper's recipe has it off."""
    max_val_queries: int = 500
    train_split: str = "train"
    val_split: str = "val"

    def __post_init__(self) -> None:
        _require(self.temperature > 0, "temperature", self.temperature, "above 0")
        _require(self.alpha > 0, "alpha", self.alpha, "above 0")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        for name in ("projection_dim", "hidden_dim", "max_tokens", "max_val_queries"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.beta >= 0, "beta", self.beta, "at least 0")
        scale = self.text_learning_rate_scale
        _require(scale >= 0, "text_learning_rate_scale", scale, "at least 0")
        parts = self.loop.num_accumulation_steps
        # The loss compares all queries of a step with each other.
        _require(parts == 1, "num_accumulation_steps", parts, "1 in stage 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchSettings:
    """Where the run runs; no part of what it learns."""

    num_workers: int = 0
    """Ray Train workers; 0 = the plain torch loop in this process."""
    cpus_per_worker: float = 1.0
    use_gpu: bool | None = None
    """None = if there is one."""
    max_failures: int = 3
    """How often the run goes on from its last checkpoint after a worker died."""
    address: str | None = None
    """Ray cluster; None = RAY_ADDRESS, or a local one."""
    show_progress: bool = True

    def __post_init__(self) -> None:
        _require(self.num_workers >= 0, "num_workers", self.num_workers, "at least 0")
        _require(self.max_failures >= 0, "max_failures", self.max_failures, "at least 0")
        _require(self.cpus_per_worker > 0, "cpus_per_worker", self.cpus_per_worker, "above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuGuess:
    """What a GPU is supposed to do where none is measured."""

    num_gpus: tuple[int, ...] = (1, 8, 64)
    tflop_per_s: float = 790.0
    """bf16 matrix rate; the default was measured on an H200."""
    share: float = 0.4
    """How much of it training reaches: supposed, not measured."""

    def __post_init__(self) -> None:
        if not self.num_gpus or min(self.num_gpus) < 1:
            raise ValueError(f"num_gpus is {self.num_gpus}; each must be at least 1")
        if self.tflop_per_s <= 0 or not 0 < self.share <= 1:
            raise ValueError(
                f"tflop_per_s is {self.tflop_per_s} (above 0), share is {self.share} (in (0, 1])"
            )
