"""tfcovr evaluate: mAP and Recall of composed queries, with intervals."""

import sys

from training.configs import EvaluateConfig as Config

EXAMPLES = """
  tfcovr evaluate --stage2 runs/demo/stage2 --triplets runs/demo/triplets.parquet \\
      --clips runs/demo/archive/clips.parquet --run-dir runs/demo/evaluate
  tfcovr evaluate ... --split val --rows composed raw --rankings
"""


def run(config: Config) -> int:
    """Measure, and print a table of rows and the verdict."""
    from rich.console import Console

    from training.evaluation.evaluate import evaluate
    from training.evaluation.tables import rows_table, verdict

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
