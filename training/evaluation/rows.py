"""Rows of an evaluation: the query vectors of each, and the bundle that computes them.

`composed` is the stage 2 run that is measured. The controls are stage 2 runs that differ from it in one
thing (the text zeroed, the clip zeroed, two averaged linear projections for the fusion) and share recipe,
budget, data and seed; they are trained when they are missing. `raw` is the clip's own vector.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from encoders.bundle.folder import TEXT_ARCHITECTURE, TEXT_WEIGHTS, TOKENIZER, Bundle, load_bundle
from encoders.files import from_dict, read_json
from training.configs import LaunchSettings, RowName, Stage2Config
from training.evaluation.problem import RetrievalProblem
from training.stage2.train import Stage2Inputs, train_stage2
from training.trainer.run_folder import BUNDLE, CONFIG, RESULT, hash_file

# The change of each control to the composed row's config.
_CONTROLS: dict[str, dict[str, Any]] = {
    "video_only": {"inputs": "video"},
    "text_only": {"inputs": "text"},
    "mean": {"fusion": "mean"},
}
_TEXTS_AT_ONCE = 64
_QUERIES_AT_ONCE = 1024


@dataclass(kw_only=True)
class QueryEncoder:
    """As `bundle.encode_queries`, but each distinct text is encoded once per text encoder, not once per row."""

    _text_vectors: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __call__(
        self, bundle: Bundle, clip_vectors_ND: np.ndarray, edit_texts: Sequence[str]
    ) -> np.ndarray:
        """Unit query vectors [N, D]."""
        if bundle.text is None or bundle.fusion is None:
            raise ValueError(
                f"{bundle.folder} is not a stage 2 bundle: text encoder and fusion are missing"
            )
        files = bundle.card.files
        key = " ".join(files[name] for name in (TEXT_WEIGHTS, TEXT_ARCHITECTURE, TOKENIZER))
        vector_by_text = self._text_vectors.setdefault(f"{key} {bundle.card.text}", {})
        texts = sorted(set(edit_texts) - vector_by_text.keys())
        queries: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                part = texts[start : start + _TEXTS_AT_ONCE]
                vector_by_text.update(zip(part, bundle.text.encode(part), strict=True))
            for start in range(0, len(edit_texts), _QUERIES_AT_ONCE):
                block = slice(start, start + _QUERIES_AT_ONCE)
                text_ND = torch.stack([vector_by_text[text] for text in edit_texts[block]])
                queries.append(bundle.fusion(torch.from_numpy(clip_vectors_ND[block]), text_ND))
        return torch.cat(queries).numpy()


@dataclass(kw_only=True)
class RowMaker:
    """Makes the query vectors of any row; trains missing controls."""

    stage2_dir: Path
    """Run folder of the composed row, finished."""
    vectors_path: Path
    triplets_path: Path
    rows_dir: Path
    """Folder that holds the run folder of each control."""
    launch: LaunchSettings = field(default_factory=LaunchSettings)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Run folder, bundle id and inputs of the queries, by row; filled as rows are made."""
    _encode: QueryEncoder = field(default_factory=QueryEncoder)

    def queries(self, name: RowName, problem: RetrievalProblem) -> np.ndarray:
        """Unit query vectors [N, D] of a row."""
        if name == "raw":
            self.sources[name] = {"query": "the clip vector itself"}
            return problem.clips_ND
        run_dir = self.stage2_dir if name == "composed" else self._train_control(name)
        bundle = load_bundle(run_dir / BUNDLE)
        check_encoder(bundle, self.vectors_path)
        self.sources[name] = {
            "run_dir": str(run_dir),
            "bundle_id": bundle.card.bundle_id,
            "fusion": None if bundle.fusion is None else bundle.fusion.config.kind,
            "inputs": None if bundle.fusion is None else bundle.fusion.config.inputs,
        }
        texts = [triplet.edit_text for triplet in problem.triplets]
        keeps_length = bundle.fusion is not None and bundle.fusion.config.keeps_length
        return self._encode(bundle, problem.fusion_clips(keeps_length=keeps_length), texts)

    def _train_control(self, name: str) -> Path:
        """Train the control, or resume or reuse an earlier run; returns its run folder."""
        config = replace(read_stage2_config(self.stage2_dir), **_CONTROLS[name])
        check_triplets(self.stage2_dir, self.triplets_path)
        run_dir = self.rows_dir / name
        inputs = Stage2Inputs(
            triplets_path=self.triplets_path,
            init_bundle=self.stage2_dir / BUNDLE,
            vectors_path=self.vectors_path,
        )
        train_stage2(config, inputs, run_dir, self.launch)
        return run_dir


def check_encoder(bundle: Bundle, vectors_path: Path) -> None:
    """ValueError for vectors of another encoder, if the file records its encoder."""
    metadata = pq.ParquetFile(vectors_path).schema_arrow.metadata or {}
    key = json.loads(metadata.get(b"tfcovr", b"{}")).get("key", "")
    if key and key.split()[0] != bundle.card.encoder_id:
        raise ValueError(
            f"{vectors_path} was made by encoder {key.split()[0]}, but {bundle.folder} has encoder "
            f"{bundle.card.encoder_id}; compute the vectors with this bundle"
        )


def check_triplets(stage2_dir: Path, triplets_path: Path) -> None:
    """ValueError unless the controls would be trained on the composed row's own triplets."""
    used = read_json(stage2_dir / CONFIG).get("inputs", {}).get("triplets")
    if used != hash_file(triplets_path):
        raise ValueError(
            f"{stage2_dir} was not trained on {triplets_path}, so controls trained on that file would not be "
            "comparable; give the triplets of the run, or only --rows composed raw"
        )


def read_stage2_config(run_dir: Path) -> Stage2Config:
    """The resolved config that a finished stage 2 run wrote."""
    path = run_dir / CONFIG
    if not path.exists() or not (run_dir / RESULT).exists():
        raise ValueError(f"{run_dir} holds no finished stage 2 run; train it first (tfcovr train)")
    described = read_json(path)
    if described.get("stage") != "stage2":
        raise ValueError(f"{path}: stage is {described.get('stage')!r}; it must be 'stage2'")
    try:
        return from_dict(Stage2Config, described.get("config"), "config")
    except ValueError as error:
        raise ValueError(f"{path} is from another version ({error})") from error
