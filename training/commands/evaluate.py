"""tfcovr evaluate: mAP and Recall of composed queries, with intervals."""

import sys
from collections.abc import Sequence

from rich.console import Console

from training.evaluation.evaluate import EvaluateConfig, evaluate
from training.evaluation.tables import rows_table, verdict

_EXAMPLES = """Measure composed retrieval: mAP and Recall with intervals, beside the controls it must beat.

examples:
  tfcovr evaluate --stage2 runs/demo/stage2 --triplets runs/demo/triplets.parquet --clips runs/demo/archive/clips.parquet --run-dir runs/demo/evaluate
  tfcovr evaluate ... --split val --rows composed raw --rankings
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    import tyro

    config = tyro.cli(
        EvaluateConfig,
        args=argv,
        description=_EXAMPLES,
        prog="tfcovr evaluate",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    metrics = evaluate(config)
    console = Console(file=sys.stdout)
    title = f"{metrics['split']} split, protocol unique, percent"
    console.print(rows_table(metrics, title=title, width=console.width))
    for name, part in metrics["by_pairs"].items():
        if len(metrics["by_pairs"]) > 1:
            title = f"label pairs {name} in training ({part['num_label_pairs']} pairs)"
            console.print(rows_table(part, title=title, width=console.width))
    console.print(verdict(metrics))
    console.print(
        f"{metrics['num_queries']} queries, {metrics['gallery_size']} clips; wrote {config.run_dir / 'metrics.json'}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
