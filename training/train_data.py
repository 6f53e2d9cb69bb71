"""From a folder of released data to a trained composer and its evaluation: what `--data` runs."""

import json
from pathlib import Path
from typing import Any

from training.configs import LaunchSettings, Stage2Config
from training.data_folder import prepare_data
from training.evaluate_data import METRICS_FILE, evaluate_run
from training.evaluate_table import rows_table
from training.paper_table import describe_data, our_rows, paper_table, wide_console
from training.run_folder import hash_file
from training.train_stage2 import Stage2Inputs, train_stage2

_DATA = "data"
_EVALUATE = "evaluate"


def train_on_data(  # noqa: PLR0913  # one keyword per option of the command
    config: Stage2Config,
    data_dir: Path,
    run_dir: Path,
    *,
    init_bundle: Path | None = None,
    skips_missing: bool = False,
    eval_split: str = "test",
    launch: LaunchSettings | None = None,
) -> dict[str, Any]:
    """Convert, train, evaluate; each step only if it is not done. Returns what result.json holds."""
    files = prepare_data(data_dir, run_dir / _DATA, skips_missing=skips_missing)
    inputs = Stage2Inputs(
        triplets_path=files.triplets_path,
        vectors_path=files.vectors_path,
        init_bundle=init_bundle,
    )
    result = train_stage2(config, inputs, run_dir, launch)
    path = run_dir / _EVALUATE / METRICS_FILE
    made_of = {"key": result["key"], "split": eval_split, "vectors": hash_file(files.vectors_path)}
    if not (path.exists() and json.loads(path.read_text()).get("made_of") == made_of):
        evaluate_run(
            config,
            triplets_path=files.triplets_path,
            vectors_path=files.vectors_path,
            run_dir=run_dir,
            split=eval_split,
            about={"made_of": made_of, "data": str(data_dir), "summary": files.summary},
        )
    return result


def print_evaluation(run_dir: Path) -> None:
    """The rows with their intervals, and the published figures beside ours."""
    metrics = json.loads((run_dir / _EVALUATE / METRICS_FILE).read_text())
    console = wide_console()
    title = f"{metrics['split']} split, protocol unique, percent"
    console.print(rows_table(metrics, title=title, width=console.width))
    console.print(paper_table(our_rows(metrics), data=describe_data(metrics)))
