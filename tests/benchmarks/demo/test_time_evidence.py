"""Evidence of time: families, accuracy within a family, shuffling, and rows against counting by hand."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.demo.evidence_rows import (
    TestSet,
    count_families,
    evidence_rows,
    right_given_family,
    shuffle_frames,
)
from benchmarks.demo.time_evidence import (
    cached_logits,
    labelled_test_set,
    read_stage1_config,
    with_temporal,
)
from encoders.clips import Clip
from training.annotations.labels.dive_numbers import parse_dive_number
from training.recipes import demo_actions
from training.trainer.run_folder import open_run

LABELS = ("103b", "105b", "107b", "5152b", "5154b", "5156b")


def clips_of(*labels):
    return tuple(
        Clip(
            clip_id=f"clip-{n}",
            video_uri=f"{n}.mp4",
            label=label,
            attributes=parse_dive_number(label).attributes,
        )
        for n, label in enumerate(labels)
    )


def test_families_differ_in_the_count_alone():
    labels = [*LABELS, "107c", "5251b", "5253b", "5255b", "5231d", "5233d"]
    attributes = {label: parse_dive_number(label).attributes for label in labels}
    assert count_families(attributes, "somersaults") == [("103b", "105b", "107b")]
    # 5251b, 5253b and 5255b leak their count; 5231d and 5233d are only two.
    assert count_families(attributes, "twists") == [("5152b", "5154b", "5156b")]


def test_accuracy_within_a_family_ignores_labels_outside_it():
    test = TestSet(clips=clips_of("103b", "5154b", "107b"), labels=LABELS)
    logits = torch.tensor(
        [
            [1.0, 0.0, 0.5, 9.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0, 2.0, 3.0],
            [2.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        ]
    )
    found = right_given_family(logits, test, [("103b", "105b", "107b")])
    assert found.tolist() == [1.0, 0.0]
    assert right_given_family(logits, test, [("5152b", "5154b", "5156b")]).tolist() == [0.0]


def test_shuffling_keeps_the_frames_and_depends_on_the_clip_alone():
    clips = clips_of("103b", "105b")
    vectors = torch.arange(2 * 9).reshape(2, 9, 1).float()
    shuffled = shuffle_frames(vectors, clips)
    assert torch.equal(shuffled.sort(dim=1).values, vectors)
    assert not torch.equal(shuffled, vectors)
    assert torch.equal(shuffle_frames(vectors[1:], clips[1:]), shuffled[1:])


class FirstFrame(torch.nn.Module):
    """Stands in for an encoder: the clip vector is the first frame's."""

    config = SimpleNamespace(num_frames=2)

    def pool(self, vectors_NTF):
        return vectors_NTF[:, 0]


def test_rows_count_what_is_right():
    labels = ("103b", "105b", "107b")
    clips = clips_of("103b", "105b", "107b", "107b")
    first = torch.eye(3)[[0, 1, 2, 0]]
    vectors = torch.stack([first, *[torch.zeros(4, 3)] * 3], dim=1)
    bundle = SimpleNamespace(video=FirstFrame(), head=torch.nn.Identity(), folder="x")
    logits = cached_logits(bundle, {"single_frame": bundle}, vectors, clips)
    test = TestSet(clips=clips, labels=labels)
    rows = {row["name"]: row for row in evidence_rows(logits, test)}
    assert rows["ordered"]["top1"] == 0.75
    assert rows["single_frame"]["top1"] == 0.75
    assert rows["ordered"]["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert rows["ordered"]["low"] <= 0.75 <= rows["ordered"]["high"]
    given = rows["count_given_family_somersaults"]
    assert given["top1"] == 0.75
    assert given["families"] == ["103b 105b 107b"]
    assert "count_given_family_twists" not in rows


def test_config_of_a_run_comes_back(tmp_path):
    config = dataclasses.replace(demo_actions(), attribute_weight=0.25)
    open_run(tmp_path, stage="stage1", config=config, inputs={})
    assert read_stage1_config(tmp_path) == config
    assert with_temporal(config, "mean").encoder.temporal == "mean"


def test_folder_without_a_stage1_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        read_stage1_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"stage": "stage2"}))
    with pytest.raises(ValueError, match="'stage2'"):
        read_stage1_config(tmp_path)


def test_shuffled_frames_are_drawn_evenly():
    clips = clips_of(*["103b"] * 400)
    vectors = torch.arange(4.0).repeat(400, 1)[..., None]
    means = shuffle_frames(vectors, clips).mean(dim=0)[:, 0].numpy()
    assert np.abs(means - 1.5).max() < 0.3


def test_a_clip_of_no_class_is_named():
    bundle = SimpleNamespace(card=SimpleNamespace(labels=("103b", "105b")), folder="runs/stage1")
    with pytest.raises(ValueError, match=r"clip 'clip-1' has the label '107b'; .* 103b, 105b"):
        labelled_test_set(clips_of("103b", "107b"), bundle)
