"""The drift gate lets a half-precision graph of ONNX Runtime through and refuses a damaged one, through the backend protocol."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from encoders.backends.registry import open_backend
from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import BundleMismatchError, read_card, with_bundle_id, write_card
from encoders.bundle.engine_records import DriftError, DriftLimits, check_drift
from encoders.export.drift import Probe, ProbeQuery, measure_drift
from encoders.export.drift_probe import synthetic_probe
from encoders.export.precision import reduce_precision
from encoders.files import hash_file
from encoders.stages.base import NO_ERROR

NAMES = ("video.onnx", "text.onnx", "fusion.onnx")


def change_graphs(bundle, folder, change):
    """A copy of the bundle whose graphs are others, with a card that says so."""
    shutil.copytree(bundle, folder)
    for name in NAMES:
        onnx.save(change(onnx.load(folder / name)), folder / name)
    card = read_card(folder)
    files = dict(card.files) | {name: hash_file(folder / name) for name in NAMES}
    write_card(folder, with_bundle_id(replace(card, files=files)))
    return folder


def damage(model):
    """A tenth of the numbers of the largest weight become zero: the graph still runs, and its vectors still have length 1."""
    tensor = max(model.graph.initializer, key=lambda one: np.prod(one.dims))
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[::10] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


@pytest.fixture
def half_bundle(exported_bundle, tmp_path):
    return change_graphs(
        exported_bundle, tmp_path / "half", lambda model: reduce_precision(model, "fp16")
    )


@pytest.fixture
def damaged_bundle(exported_bundle, tmp_path):
    return change_graphs(exported_bundle, tmp_path / "damaged", damage)


def test_half_precision_passes_and_damage_is_refused(exported_bundle, half_bundle, damaged_bundle):
    probe = synthetic_probe(read_card(exported_bundle).sampling, 24, with_queries=True)
    reports = measure_drift(
        open_backend(exported_bundle, "torch"),
        {
            "onnx": open_backend(exported_bundle, "onnx"),
            "half": open_backend(half_bundle, "onnx"),
            "damaged": open_backend(damaged_bundle, "onnx"),
        },
        probe,
    )
    exact, half, damaged = (reports[name] for name in ("onnx", "half", "damaged"))
    check_drift(exact, DriftLimits(), what="onnx")
    check_drift(half, DriftLimits(), what="half")
    assert exact.min_cosine_clips > half.min_cosine_clips > 0.9999
    assert exact.top_k_overlap == 1.0
    assert half.map_difference is half.map_of is None
    with pytest.raises(DriftError, match=r"damaged: too far from torch over 24 clips.*min_cosine"):
        check_drift(damaged, DriftLimits(), what="damaged")
    with pytest.raises(DriftError, match="was not run"):
        check_drift(None, DriftLimits(), what="engine")


def test_an_indexing_worker_takes_the_half_graph_and_refuses_the_damaged_one(
    half_bundle, damaged_bundle
):
    from encoders.stages.embed_stage import CheckedEmbedStage

    stage = CheckedEmbedStage(bundle_dir=str(half_bundle), backend="onnx")
    frames = synthetic_clips(read_card(half_bundle).sampling, 1, name="one")
    out = stage({"clip_id": np.array(["a"]), "frames": frames, "error": np.array([NO_ERROR])})
    assert 0.999 < out["canary_min_cosine"][0] < 1 - 1e-12
    with pytest.raises(BundleMismatchError, match="canary clips come back with cosine"):
        CheckedEmbedStage(bundle_dir=str(damaged_bundle), backend="onnx")


class Table:
    """Vectors from a table: clip i has its number in the first pixel; a query is its clip's vector, moved."""

    def __init__(self, vectors, shift=0.0):
        self.vectors, self.shift = np.asarray(vectors, np.float64), shift

    def embed_clips(self, frames):
        return self.vectors[frames[:, 0, 0, 0, 0]]

    def embed_queries(self, clip_vectors, edit_texts):
        return clip_vectors + self.shift * np.eye(clip_vectors.shape[1])[0]


def frames(num_clips):
    return np.arange(num_clips, dtype=np.uint8).reshape(-1, 1, 1, 1, 1)


def angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_the_figures_are_those_counted_by_hand():
    """Two pairs of one label each; in the candidate the clips at 10 and 80 degrees have changed places."""
    probe = Probe(frames_NTHWC=frames(4), source="hand", labels=("a", "a", "b", "b"))
    reference, candidate = Table(angles(0, 10, 80, 90)), Table(angles(0, 80, 10, 90))
    report = measure_drift(reference, {"it": candidate}, probe)["it"]
    assert report.min_cosine_clips == pytest.approx(np.cos(np.radians(70)))
    assert report.mean_cosine_clips == pytest.approx((2 + 2 * np.cos(np.radians(70))) / 4)
    assert report.top_k_overlap == 1.0  # of 3 others all 3 are among the first 3
    # Torch: every pair first, mAP 1. Candidate: the other of the pair comes second for the outer clips, last for the inner.
    assert (report.map_of, report.map_difference) == ("labels", pytest.approx(5 / 12 - 1))
    assert len(DriftLimits().problems(report)) == 3


def test_shared_neighbours_count_the_first_ten_of_every_clip_and_query():
    """13 clips on a quarter circle; the candidate swaps the last two, so one of ten neighbours of the first clips changes."""
    degrees = np.arange(13) * 5.0
    swapped = degrees.copy()
    swapped[[10, 11]] = swapped[[11, 10]]
    probe = Probe(frames_NTHWC=frames(13), source="hand")
    report = measure_drift(Table(angles(*degrees)), {"it": Table(angles(*swapped))}, probe)["it"]
    expected = []
    for clip in range(13):
        nearest = [
            sorted(
                (abs(values[clip] - values[other]), other) for other in range(13) if other != clip
            )
            for values in (degrees, swapped)
        ]
        left, right = ({other for _, other in row[:10]} for row in nearest)
        expected.append(len(left & right) / 10)
    assert min(expected) == 0.9
    assert report.top_k_overlap == pytest.approx(np.mean(expected))


def test_triplets_go_before_labels_and_queries_without_targets_count_for_cosines_only():
    queries = (
        ProbeQuery(clip=0, edit_text="more", targets=(2,)),
        ProbeQuery(clip=1, edit_text="less"),
    )
    probe = Probe(frames_NTHWC=frames(3), source="hand", labels=("a", "a", "b"), queries=queries)
    reference = Table(angles(0, 50, 20))
    report = measure_drift(reference, {"it": Table(angles(0, 50, 20), shift=-3.0)}, probe)["it"]
    assert (report.num_queries, report.map_of) == (2, "triplets")
    # Moved against the x axis, the first query finds clip 1 before its target, clip 2.
    assert report.map_difference == pytest.approx(-0.5)
    assert report.min_cosine_clips == pytest.approx(1)
    assert report.min_cosine_queries == pytest.approx(-1)


def test_a_vector_of_nan_is_never_within_the_limits():
    broken = angles(0, 10, 80, 90)
    broken[2] = np.nan
    probe = Probe(frames_NTHWC=frames(4), source="hand")
    report = measure_drift(Table(angles(0, 10, 80, 90)), {"it": Table(broken)}, probe)["it"]
    with pytest.raises(DriftError, match="min_cosine_clips is nan"):
        check_drift(report, DriftLimits(), what="broken")


def test_the_report_of_an_engine_comes_back_from_the_card(exported_bundle, tmp_path):
    from encoders.bundle.card import card_from_dict, card_to_dict
    from encoders.bundle.engine_records import EngineRecord, EngineTarget

    probe = Probe(frames_NTHWC=frames(4), source="hand", labels=("a", "a", "b", "b"))
    table = Table(angles(0, 10, 80, 90))
    record = EngineRecord(
        target=EngineTarget(
            library="tensorrt", version="11.4.0", gpu="NVIDIA H200", compute_capability="SM90"
        ),
        precision="fp16",
        reduced="most",
        max_batch_size=64,
        graphs={"video.onnx": "ab"},
        files={"video.engine": "cd"},
        drift=measure_drift(table, {"it": table}, probe)["it"],
        onnx_drift=None,
    )
    card = replace(read_card(exported_bundle), engines=(record,))
    assert card_from_dict(json.loads(json.dumps(card_to_dict(card)))) == card


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames_NTHWC": frames(1)}, "1 clips"),
        ({"labels": ("a",)}, "4 clips and 1 labels"),
        ({"queries": (ProbeQuery(clip=4, edit_text="x"),)}, "clip 4"),
    ],
)
def test_a_probe_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Probe(**{"frames_NTHWC": frames(4), "source": "hand"} | values)
    with pytest.raises(ValueError, match="min_cosine is 2"):
        DriftLimits(min_cosine=2)
