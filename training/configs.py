"""Configs of training runs: one frozen, checked dataclass per stage; recipes.py returns complete ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from encoders.decoding.backends import DecodeChoice, check_decode_choice
from encoders.media.container import MediaLimits
from encoders.media.sampling import Color, Resize
from encoders.video_encoder.config import TrainableConfig

Precision = Literal["auto", "fp32", "bf16", "fp16"]
ClusterKind = Literal["query", "query_clip", "label_pair"]
RowName = Literal["composed", "video_only", "text_only", "mean", "raw"]
ALL_ROWS: tuple[RowName, ...] = get_args(RowName)


def _require(is_allowed: bool, name: str, value: object, allowed: str) -> None:
    if not is_allowed:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """Optimization settings, the same for both stages."""

    num_epochs: int
    batch_size: int
    """Examples per step, over all workers together."""
    num_accumulation_steps: int = 1
    """Number of parts that a worker's examples of a step are split into; their gradients are accumulated."""
    learning_rate: float
    weight_decay: float
    """Weight decay of AdamW."""
    decay: Literal["matrices", "all"] = "matrices"
    """Parameters with weight decay: all but norms, biases and embeddings, or all, as in TF-CoVR's code."""
    schedule: Literal["step", "epoch"] = "step"
    """Learning rate: half a cosine that falls with every step after the warm-up, or with every epoch, as in TF-CoVR's code."""
    betas: tuple[float, float] = (0.9, 0.999)
    num_warmup_steps: int = 0
    grad_clip_norm: float | None = None
    precision: Precision = "auto"
    """Precision of the forward pass; auto = bf16 autocast on a GPU, float32 on a CPU. fp16 scales the loss."""
    seed: int = 0
    log_every: int = 0
    """Write a line to metrics.jsonl every this many steps; 0 = every step on a CPU and every 20 on a GPU, which waits for each line."""
    eval_every: int = 1
    """Validate every this many epochs, and after the last one."""
    keep: Literal["final", "best"] = "final"
    """Weights that go into the bundle: those of the last epoch, or the best ones on the val split."""
    num_threads: int | None = None
    """Number of torch threads per worker; None = as torch decides."""

    def __post_init__(self) -> None:
        counts = ("num_epochs", "batch_size", "num_accumulation_steps", "eval_every")
        for name in counts:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.log_every >= 0, "log_every", self.log_every, "at least 0")
        rate, most = self.learning_rate, float("inf")
        _require(0 < rate < most, "learning_rate", rate, "above 0 and finite")
        decay = self.weight_decay
        _require(0 <= decay < most, "weight_decay", decay, "at least 0 and finite")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")
        warmup = self.num_warmup_steps
        _require(warmup >= 0, "num_warmup_steps", warmup, ">= 0")
        is_allowed = self.schedule == "step" or warmup == 0
        _require(is_allowed, "num_warmup_steps", warmup, "0 with schedule 'epoch'")
        clip = self.grad_clip_norm
        _require(clip is None or clip > 0, "grad_clip_norm", clip, "None or above 0")
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", self.betas, "in [0, 1)")
        threads = self.num_threads
        _require(threads is None or threads >= 1, "num_threads", threads, "None or at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Augmentation of training clips, in addition to the temporal jitter of frames."""

    flip: bool = True
    """Mirror half of the clips left to right."""
    min_crop_scale: float = 1.0
    """Random resized crop of at least this fraction of the area; 1 = no crop. It has no effect on cached frame vectors."""
    decode_size: int | None = None
    """Size at which frames are decoded before the crop; None = the encoder's size."""
    rand_augment: tuple[int, int] | None = None
    """Number of random operations (contrast, shear, shift, rotation ...) after the crop, and their strength of 10; TF-CoVR's code: 2 5."""
    per_frame: bool = False
    """Draw crop, mirroring and operations for each frame apart, as TF-CoVR's code does, instead of once per clip."""

    def __post_init__(self) -> None:
        _require(0 < self.min_crop_scale <= 1, "min_crop_scale", self.min_crop_scale, "in (0, 1]")
        if self.rand_augment is not None:
            num_operations, strength = self.rand_augment
            is_allowed = num_operations >= 1 and 0 <= strength <= 10
            allowed = "None, or a number of at least 1 and a strength of 0 to 10"
            _require(is_allowed, "rand_augment", self.rand_augment, allowed)
        size = self.decode_size
        _require(size is None or size >= 1, "decode_size", size, "None or at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage1Config:
    """Stage 1, action classification: trains the video encoder to distinguish near-identical actions."""

    encoder: TrainableConfig
    loop: LoopConfig
    pretrained_image: str | None = None
    """Name or file of pretrained weights for the image part; None = random weights."""
    freeze_pretrained: bool = True
    """Freeze pretrained weights and train only what the encoder adds to them (AIM: adapters, temporal embedding)."""
    order: Literal["shuffled", "label_balanced"] = "shuffled"
    """Order of an epoch; label_balanced draws every label equally often, and clips of rare labels several times."""
    recompute_activations: bool = False
    """Recompute activations of transformer blocks in the backward pass: less memory, a third more time."""
    loss: str = "smoothed_cross_entropy"
    """Name of a stage 1 loss in `training.losses.LOSSES`."""
    loss_options: Mapping[str, float] = field(default_factory=dict)
    """Parameters of the loss beyond `label_smoothing`, by name."""
    label_smoothing: float = 0.0
    head: Literal["labels", "factors"] = "labels"
    """Head over the labels; factors = its weights are sums over the attributes of each label, so that labels that training lacks have a place."""
    head_temperature: float = 0.07
    """Factors only: cosines are divided by it."""
    attributes: tuple[str, ...] = ()
    """Clip attributes that get their own classification head during training."""
    attribute_weight: float = 0.5
    """Weight of each attribute's loss; the label's loss has weight 1."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    num_cached_positions: int = 48
    """Frames per clip whose vectors are cached, for an encoder with a frozen image part."""
    decode_backend: DecodeChoice = "auto"
    """Decode backend; auto = one that uses the GPU, such as dali, where there is one and it is installed, otherwise pyav."""
    resize: Resize = "pillow_bicubic"
    """Resize method, recorded in the bundle's card; the default is that of the paper's release, swscale_area decodes large frames up to 1.7 times as fast."""
    color: Color = "bt601"
    """Colour matrix, recorded in the bundle's card; bt601 for every file is what the paper's release does (decord), file takes the one that each file names."""
    num_decode_threads: int = 2
    record_frames: bool = False
    """Write the frame indices that each epoch read of each clip to workers/<rank>/frames_read/."""
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
        _require(self.head_temperature > 0, "head_temperature", self.head_temperature, "above 0")
        weight = self.attribute_weight
        _require(weight >= 0, "attribute_weight", weight, "at least 0")
        check_decode_choice(self.decode_backend)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Config:
    """Stage 2, composition: trains queries (clip, edit text) towards the frozen vectors of their target clips."""

    loop: LoopConfig
    inputs: Literal["both", "video", "text"] = "both"
    """Inputs of a query; the other one is zeroed, as in the control rows of the evaluation."""
    fusion: Literal["combiner", "mean", "cross_attention", "factored"] = "combiner"
    """How clip and text become a query; factored = each attribute of the labels is edited on its own, with a Combiner beside it."""
    num_free_texts: int = 6000
    """Factored only: number of generated texts whose effect on every attribute is known, as training for the text alone."""
    keeps_length: bool = False
    """Give the fusion clip vectors as long as the encoder made them, as TF-CoVR's code does, instead of unit vectors."""
    projection_dim: int = 3072
    hidden_dim: int = 6144
    dropout: float = 0.5
    text: str = "packaged:all-MiniLM-L6-v2"
    """Name or folder of the text encoder: BLIP-2 (its Q-Former encodes the text), CLIP, or any sentence encoder."""
    number_words: bool = True
    """Replace 2.5 by "two and a half" before the text encoder, as in the paper."""
    released_words: bool = False
    """Replace numbers exactly as the released code does, which knows 0.5 to 7.0 only."""
    counts: bool = False
    """Also give the fusion the counts that a text names, with a learned vector for each."""
    max_tokens: int = 32
    train_text: bool = False
    """Train the text encoder too, instead of freezing it."""
    text_learning_rate_scale: float = 1.0
    """Factor on the learning rate of the text encoder."""
    loss: str = "hn_nce"
    """Name of a stage 2 loss in `training.losses.LOSSES`."""
    loss_options: Mapping[str, float] = field(default_factory=dict)
    """Parameters of the loss beyond `temperature`, `alpha` and `beta`, by name."""
    temperature: float = 0.07
    alpha: float = 1.0
    beta: float = 0.5
    mask_same_label: bool = False
    """Do not count a batch neighbour with the same target label as a negative. It is off in the paper's recipe."""
    val_protocol: Literal["unique", "tfcovr-release"] = "unique"
    """Protocol of the val score that chooses the best epoch; `tfcovr-release` is that of TF-CoVR's evaluator."""
    max_val_queries: int = 500
    """Maximum number of val queries; a larger split is thinned evenly."""
    train_split: str = "train"
    val_split: str = "val"

    def __post_init__(self) -> None:
        _require(self.temperature > 0, "temperature", self.temperature, "above 0")
        _require(self.alpha > 0, "alpha", self.alpha, "above 0")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        for name in ("projection_dim", "hidden_dim", "max_tokens", "max_val_queries"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.beta >= 0, "beta", self.beta, "at least 0")
        _require(self.num_free_texts >= 0, "num_free_texts", self.num_free_texts, "at least 0")
        scale = self.text_learning_rate_scale
        _require(scale >= 0, "text_learning_rate_scale", scale, "at least 0")
        parts = self.loop.num_accumulation_steps
        # The loss compares all queries of a step with each other.
        _require(parts == 1, "num_accumulation_steps", parts, "1 in stage 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchSettings:
    """Resources, progress and limits of a run; they do not change what it learns from the clips that it can read."""

    num_workers: int = 0
    """Number of Ray Train workers; 0 = the plain torch loop in this process."""
    cpus_per_worker: float = 1.0
    use_gpu: bool | None = None
    """Whether to train on a GPU; None = if there is one. A cluster that starts its nodes when work waits is asked for GPUs only by
    --launch.use-gpu."""
    max_failures: int = 3
    """Number of times that the run resumes from its last checkpoint after a worker crash."""
    address: str | None = None
    """Address of the Ray cluster; None = RAY_ADDRESS, or a local Ray."""
    frame_cache_gib: float = 32.0
    """Most that decoded frames may take in the run folder, so that stage 1 decodes each clip once; 0 = in every epoch."""
    show_progress: bool = True
    limits: MediaLimits = field(default_factory=MediaLimits)

    def __post_init__(self) -> None:
        _require(self.frame_cache_gib >= 0, "frame_cache_gib", self.frame_cache_gib, "at least 0")
        _require(self.num_workers >= 0, "num_workers", self.num_workers, "at least 0")
        _require(self.max_failures >= 0, "max_failures", self.max_failures, "at least 0")
        _require(self.cpus_per_worker > 0, "cpus_per_worker", self.cpus_per_worker, "above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuEstimate:
    """Assumed GPU throughput, where no GPU is measured."""

    num_gpus: tuple[int, ...] = (1, 8, 64)
    """Numbers of GPUs to project an epoch to."""
    tflop_per_s: float = 790.0
    """bf16 matrix throughput; the default was measured on an H200."""
    share: float = 0.4
    """Fraction of that throughput that training is assumed to reach."""

    def __post_init__(self) -> None:
        if not self.num_gpus or min(self.num_gpus) < 1:
            raise ValueError(f"num_gpus is {self.num_gpus}; each must be at least 1")
        if self.tflop_per_s <= 0 or not 0 < self.share <= 1:
            raise ValueError(
                f"tflop_per_s is {self.tflop_per_s} (above 0), share is {self.share} (in (0, 1])"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalConfig:
    """How intervals are drawn."""

    resample_by: tuple[ClusterKind, ...] = ("query_clip", "label_pair")
    """What is resampled, all at once: queries that share one of these are not independent."""
    num_resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.resample_by:
            raise ValueError(
                "resample_by is empty; name at least one of query, query_clip, label_pair"
            )
        if self.num_resamples < 1:
            raise ValueError(f"num_resamples is {self.num_resamples}; it must be at least 1")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Measure composed retrieval: mAP and Recall with intervals, beside the controls it must beat."""

    stage2: Path
    """Run folder of the composed row's stage 2: its bundle is measured, its config is the controls' budget."""
    triplets: Path
    run_dir: Path
    """metrics.json and the controls' runs go here."""
    clips: Path | None = None
    """clips.parquet, which tells all clips of the split; None = only clips that triplets name are searched."""
    vectors: Path | None = None
    """vectors.parquet of all clips, from the same encoder; None = computed into the run folder."""
    num_workers: int = 0
    """Ray workers for what has to be computed and trained; 0 = in this process."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    split: str = "test"
    rows: tuple[RowName, ...] = ALL_ROWS
    intervals: IntervalConfig = field(default_factory=IntervalConfig)
    rankings: bool = False
    """Also write the first 50 clips of every query and row to rankings.parquet."""

    def __post_init__(self) -> None:
        if not self.rows or len(set(self.rows)) != len(self.rows):
            raise ValueError(f"rows are {self.rows}; name each of {ALL_ROWS} at most once")
        if self.clips is None and self.vectors is None:
            raise ValueError("clips and vectors are both None; one is needed")
