"""Stage 2 task: trains queries (clip, edit text) towards the frozen vectors of their target clips.

N queries of this worker, G of all workers, V width of clip vectors, D width of text vectors, L tokens.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoders.metrics import average_precision_at_k, rank_gallery, released_values
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.factored import FactoredFusion
from encoders.query_encoder.factors import Factor
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.text_encoder import TextEncoder, open_text_encoder
from encoders.query_encoder.token_reader import READS_PER_FACTOR
from training.annotations.triplets.table import Triplet, read_triplets
from training.configs import Stage2Config
from training.stage2.composer import QueryComposer
from training.stage2.factored import FactorBatches, FactoredComposer
from training.stage2.factors import read_factors, read_label_directions
from training.stage2.text_table import TextTable, read_texts
from training.trainer.loop import TaskFactory, World
from training.vectors.tables import read_lengths, read_unit_vectors, with_own_length

_VAL_K = 50


class Stage2Task:
    """Composed queries, as the training loop uses them."""

    score_name = f"val_map@{_VAL_K}"

    def __init__(  # noqa: PLR0913 - what a run reads, each once
        self,
        module: QueryComposer,
        triplets: Mapping[str, Sequence[Triplet]],
        vectors: Mapping[str, np.ndarray],
        texts: TextTable,
        config: Stage2Config,
        factors: FactorBatches | None = None,
        *,
        lengths: Mapping[str, float] | None = None,
    ) -> None:
        """`lengths` by clip id; needed with `keeps_length`."""
        self.module, self._texts, self._config = module, texts, config
        self._train, self._val = list(triplets["train"]), list(triplets["val"])
        ids = sorted(vectors)
        unit_MV = np.stack([vectors[clip_id] for clip_id in ids])
        self._vectors_MV = torch.from_numpy(unit_MV)
        self._inputs_MV = self._vectors_MV
        if config.keeps_length:
            self._inputs_MV = torch.from_numpy(with_own_length(unit_MV, ids, lengths or {}))
        self._number_by_id = {clip_id: n for n, clip_id in enumerate(ids)}
        self._targets = [
            np.array([self._number_by_id[clip] for clip in t.target_clip_ids]) for t in self._train
        ]
        labels = sorted({t.target_label for t in self._train if t.target_label is not None})
        number = {label: n for n, label in enumerate(labels)}
        self._labels_N = torch.tensor([number.get(t.target_label or "", -1) for t in self._train])
        self._queries = {"train": self._query_rows(self._train), "val": self._query_rows(self._val)}
        self._factors = factors

    @property
    def num_examples(self) -> int:
        return len(self._train)

    def _query_rows(self, triplets: Sequence[Triplet]) -> dict[str, Tensor]:
        clips = [self._number_by_id[triplet.query_clip_id] for triplet in triplets]
        texts = [self._texts.number_by_text[triplet.edit_text] for triplet in triplets]
        return {"clip": torch.tensor(clips), "text": torch.tensor(texts)}

    def _inputs(self, split: str, numbers: Tensor) -> dict[str, Tensor]:
        rows = self._queries[split]
        video_NV = self._inputs_MV[rows["clip"][numbers]]
        return {"video": video_NV, **self._texts.rows(rows["text"][numbers])}

    def draw_targets(self, epoch: int) -> np.ndarray:
        """One target per train triplet, as a row number of the vectors; drawn from (seed, epoch, triplet)."""
        shares = np.random.default_rng([self._config.loop.seed, epoch, 1]).random(len(self._train))
        return np.array(
            [
                rows[int(share * len(rows))]
                for rows, share in zip(self._targets, shares, strict=True)
            ]
        )

    def batches(self, epoch: int, steps: Sequence[np.ndarray]) -> Iterator[dict[str, Tensor]]:
        targets = torch.from_numpy(self.draw_targets(epoch))
        for place, step in enumerate(steps):
            numbers = torch.from_numpy(step)
            batch = {
                **self._inputs("train", numbers),
                "target": self._vectors_MV[targets[numbers]],
                "target_label": self._labels_N[numbers],
            }
            if self._factors is not None:
                clips = self._queries["train"]["clip"][numbers]
                drawn = (epoch, place, int(step[0]))
                batch |= self._factors.rows(numbers, clips, targets[numbers], drawn)
            yield batch

    def evaluate(self, world: World) -> dict[str, tuple[float, float]]:
        """mAP@50 of val queries, by the config's protocol."""
        if self._config.val_protocol == "tfcovr-release":
            return {self.score_name: self._evaluate_as_released(world)}
        return {self.score_name: self._evaluate_unique(world)}

    def _evaluate_as_released(self, world: World) -> tuple[float, float]:
        """A row's gallery is the first targets of all rows; the first worker computes it, as in the release."""
        if world.rank > 0:
            return 0.0, 0.0
        numbers = np.arange(len(self._val))
        size = self._config.loop.batch_size
        parts = [
            self._val_queries(numbers[start : start + size], world)
            for start in range(0, len(numbers), size)
        ]
        first = [self._number_by_id[triplet.target_clip_ids[0]] for triplet in self._val]
        values = released_values(
            np.concatenate(parts),
            self._vectors_MV[first].numpy(),
            own_ids=[triplet.query_clip_id for triplet in self._val],
            target_ids=[triplet.target_clip_ids for triplet in self._val],
        )[f"map@{_VAL_K}"]
        return sum(values), len(values)

    def _val_queries(self, numbers: np.ndarray, world: World) -> np.ndarray:
        inputs = self._inputs("val", torch.from_numpy(numbers))
        on_device = {name: value.to(world.device) for name, value in inputs.items()}
        return self.module.queries(on_device).float().cpu().numpy()

    def _evaluate_unique(self, world: World) -> tuple[float, float]:
        """Among the clips that val triplets name, each once; the query's own clip is hidden."""
        named = {c for t in self._val for c in (t.query_clip_id, *t.target_clip_ids)}
        gallery_ids = sorted(named)
        place = {clip_id: n for n, clip_id in enumerate(gallery_ids)}
        gallery = self._vectors_MV[[self._number_by_id[clip] for clip in gallery_ids]].numpy()
        total = count = 0.0
        size = self._config.loop.batch_size
        numbers = np.arange(len(self._val))[world.rank :: world.size]
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            queries_NV = self._val_queries(part, world)
            chosen = [self._val[number] for number in part]
            hidden = [(place[triplet.query_clip_id],) for triplet in chosen]
            places_NK, _scores = rank_gallery(queries_NV, gallery, hidden=hidden, k=_VAL_K)
            for triplet, places in zip(chosen, places_NK.tolist(), strict=True):
                ranking = [gallery_ids[p] for p in places if p >= 0]
                targets = set(triplet.target_clip_ids)
                total += average_precision_at_k(ranking, targets, k=_VAL_K)
                count += 1
        return total, count


@dataclass(frozen=True, kw_only=True)
class Stage2Factory(TaskFactory):
    """Builds the task in any worker from files alone."""

    config: Stage2Config
    triplets_path: str
    vectors_path: str
    clips_path: str | None = None
    init_bundle: str | None = None

    def build(self, world: World) -> Stage2Task:
        vectors = read_unit_vectors(self.vectors_path)
        triplets = select_triplets(read_triplets(self.triplets_path), vectors, self.config)
        text = open_text(self.config).to(world.device)
        width = len(next(iter(vectors.values())))
        clips_path = None if self.clips_path is None else Path(self.clips_path)
        init_bundle = None if self.init_bundle is None else Path(self.init_bundle)
        directions = read_label_directions(self.config, init_bundle)
        table = read_factors(self.config, triplets["train"], clips_path, directions)
        module = build_composer(self.config, text, video_dim=width, factors=table.factors)
        module.to(world.device)
        edit_texts = sorted({t.edit_text for part in triplets.values() for t in part})
        cache_dir = None if self.config.train_text else Path(self.vectors_path).parent
        texts = read_texts(edit_texts, text, cache_dir=cache_dir)
        factors = None
        if table.factors:
            train, ids = triplets["train"], sorted(vectors)
            factors = FactorBatches(table, text, train, ids, self.config, cache_dir=cache_dir)
        lengths = read_lengths(self.vectors_path) if self.config.keeps_length else None
        return Stage2Task(module, triplets, vectors, texts, self.config, factors, lengths=lengths)


def open_text(config: Stage2Config) -> TextEncoder:
    """The pretrained text encoder that the config names."""
    return open_text_encoder(
        config.text,
        max_tokens=config.max_tokens,
        number_words=config.number_words,
        released_words=config.released_words,
        counts=config.counts,
    )


def build_composer(
    config: Stage2Config, text: TextEncoder, *, video_dim: int, factors: tuple[Factor, ...] = ()
) -> QueryComposer:
    """The module at the start of training; its random weights depend on the seed alone.

    With factors the text encoder gets a reader, which is trained whether the rest of it is or not.
    """
    torch.manual_seed(config.loop.seed)
    reader = text.add_reader(READS_PER_FACTOR * len(factors)) if factors else None
    fusion = build_fusion(
        FusionConfig(
            kind=config.fusion,
            inputs=config.inputs,
            video_dim=video_dim,
            text_dim=text.text_dim,
            projection_dim=config.projection_dim,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
            factors=factors,
            read_dim=0 if reader is None else reader.width,
            keeps_length=config.keeps_length,
        )
    )
    if isinstance(fusion, FactoredFusion) and factors:
        return FactoredComposer(fusion, text, config)
    return QueryComposer(fusion, text, config)


def select_triplets(
    triplets: Sequence[Triplet], clip_ids: Collection[str], config: Stage2Config
) -> dict[str, list[Triplet]]:
    """Train and val triplets whose clips are among `clip_ids`, those with vectors; targets without one are left out. ValueError if nothing is left.

    The val split is thinned evenly to `max_val_queries`.
    """
    chosen: dict[str, list[Triplet]] = {}
    for name, split in (("train", config.train_split), ("val", config.val_split)):
        part = [triplet for triplet in triplets if triplet.split == split]
        if not part:
            splits = sorted({triplet.split or "(none)" for triplet in triplets})
            raise ValueError(
                f"{name}_split is {split!r}, and no triplet has that split; it must be one of {splits}"
            )
        kept = [t for t in (_with_vectors(triplet, clip_ids) for triplet in part) if t is not None]
        if not kept:
            raise ValueError(f"no triplet of the split {split!r} has clips with vectors")
        chosen[name] = sorted(kept, key=lambda triplet: triplet.query_id)
    val = chosen["val"]
    if len(val) > config.max_val_queries:
        places = np.linspace(0, len(val) - 1, config.max_val_queries).astype(int)
        chosen["val"] = [val[place] for place in places]
    return chosen


def _with_vectors(triplet: Triplet, clip_ids: Collection[str]) -> Triplet | None:
    targets = tuple(clip_id for clip_id in triplet.target_clip_ids if clip_id in clip_ids)
    if triplet.query_clip_id not in clip_ids or not targets:
        return None
    return (
        triplet if targets == triplet.target_clip_ids else replace(triplet, target_clip_ids=targets)
    )


def vectors_in(folder: Path) -> Path:
    """Path of the clip vectors that a run computes itself."""
    return folder / "vectors.parquet"
