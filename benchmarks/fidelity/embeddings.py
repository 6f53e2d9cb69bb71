"""Released embeddings per second that the converter reads, from a pickle stream and from a folder of `.pth` files.

The files are made here as the release has them: dicts of torch tensors pickled one after the other, and
one `torch.save` file per video. Conversion is timed as a whole, writing included; the made files lie in
the page cache.
"""

import pickle  # noqa: TID251 - writes the format that the converter must read
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from training.annotations.embeddings.import_embeddings import (
    ImportEmbeddingsConfig,
    import_embeddings,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingScale:
    """What is generated."""

    num_stream: int = 20_000
    num_files: int = 5_000
    vectors_per_dict: int = 5_000
    width: int = 768
    num_frames: int = 1
    """1 = one vector per video, as the released AIM embeddings; 12 = a vector per frame, which are averaged."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRates:
    """Vectors per second, first byte read to output renamed."""

    pickle_vectors_per_s: float
    pth_vectors_per_s: float


def measure_embeddings(scale: EmbeddingScale | None = None) -> EmbeddingRates:
    """Generates, converts, and throws all of it away."""
    scale = scale or EmbeddingScale()
    with tempfile.TemporaryDirectory(prefix="tfcovr-embeddings-") as folder:
        stream, files = Path(folder) / "embeddings.pkl", Path(folder) / "embeddings"
        write_stream(stream, scale)
        write_files(files, scale)
        rates = []
        for source in (stream, files):
            out = Path(folder) / "vectors.parquet"
            done = import_embeddings(ImportEmbeddingsConfig(source=source, out=out))
            rates.append(done.num_vectors / done.seconds)
    return EmbeddingRates(pickle_vectors_per_s=rates[0], pth_vectors_per_s=rates[1])


def write_stream(path: Path, scale: EmbeddingScale) -> None:
    """Pickled dicts, one after the other."""
    generator = torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        for first in range(0, scale.num_stream, scale.vectors_per_dict):
            numbers = range(first, min(first + scale.vectors_per_dict, scale.num_stream))
            pickle.dump({f"video-{n:06d}": _tensor(scale, generator) for n in numbers}, file)


def write_files(folder: Path, scale: EmbeddingScale) -> None:
    """One file per video."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    for number in range(scale.num_files):
        torch.save(_tensor(scale, generator), folder / f"video-{number:06d}.pth")


def _tensor(scale: EmbeddingScale, generator: torch.Generator) -> torch.Tensor:
    shape = (scale.width,) if scale.num_frames == 1 else (scale.num_frames, scale.width)
    return torch.randn(shape, generator=generator)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    import tyro

    name = "python -m benchmarks.fidelity.embeddings"
    rates = measure_embeddings(tyro.cli(EmbeddingScale, args=argv, prog=name, description=__doc__))
    for name, value in asdict(rates).items():
        sys.stdout.write(f"{name}: {value:.0f}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
