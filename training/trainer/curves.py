"""Learning curves: metrics.jsonl to curves.png, losses left and scores on the val split right."""

import io
from pathlib import Path

from cluster.storage import write_atomic
from training.trainer.checkpoint import read_metrics

CURVES = "curves.png"


def write_curves(run_dir: Path, *, title: str) -> Path:
    """Plot the current content of metrics.jsonl."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_metrics(run_dir)
    steps = [line for line in lines if "loss" in line]
    epochs = [line for line in lines if "epoch" in line]
    scores = sorted({name for line in epochs for name in line} - {"step", "epoch"})
    shares = [name for name in scores if not name.endswith("loss")]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot([line["step"] for line in steps], [line["loss"] for line in steps], alpha=0.3)
    smooth = _running_mean([line["loss"] for line in steps])
    left.plot([line["step"] for line in steps], smooth, color="C0", label="train")
    for name in (name for name in scores if name.endswith("loss")):
        with_loss = [line for line in epochs if name in line]
        left.plot([x["step"] for x in with_loss], [x[name] for x in with_loss], label=name)
    left.set(xlabel="step", ylabel="loss", title=title)
    left.legend()
    for name in shares:
        scored = [line for line in epochs if name in line]
        right.plot([x["epoch"] for x in scored], [x[name] for x in scored], "o-", label=name)
    right.set(xlabel="epoch", ylim=(0, 1), title="val split")
    if shares:
        right.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    path = run_dir / CURVES
    write_atomic(path, picture.getvalue())
    return path


def _running_mean(values: list[float], *, weight: float = 0.95) -> list[float]:
    """Exponential moving mean with bias correction."""
    means: list[float] = []
    total = norm = 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        means.append(total / norm)
    return means
