"""tfcovr import-embeddings: released embeddings to a table of vectors."""

import sys

from training.annotations.embeddings.import_embeddings import ImportEmbeddingsConfig as Config
from training.annotations.embeddings.import_embeddings import import_embeddings

EXAMPLES = """
  tfcovr import-embeddings --source DIR/aim_embeddings.pkl --out DIR/vectors.parquet
  tfcovr import-embeddings --source DIR/embeddings --out DIR/vectors.parquet --skip-bad
"""


def run(config: Config) -> int:
    """Convert, and say how many vectors there are."""
    done = import_embeddings(config)
    sys.stdout.write(
        f"{config.out}: {done.num_vectors} vectors, {done.width} wide, in {done.seconds:.1f} s "
        f"({done.num_vectors / done.seconds:.0f} per s); {done.num_replaced} replaced by a later one, "
        f"{done.num_bad} bad\n"
    )
    return 0
