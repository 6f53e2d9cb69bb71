"""Distance of losses, evaluator, Combiner, text splitting and readers from TF-CoVR's released behaviour, in float64.

The reference is `released`, which restates that behaviour in NumPy; the worlds are drawn, with duplicated targets, names that a list
gives twice, and ties between different clips. `python -m benchmarks.fidelity.release` writes these figures alone.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.fidelity import released
from benchmarks.harness.record import write_record
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.numbers import normalize_as_released
from training import losses
from training.annotations.readers.rows import Problems
from training.annotations.readers.tfcovr import TfcovrFiles, read_tfcovr
from training.annotations.readers.video_folder import VideoFolder
from training.annotations.triplets.table import Triplet
from training.evaluation.release_protocol import release_metrics
from training.vectors.tables import with_own_length

_TEMPERATURE = 0.07
_SETTINGS = ((2, 1.0, 0.5), (5, 0.7, 1.0), (9, 1.0, 0.0), (12, 2.0, 0.5))
"""Batch size, alpha and beta."""
_NUM_WORLDS = 6
_NUM_TEXTS = 2000
_ALPHABET = ("2.5", "0.5", "7", "8", "10", ".", "a", "Twist", " ", "  ", "\t", "\n", "\u00a0", "!", '"', "(", ":", "_", "\u0663", "-")  # fmt: skip


def measure_losses() -> dict[str, float]:
    """Largest differences: of a loss, and of a derivative by a cosine, relative to the largest derivative."""
    loss_error = grad_error = 0.0
    for seed, (size, alpha, beta) in enumerate(_SETTINGS):
        rng = np.random.default_rng(seed)
        cosine_NN = np.clip(rng.normal(size=(size, size)) * 0.4, -1, 1)
        labels_N = torch.from_numpy(rng.integers(3, size=size))
        mask_NN = losses.same_label_mask(labels_N)
        for ours, theirs in _pairs(alpha, beta, mask_NN):
            tensor = torch.tensor(cosine_NN, requires_grad=True)
            loss = ours(tensor)
            loss.backward()
            assert tensor.grad is not None

            def of_cosine(values: np.ndarray, theirs: released.Loss = theirs) -> complex:
                return theirs(values / _TEMPERATURE)

            expected = of_cosine(cosine_NN.astype(complex)).real
            expected_NN = released.gradient(of_cosine, cosine_NN)
            loss_error = max(loss_error, abs(float(loss.detach()) - expected))
            difference = float(np.abs(tensor.grad.numpy() - expected_NN).max())
            grad_error = max(grad_error, difference / float(np.abs(expected_NN).max()))
    return {"release_loss_error": loss_error, "release_grad_error": grad_error}


def _pairs(
    alpha: float, beta: float, mask_NN: Tensor
) -> list[tuple[Callable[[Tensor], Tensor], released.Loss]]:
    """Each loss and its restatement."""
    weights: dict[str, Any] = {"temperature": _TEMPERATURE, "alpha": alpha, "beta": beta}
    plain: dict[str, Any] = {"temperature": _TEMPERATURE, "beta": beta}
    mask = mask_NN.numpy()
    return [
        (
            lambda c: losses.hn_nce(c, **weights),
            lambda s: released.hn_nce(s, alpha, beta, as_released=False),
        ),
        (
            lambda c: losses.hn_nce_released(c, **weights),
            lambda s: released.hn_nce(s, alpha, beta, as_released=True),
        ),
        (lambda c: losses.cross_entropy(c, temperature=_TEMPERATURE), released.cross_entropy),
        (
            lambda c: losses.false_negative(c, mask_NN, mode="elimination", **plain),
            lambda s: released.false_negative(s, mask, beta, "elimination"),
        ),
        (
            lambda c: losses.false_negative(c, mask_NN, mode="attraction", **plain),
            lambda s: released.false_negative(s, mask, beta, "attraction"),
        ),
    ]


def release_eval_error() -> float:
    """Largest difference of a metric in percent points; both are rounded to 2 digits, as the release does."""
    error = 0.0
    for seed in range(_NUM_WORLDS):
        rows, queries_ND, vectors = draw_world(seed)
        with tempfile.TemporaryDirectory(prefix="tfcovr-release-") as folder:
            triplets = read_rows(rows, Path(folder))
        metrics = release_metrics(triplets, queries_ND, vectors)
        expected = released.evaluate(rows, queries_ND, vectors)
        error = max(error, *(abs(metrics[k] - round(v, 2)) for k, v in expected.items()))
    return error


def draw_world(
    seed: int,
) -> tuple[list[dict[str, Any]], np.ndarray, dict[str, np.ndarray]]:
    """Annotation rows, query vectors and clip vectors. Components are halves, so that different clips tie exactly."""
    rng = np.random.default_rng(seed)
    names = [f"video_{n}" for n in range(int(rng.integers(8, 40)))]
    vectors = {name: rng.choice([-0.5, 0.5], size=4) for name in names}
    rows = []
    for number in range(int(rng.integers(6, 90))):
        query, target, *others = rng.choice(names, size=int(rng.integers(2, 8)), replace=False)
        listed = [str(target), *map(str, others)]
        listed += [str(name) for name in rng.choice(listed, size=int(rng.integers(0, 4)))]
        rows.append(
            {
                "query_id": number,
                "query_video": str(query),
                "target_video": str(target),
                "modification": "with 2.5 turns",
                "target_videos_ids": [str(name) for name in rng.permutation(listed)],
            }
        )
    return rows, rng.choice([-0.5, 0.5], size=(len(rows), 4)), vectors


def read_rows(rows: Sequence[dict[str, Any]], folder: Path) -> list[Triplet]:
    """Through a test CSV in the released form."""
    path = folder / "test.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    videos = VideoFolder(folder, must_exist=False)
    return read_tfcovr(TfcovrFiles(test=path), videos, Problems()).triplets


def raw_combiner_error() -> float:
    """Largest difference of a query vector, the clip vectors coming as unit vectors and their lengths."""
    rng = np.random.default_rng(0)
    error = 0.0
    for width, text_dim, projected, hidden in ((6, 5, 8, 10), (16, 16, 64, 128)):
        config = FusionConfig(
            kind="combiner", video_dim=width, text_dim=text_dim, projection_dim=projected,
            hidden_dim=hidden, keeps_length=True,
        )  # fmt: skip
        torch.manual_seed(width)
        fusion = build_fusion(config).double().eval()
        raw_ND = rng.normal(size=(4, width)) * rng.uniform(2, 12, size=(4, 1))
        texts_ND = rng.normal(size=(4, text_dim))
        length_N = np.linalg.norm(raw_ND, axis=1)
        ids = [f"clip_{n}" for n in range(len(raw_ND))]
        lengths = dict(zip(ids, length_N.tolist(), strict=True))
        inputs_ND = with_own_length(raw_ND / length_N[:, None], ids, lengths)
        weights = {name: value.numpy() for name, value in fusion.state_dict().items()}
        with torch.no_grad():
            found_ND = fusion(torch.from_numpy(inputs_ND), torch.from_numpy(texts_ND)).numpy()
        for clip_D, text_D, found_D in zip(raw_ND, texts_ND, found_ND, strict=True):
            expected_D = released.combine(clip_D, text_D, weights)
            error = max(error, float(np.abs(found_D - expected_D).max()))
    return error


def release_text_differences() -> int:
    """Number of drawn texts that are split differently, or come back changed from an annotation file."""
    rng = np.random.default_rng(0)
    texts = [
        "".join(rng.choice(_ALPHABET, size=int(rng.integers(1, 90)))) for _ in range(_NUM_TEXTS)
    ]
    texts = [text for text in texts if text.strip()]
    rows = [
        {"query_id": n, "query_video": "a", "target_video": "b", "modification": text, "target_videos_ids": ["b"]}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tfcovr-release-") as folder:
        read = [triplet.edit_text for triplet in read_rows(rows, Path(folder))]
    return sum(
        normalize_as_released(ours) != released.normalize(text)
        for ours, text in zip(read, texts, strict=True)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: writes the record `fidelity_release`."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity.release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)
    figures = {
        **measure_losses(),
        "release_eval_error": release_eval_error(),
        "raw_combiner_error": raw_combiner_error(),
        "release_text_differences": float(release_text_differences()),
    }
    metrics = {name: float(value) for name, value in figures.items()}
    sys.stdout.write("".join(f"{name}: {value:.6g}\n" for name, value in metrics.items()))
    config = {"batches": _SETTINGS, "worlds": _NUM_WORLDS, "texts": _NUM_TEXTS}
    sys.stdout.write(f"{write_record('fidelity_release', config=config, metrics=metrics)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
