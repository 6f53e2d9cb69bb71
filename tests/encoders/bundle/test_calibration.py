"""Calibration against data whose answer is known: probabilities that are true, a threshold that keeps its precision, clips and texts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from encoders.bundle.calibration import (
    CALIBRATION_FILE,
    STATED_PRECISION,
    Answers,
    Calibration,
    ScoreCalibration,
    calibration_bytes,
    fit_clips,
    fit_scores,
    fit_texts,
    read_calibration,
)
from encoders.bundle.card import read_card, with_bundle_id, write_card
from encoders.bundle.checks import BundleMismatchError
from encoders.bundle.folder import save_bundle
from encoders.files import hash_file
from tests.support.bundles import make_parts

RNG = np.random.default_rng(0)


def _answers(num: int) -> Answers:
    """One hit an answer; it is right with probability 1 / (1 + exp(-(10 c - 4)))."""
    cosines_N1 = RNG.uniform(-0.2, 1, (num, 1))
    return _of(cosines_N1, RNG.random((num, 1)) < 1 / (1 + np.exp(4 - 10 * cosines_N1)))


def _of(cosines_NK: np.ndarray, is_right_NK: np.ndarray, num_clips: int = 100) -> Answers:
    return Answers(cosines_NK=cosines_NK, is_right_NK=is_right_NK, num_clips=num_clips)


def _best_of(num_clips: int, num: int = 4000) -> Answers:
    """Of every second answer the best of so many wrong clips, of the others a right one above nearly all of them."""
    wrong_N = RNG.normal(0.3, 0.1, (num, num_clips)).max(axis=1)
    is_right_N = np.arange(num) % 2 == 0
    right_N = RNG.normal(0.9, 0.05, num)
    return _of(np.where(is_right_N, right_N, wrong_N)[:, None], is_right_N[:, None], num_clips)


def test_probabilities_and_precision_hold_on_other_answers() -> None:
    fitted = fit_scores(_answers(4000))
    assert fitted is not None
    assert (fitted.slope, fitted.bias) == pytest.approx((10, -4), abs=0.8)
    others = _answers(4000)
    is_kept_N1 = others.cosines_NK >= fitted.min_cosine
    assert others.is_right_NK[is_kept_N1].mean() == pytest.approx(STATED_PRECISION, abs=0.03)


@pytest.mark.parametrize("num_clips", [16, 64, 512, 1024])
def test_precision_holds_among_more_or_fewer_clips(num_clips: int) -> None:
    fitted = fit_scores(_best_of(64), [_best_of(size) for size in (16, 32) for _ in range(8)])
    assert fitted is not None
    asked = _best_of(num_clips)
    is_kept_N1 = asked.cosines_NK >= fitted.min_cosine_among(num_clips)
    assert asked.is_right_NK[is_kept_N1].mean() == pytest.approx(STATED_PRECISION, abs=0.03)
    is_kept_N1 = asked.cosines_NK >= fitted.min_cosine
    assert num_clips == 64 or abs(asked.is_right_NK[is_kept_N1].mean() - STATED_PRECISION) > 0.03


def test_archives_of_quite_another_size_keep_the_nearest_known_threshold() -> None:
    score = ScoreCalibration(slope=1, bias=0, min_cosines=(0.46, 0.5, 0.54), num_clips=128)
    assert score.min_cosine_among(10_000_000) == pytest.approx(0.54)
    assert score.min_cosine_among(0) == pytest.approx(0.46)
    assert score.min_cosine_among(181) == pytest.approx(0.52, abs=1e-4)


def test_too_few_wrong_answers_fit_nothing() -> None:
    assert fit_scores(_of(RNG.uniform(0.5, 1, (50, 1)), np.ones((50, 1), bool))) is None
    assert fit_scores(_of(np.full((50, 1), np.nan), np.zeros((50, 1), bool))) is None


def test_a_clip_off_the_plane_of_the_training_clips_is_far() -> None:
    clips_ND = np.zeros((400, 16))
    clips_ND[:, :3] = RNG.normal(size=(400, 3))
    clips_ND /= np.linalg.norm(clips_ND, axis=1, keepdims=True)
    fitted = fit_clips(clips_ND[:200], clips_ND[200:])
    assert (fitted.distance(clips_ND[200:]) <= fitted.max_distance).mean() >= 0.97
    off_ND = clips_ND[:20] * 0.8
    off_ND[:, 7] = 0.6
    assert (fitted.distance(off_ND) > fitted.max_distance).all()
    assert np.isfinite(fit_clips(clips_ND[:1], clips_ND[:1]).max_distance)


def test_a_text_belongs_to_the_nearest_text() -> None:
    known, foreign, near = np.eye(4)[:2], np.eye(4)[2:3], np.array([[0.95, 0.0, 0.0, 0.3]])
    fitted = fit_texts(known, np.concatenate([foreign, near]))
    assert len(fitted.unrelated_TE) == 1  # `near` is about what the known texts are about
    texts = np.array([[3.0, 1.0, 1.0, 0.0], [0.1, 0.0, 0.9, 0.0]])
    assert fitted.is_related(texts).tolist() == [True, False]
    read = np.concatenate([texts, np.random.default_rng(0).normal(size=(2, 8)) * 9], axis=1)
    assert fitted.is_related(read).tolist() == [True, False]  # what a reader adds is no part of it


def test_all_texts_are_related_to_an_archive_that_is_about_all_of_them() -> None:
    fitted = fit_texts(np.eye(4), np.eye(4))
    assert len(fitted.unrelated_TE) == 0
    assert fitted.is_related(np.eye(4)).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("texts.known", np.ones(4)), ("texts.known", np.ones(())), ("texts.known", np.ones((0, 4))),
        ("texts.known", np.ones((2, 7))), ("texts.unrelated", np.ones((2, 7))), ("texts.unrelated", np.ones(4)),
        ("clips.mean", np.ones(7)), ("clips.mean", np.ones(())), ("clips.max_distance", np.array([-5.0])),
        ("clips.max_distance", np.ones(2)), ("score.composed", np.ones((3, 2))), ("score.composed", np.ones(2)),
    ],
)  # fmt: skip
def test_a_calibration_of_another_shape_is_named(
    tmp_path: Path, name: str, value: np.ndarray
) -> None:
    parts = make_parts()
    made = _calibration(parts["video"].config.embedding_dim)
    card = save_bundle(tmp_path / "bundle", **parts, calibration=made)
    path = tmp_path / "bundle" / CALIBRATION_FILE
    tensors = safetensors.numpy.load_file(path) | {name: value.astype(np.float32)}
    path.write_bytes(safetensors.numpy.save(tensors))
    card = replace(card, files={**card.files, CALIBRATION_FILE: hash_file(path)})
    with pytest.raises(
        BundleMismatchError, match=r"calibration\.safetensors.*(texts|clips|score)\."
    ):
        read_calibration(tmp_path / "bundle", card)


def _calibration(width: int) -> Calibration:
    score = fit_scores(_answers(500))
    assert score is not None
    clips_ND = RNG.normal(size=(8, width))
    texts = fit_texts(np.eye(4)[:2], np.eye(4)[2:])
    return Calibration(scores={"composed": score}, clips=fit_clips(clips_ND, clips_ND), texts=texts)


def test_a_bundle_keeps_its_calibration(tmp_path: Path) -> None:
    parts = make_parts()
    width = parts["video"].config.embedding_dim
    made = _calibration(width)
    card = save_bundle(tmp_path / "bundle", **parts, calibration=made)
    read = read_calibration(tmp_path / "bundle", card)
    assert read is not None
    assert read.scores == made.scores
    assert read.clips.max_distance == made.clips.max_distance
    np.testing.assert_array_equal(read.texts.known_TE, made.texts.known_TE)
    path = tmp_path / "bundle" / CALIBRATION_FILE
    path.write_bytes(calibration_bytes(_calibration(width + 1)))
    with pytest.raises(BundleMismatchError, match="sha256"):
        read_calibration(tmp_path / "bundle", card)
    files = {**card.files, CALIBRATION_FILE: hash_file(path)}
    write_card(tmp_path / "bundle", with_bundle_id(replace(card, files=files)))
    with pytest.raises(BundleMismatchError, match="whitening"):
        read_calibration(tmp_path / "bundle", read_card(tmp_path / "bundle"))
