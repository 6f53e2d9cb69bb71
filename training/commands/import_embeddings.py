"""tfcovr import-embeddings: released embeddings to a table of vectors."""

import sys
from collections.abc import Sequence

from training.annotations.embeddings.import_embeddings import (
    ImportEmbeddingsConfig,
    import_embeddings,
)

_EXAMPLES = """Convert released embeddings to the vectors.parquet that stage 2 and evaluate read.

The source is one file of pickled dicts (video name -> tensor), one after the other, or a folder of .pth files, one
tensor each. Nothing in it is run: a pickle that names anything but tensors is refused.

examples:
  tfcovr import-embeddings --source DIR/aim_embeddings.pkl --out DIR/vectors.parquet
  tfcovr import-embeddings --source DIR/embeddings --out DIR/vectors.parquet --skip-bad
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    import tyro

    config = tyro.cli(ImportEmbeddingsConfig, args=argv, description=_EXAMPLES)
    done = import_embeddings(config)
    sys.stdout.write(
        f"{config.out}: {done.num_vectors} vectors, {done.width} wide, in {done.seconds:.1f} s "
        f"({done.num_vectors / done.seconds:.0f} per s); {done.num_replaced} replaced by a later one, "
        f"{done.num_bad} bad\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
