"""tfcovr vectors: clip vectors of a bundle to a table, for stage 2 and evaluation."""

import sys
from collections.abc import Sequence

from training.vectors.compute import VectorsConfig, compute_vectors


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    import tyro

    from training.trainer.session import connected

    config = tyro.cli(VectorsConfig, args=argv, description=__doc__)
    with connected(config.launch, config.out.parent):
        summary = compute_vectors(config)
    sys.stdout.write(
        f"{config.out}: {summary.num_vectors} vectors of {summary.num_clips} clips, "
        f"{summary.num_dead} dead, {summary.num_computed} computed now\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
