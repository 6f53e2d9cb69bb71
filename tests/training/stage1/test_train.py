"""Data that no classifier can be trained on is refused before the run folder is made."""

from pathlib import Path

import pytest

from encoders.clips import Clip, write_clips
from training.recipes import RECIPES
from training.stage1.train import Stage1Inputs, train_stage1


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([("a", "train", "x"), ("b", "val", "x")], "every train clip has the label 'x'; a classifier needs at least 2"),
        ([("a", "train", "x"), ("b", "train", "y")], r"val_split is 'val', and no labelled clip has that split; it must be one of \['train'\]"),
        ([("a", "val", "x"), ("b", "test", "y")], r"train_split is 'train', .* one of \['test', 'val'\]"),
        ([("a", "train", None), ("b", "val", "y")], r"train_split is 'train', .* one of \['val'\]"),
        ([("a", "train", "x"), ("b", "train", "y"), ("c", "val", "z")], r"labels \['z'\] are in the val split only"),
        ([], r"train_split is 'train', and no labelled clip"),
    ],
)  # fmt: skip
def test_data_without_two_labels_or_a_split_is_refused(
    tmp_path: Path, clips: list[tuple[str, str, str | None]], message: str
) -> None:
    path = tmp_path / "clips.parquet"
    write_clips(
        path, [Clip(clip_id=i, video_uri=f"{i}.mp4", split=s, label=k) for i, s, k in clips]
    )
    with pytest.raises(ValueError, match=message) as raised:
        train_stage1(
            RECIPES["demo_actions_tiny"](), Stage1Inputs(clips_path=path), tmp_path / "run"
        )
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
