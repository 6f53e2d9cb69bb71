"""Triplets that nothing can be learned from are refused before the run folder is made."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from training.annotations.triplets.table import Triplet, write_triplets
from training.recipes import RECIPES
from training.stage2.train import Stage2Inputs, train_stage2
from training.vectors.tables import write_table


@pytest.mark.parametrize(
    ("splits", "clip_ids", "message"),
    [
        (["train"], "ab", r"val_split is 'val', and no triplet has that split; it must be one of \['train'\]"),
        (["val"], "ab", r"train_split is 'train', and no triplet has that split; it must be one of \['val'\]"),
        ([], "ab", r"train_split is 'train', and no triplet has that split; it must be one of \[\]"),
        (["train", "val"], "a", "no triplet of the split 'train' has clips with vectors"),
    ],
)  # fmt: skip
def test_an_empty_split_is_refused(
    tmp_path: Path, splits: list[str], clip_ids: str, message: str
) -> None:
    triplets = [
        Triplet(query_id=split, query_clip_id="a", edit_text="in tuck", target_clip_ids=("b",), split=split)
        for split in splits
    ]  # fmt: skip
    write_triplets(tmp_path / "triplets.parquet", triplets)
    vectors = pa.table({"clip_id": list(clip_ids), "embedding": list(np.eye(4)[: len(clip_ids)])})
    write_table(tmp_path / "vectors.parquet", vectors)
    inputs = Stage2Inputs(
        triplets_path=tmp_path / "triplets.parquet", vectors_path=tmp_path / "vectors.parquet"
    )
    with pytest.raises(ValueError, match=message) as raised:
        train_stage2(RECIPES["demo_fusion_tiny"](), inputs, tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
