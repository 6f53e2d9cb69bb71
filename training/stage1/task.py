"""Stage 1 task: action classification trains the video encoder to distinguish near-identical actions.

N clips, K classes, D width of the features.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from cluster.storage import write_atomic
from encoders.bundle.importer import open_weights
from encoders.clips import Clip, read_clips
from encoders.decoding.backends import choose_decode_backend, decode_backend
from encoders.media.container import MediaLimits
from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.base import VideoEncoder
from encoders.video_encoder.config import TrainableConfig
from encoders.video_encoder.frame_temporal import FrameTemporalEncoder, load_pretrained_image
from encoders.video_encoder.pretrained.aim_weights import load_weights
from encoders.video_encoder.registry import build_video_encoder
from training.configs import Stage1Config
from training.losses import loss_of
from training.stage1.data import (
    CachedFeatureSource,
    ClipSource,
    DecodedSource,
    ExampleSettings,
    balanced_order,
    load_ahead,
)
from training.stage1.factor_head import FactorHead
from training.stage1.frame_cache import FrameCache
from training.stage1.frame_vectors import VectorSource, read_frame_vectors
from training.trainer.activation_checkpointing import checkpoint_blocks
from training.trainer.loop import TaskFactory, World

IMAGE_PART = "image_part.safetensors"
DECODE_REPORT = "decode.json"
FRAMES = "frames"
"""Folder of decoded frames below the run folder; it may be deleted when the run is over."""


class ActionClassifier(nn.Module):
    """An encoder, a head over actions, and a head per attribute that is used in training only."""

    def __init__(
        self, encoder: VideoEncoder, classes: Mapping[str, Sequence[str]], config: Stage1Config
    ) -> None:
        super().__init__()
        width = encoder.config.embedding_dim
        self.encoder = encoder
        self.head: nn.Linear | FactorHead
        if config.head == "factors":
            temperature = config.head_temperature
            self.head = FactorHead(classes["label"], width, temperature=temperature)
        else:
            self.head = nn.Linear(width, len(classes["label"]))
        self.attribute_heads = nn.ModuleDict(
            {name: nn.Linear(width, len(classes[name])) for name in config.attributes}
        )
        self._config, self._loss = config, loss_of(config)
        # DDP must know: a control that looks at each frame alone never uses the frame positions.
        self.may_leave_parameters_unused = (
            getattr(encoder.config, "temporal", "ordered") != "ordered"
        )

    def linear_head(self) -> nn.Linear:
        """The head as a bundle keeps it."""
        return self.head.as_linear() if isinstance(self.head, FactorHead) else self.head

    def features(self, batch: Mapping[str, Tensor]) -> Tensor:
        if "frame_vectors" in batch:
            return cast(FrameTemporalEncoder, self.encoder).pool(batch["frame_vectors"])
        return self.encoder.features(batch["frames"])

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        features_ND = self.features(batch)
        logits_NK = self.head(features_ND)
        weights_N = batch["weights"]
        config = self._config
        losses = self._loss(logits_NK, batch["label"], weights_N, config)
        for name, head in self.attribute_heads.items():
            losses = losses + config.attribute_weight * self._loss(
                head(features_ND), batch[name], weights_N, config
            )
        is_right_N = (logits_NK.argmax(dim=1) == batch["label"]) * weights_N
        return {"loss": losses, "top1": is_right_N.sum() / weights_N.sum().clamp(min=1)}


class Stage1Task:
    """Action classification, as the training loop uses it."""

    score_name = "val_top1"

    def __init__(
        self,
        module: ActionClassifier,
        sources: Mapping[str, ClipSource],
        classes: Mapping[str, Sequence[str]],
        config: Stage1Config,
        worker_dir: Path,
    ) -> None:
        self.module, self._config, self._worker_dir = module, config, worker_dir
        self._train, self._val = sources["train"], sources["val"]
        self._train_targets = _targets(self._train.clips, classes)
        self._val_targets = _targets(self._val.clips, classes)

    @property
    def num_examples(self) -> int:
        return len(self._train.clips)

    def epoch_order(self, epoch: int) -> np.ndarray | None:
        """Example numbers of the epoch; None = the loop's own shuffling."""
        if self._config.order == "shuffled":
            return None
        rng = np.random.default_rng([self._config.loop.seed, epoch])
        return balanced_order(self._train_targets["label"].numpy(), rng)

    def batches(self, epoch: int, steps: Sequence[np.ndarray]) -> Iterator[dict[str, Tensor]]:
        num_threads = self._config.num_decode_threads
        loaded = load_ahead(self._train, steps, epoch=epoch, num_threads=num_threads)
        for numbers, batch in zip(steps, loaded, strict=True):
            where = torch.from_numpy(numbers)
            yield batch | {name: t[where] for name, t in self._train_targets.items()}
        self._write_decode_report()
        if isinstance(self._train, DecodedSource):
            self._train.require_one_clip()
            if self._config.record_frames:
                path = self._worker_dir / "frames_read" / f"epoch-{epoch:04d}.json"
                self._train.write_frames_read(path, epoch)
            self._train.forget_frames_read()

    def _write_decode_report(self) -> None:
        readers = (
            CachedFeatureSource,
            DecodedSource,
        )  # sources in memory, as in tests, decode nothing
        sources = [s for s in (self._train, self._val) if isinstance(s, readers)]
        reports = [source.decode_report() for source in sources]
        report = {
            "backends": sorted({backend for r in reports for backend in r.backends}),
            "dead": {clip_id: reason for r in reports for clip_id, reason in r.dead.items()},
        }
        write_atomic(self._worker_dir / DECODE_REPORT, json.dumps(report))

    def evaluate(self, world: World) -> dict[str, tuple[float, float]]:
        """Top-1 on the val split; clips that cannot be decoded have no weight."""
        numbers = np.arange(len(self._val.clips))[world.rank :: world.size]
        size = max(1, self._config.loop.batch_size // world.size)
        steps = [numbers[n : n + size] for n in range(0, len(numbers), size)]
        num_threads = self._config.num_decode_threads
        right = seen = 0.0
        loaded = load_ahead(self._val, steps, epoch=None, num_threads=num_threads)
        for step, batch in zip(steps, loaded, strict=True):
            on_device = {name: value.to(world.device) for name, value in batch.items()}
            logits_NK = self.module.head(self.module.features(on_device))
            labels_N = self._val_targets["label"][torch.from_numpy(step)]
            right += float(((logits_NK.argmax(dim=1).cpu() == labels_N) * batch["weights"]).sum())
            seen += float(batch["weights"].sum())
        return {"val_top1": (right, seen)}


@dataclass(frozen=True, kw_only=True)
class Stage1Factory(TaskFactory):
    """Builds the task in any worker from files alone."""

    config: Stage1Config
    clips_path: str
    run_dir: str
    frame_vectors_dir: str
    frame_cache_gib: float = 0.0
    """Most that decoded frames may take in the run folder; 0 = none are kept."""
    limits: MediaLimits = field(default_factory=MediaLimits)

    def build(self, world: World) -> Stage1Task:
        config = self.config
        clips = select_clips(read_clips(self.clips_path), config)
        classes = class_names(clips["train"], config)
        module = build_classifier(config, classes).to(world.device)
        settings = ExampleSettings(
            num_frames=config.encoder.num_frames,
            image_size=config.encoder.image_size,
            augment=config.augment,
            seed=config.loop.seed,
            resize=config.resize,
            color=config.color,
            limits=self.limits,
        )
        cache = None
        if self.frame_cache_gib and config.loop.num_epochs > 2:  # the first costs more with it
            cache = FrameCache(Path(self.run_dir) / FRAMES, int(self.frame_cache_gib * 2**30))
        sources: dict[str, ClipSource] = {}
        for name, part in clips.items():
            if has_frozen_image_part(config.encoder):
                source = self.vector_source(world.device)
                vectors = read_frame_vectors(part, source, Path(self.frame_vectors_dir))
                sources[name] = CachedFeatureSource(part, vectors, settings)
            else:
                backend = choose_decode_backend(config.decode_backend, world.device)
                on_gpu = decode_backend(backend).device_kind_for(world.device) == "cuda"
                # Its own GPU: Ray Train lets every worker of a node see all of them.
                device = world.device if on_gpu else "cpu"
                sources[name] = DecodedSource(
                    part, settings, backend=backend, device=device, cache=cache
                )
        worker_dir = Path(self.run_dir) / "workers" / str(world.rank)
        return Stage1Task(module, sources, classes, config, worker_dir)

    def vector_source(self, device: str) -> VectorSource:
        """The source of this run's cached frame vectors; writes the image part that computes them."""
        path = Path(self.run_dir) / IMAGE_PART
        if not _is_safetensors(path):  # not there, or damaged: the same weights each time
            image: Any = build_encoder(self.config).image
            write_atomic(path, safetensors.torch.save(image.state_dict()))
        return VectorSource(
            config=self.config.encoder,
            weights_path=str(path),
            num_positions=self.config.num_cached_positions,
            resize=self.config.resize,
            color=self.config.color,
            decode_backend=choose_decode_backend(self.config.decode_backend, device),
            device=device,
        )


def _is_safetensors(path: Path) -> bool:
    """Whether the header of a file is whole and describes all of its bytes."""
    try:
        with safetensors.safe_open(path, "pt"):
            return True
    except (safetensors.SafetensorError, OSError):
        return False


def has_frozen_image_part(config: TrainableConfig) -> bool:
    """Whether frame vectors can be computed once and cached."""
    return config.kind == "frame_temporal"


def build_encoder(config: Stage1Config) -> VideoEncoder:
    """The encoder at the start of training; its random weights depend on the seed alone."""
    torch.manual_seed(config.loop.seed)
    encoder = build_video_encoder(config.encoder)
    if config.pretrained_image is None:
        return encoder
    if isinstance(encoder, AimEncoder):
        load_weights(encoder, open_weights(config.pretrained_image))
    elif isinstance(encoder, FrameTemporalEncoder):
        load_pretrained_image(encoder, config.pretrained_image)
    if config.freeze_pretrained:
        encoder.freeze_pretrained()
    return encoder


def build_classifier(
    config: Stage1Config, classes: Mapping[str, Sequence[str]]
) -> ActionClassifier:
    """Encoder and heads at the start of training."""
    classifier = ActionClassifier(build_encoder(config), classes, config)
    if config.recompute_activations:
        checkpoint_blocks(classifier.encoder)
    return classifier


def select_clips(clips: Sequence[Clip], config: Stage1Config) -> dict[str, list[Clip]]:
    """The labelled clips of the train and val splits; ValueError if a split has none, or val a label that train lacks."""
    chosen: dict[str, list[Clip]] = {}
    for name, split in (("train", config.train_split), ("val", config.val_split)):
        part = [clip for clip in clips if clip.split == split and clip.label is not None]
        if not part:
            splits = sorted({clip.split or "(none)" for clip in clips if clip.label is not None})
            raise ValueError(
                f"{name}_split is {split!r}, and no labelled clip has that split; it must be one of {splits}"
            )
        chosen[name] = sorted(part, key=lambda clip: clip.clip_id)
    unknown = {clip.label for clip in chosen["val"]} - {clip.label for clip in chosen["train"]}
    if unknown:
        raise ValueError(f"labels {sorted(map(str, unknown))} are in the val split only")
    return chosen


def class_names(clips: Sequence[Clip], config: Stage1Config) -> dict[str, list[str]]:
    """`label` and each attribute -> its values in the train split, sorted."""
    names = {"label": sorted({str(clip.label) for clip in clips})}
    if len(names["label"]) < 2:
        raise ValueError(
            f"every train clip has the label {names['label'][0]!r}; a classifier needs at least 2 labels"
        )
    for attribute in config.attributes:
        values = {clip.attributes[attribute] for clip in clips if attribute in clip.attributes}
        if not values:
            raise ValueError(f"no train clip has the attribute {attribute!r}")
        names[attribute] = sorted(values)
    return names


def _targets(clips: Sequence[Clip], classes: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Class numbers per head; -1 for a value that is missing or not in the train split."""
    targets: dict[str, Tensor] = {}
    for name, values in classes.items():
        number = {value: n for n, value in enumerate(values)}
        clip_values = [
            clip.label if name == "label" else clip.attributes.get(name) for clip in clips
        ]
        targets[name] = torch.tensor([number.get(str(value), -1) for value in clip_values])
    return targets
