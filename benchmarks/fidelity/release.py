"""Distance of losses, evaluator, Combiner, text splitting and readers from TF-CoVR's released behaviour, in float64.

The reference is `released`, which restates that behaviour in NumPy; the worlds are drawn, with duplicated targets, names that a list
gives twice, and ties between different clips. `python -m benchmarks.fidelity.release` writes these figures alone.
"""

import argparse
import ast
import csv
import pickle  # noqa: TID251 - writes the format that the reader must read
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fidelity import released
from benchmarks.harness.record import write_record
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.numbers import normalize_as_released
from training import losses
from training.annotations.embeddings.import_embeddings import (
    ImportEmbeddingsConfig,
    import_embeddings,
)
from training.annotations.readers.rows import Problems
from training.annotations.readers.tfcovr import TfcovrFiles, read_tfcovr
from training.annotations.readers.video_folder import VideoFolder
from training.annotations.triplets.table import Triplet
from training.evaluation.release_protocol import release_metrics
from training.vectors.tables import read_lengths, read_unit_vectors, with_own_length

_TEMPERATURE = 0.07
_SETTINGS = ((2, 1.0, 0.5), (5, 0.7, 1.0), (9, 1.0, 0.0), (12, 2.0, 0.5))
"""Batch size, alpha and beta."""
_NUM_WORLDS = 6
_NUM_TEXTS = 2000
_NUM_EMBEDDINGS = 60
_WIDTH = 16
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


def release_reader_error() -> float:
    """Largest distance of an imported embedding (unit vector times length, float32) from its mean over tokens in float64, relative.

    Streams of pickled dicts with names that come twice, whose last value counts, and folders of `.pth` files.
    """
    generator = torch.Generator().manual_seed(0)
    error = 0.0
    for protocol in (2, 4):
        drawn = [_draw_tensor(n, generator) for n in range(_NUM_EMBEDDINGS)]
        names = [f"video_{n % (_NUM_EMBEDDINGS - 3)}" for n in range(_NUM_EMBEDDINGS)]
        expected = dict(zip(names, map(_released_vector, drawn), strict=True))
        with tempfile.TemporaryDirectory(prefix="tfcovr-release-") as folder:
            stream, files = Path(folder) / "embeddings.pkl", Path(folder) / "embeddings"
            files.mkdir()
            with stream.open("wb") as file:
                for name, tensor in zip(names, drawn, strict=True):
                    pickle.dump({name: tensor}, file, protocol=protocol)
                    torch.save(tensor, files / f"{name}.pth")
            for source in (stream, files):
                found = _imported(source, Path(folder) / "vectors.parquet")
                if set(found) != set(expected):
                    raise ValueError(f"{source.name}: {len(found)} names, not {len(expected)}")
                for name, vector_D in expected.items():
                    distance = np.linalg.norm(found[name] - vector_D) / np.linalg.norm(vector_D)
                    error = max(error, float(distance))
    return error


def _draw_tensor(number: int, generator: torch.Generator) -> Tensor:
    """Vectors, vectors of ordered tokens, and views, in the number formats that released files may have."""
    shapes = ((_WIDTH,), (8, _WIDTH), (1, _WIDTH), (3, 4, _WIDTH))
    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    tensor = 22 * torch.randn(shapes[number % len(shapes)], generator=generator)
    tensor = tensor.to(dtypes[number // len(shapes) % len(dtypes)])
    if number % 5 == 0:
        tensor = torch.cat([tensor, tensor], dim=-1)[..., 3 : 3 + _WIDTH]
    return nn.Parameter(tensor) if number % 7 == 0 else tensor


def _released_vector(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().double().numpy()
    return values.reshape(-1, values.shape[-1]).mean(axis=0)


def _imported(source: Path, out: Path) -> dict[str, np.ndarray]:
    import_embeddings(ImportEmbeddingsConfig(source=source, out=out))
    lengths = read_lengths(out)
    return {
        name: vector_D.astype(np.float64) * lengths[name]
        for name, vector_D in read_unit_vectors(out).items()
    }


def release_row_differences() -> int:
    """Number of drawn annotation rows that are read differently than by `csv` and a literal of Python, as the release reads them."""
    differences = 0
    for seed in range(_NUM_WORLDS):
        rows, _queries_ND, _vectors = draw_world(seed)
        with tempfile.TemporaryDirectory(prefix="tfcovr-release-") as folder:
            triplets = read_rows(rows, Path(folder))
            with (Path(folder) / "test.csv").open(newline="", encoding="utf-8") as file:
                released_rows = list(csv.DictReader(file))
        for triplet, row in zip(triplets, released_rows, strict=True):
            listed = ast.literal_eval(row["target_videos_ids"])
            is_equal = (
                (triplet.query_clip_id, triplet.edit_text, triplet.target_clip_ids[0])
                == (row["query_video"], row["modification"], row["target_video"])
            ) and sorted(triplet.target_clip_ids) == sorted(listed)
            differences += not is_equal
    return differences


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
        "release_reader_error": release_reader_error(),
        "release_row_differences": float(release_row_differences()),
    }
    metrics = {name: float(value) for name, value in figures.items()}
    sys.stdout.write("".join(f"{name}: {value:.6g}\n" for name, value in metrics.items()))
    config = {
        "batches": _SETTINGS,
        "worlds": _NUM_WORLDS,
        "texts": _NUM_TEXTS,
        "embeddings": _NUM_EMBEDDINGS,
    }
    sys.stdout.write(f"{write_record('fidelity_release', config=config, metrics=metrics)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
