"""Zero-shot rows of the paper's study: clip, text, and their mean, of a model that was not trained for the task.

A model is any CLIP-like one of Hugging Face, a clip being the mean of its frames, or a stage 1 bundle, which has no
text encoder and so gives the clip row alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cluster.progress import progress_bar
from cluster.tables import wide_console
from encoders.bundle.card import CARD_NAME
from encoders.clips import Clip, read_clips
from encoders.media.container import MediaLimits
from encoders.media.sampling import SamplingConfig
from encoders.stages.base import error_of
from training.annotations.triplets.table import read_triplets
from training.configs import LaunchSettings
from training.evaluation.clip_baseline import ClipLike, FrameAverageStage, image_size_of
from training.evaluation.evaluate_run import METRICS_FILE, measure_rows, write_metrics
from training.evaluation.paper_table import describe_data, our_rows, paper_table
from training.evaluation.problem import RetrievalProblem, build_retrieval_problem
from training.evaluation.tables import rows_table
from training.trainer.session import choose_device, connected
from training.vectors.compute import VectorsConfig, compute_vectors
from training.vectors.stage_runner import FlowPlan, run_flow
from training.vectors.tables import read_dead_ids, read_unit_vectors

_EXAMPLES = """Measure a model that was never trained for the task.

examples:
  python -m training.evaluation.zero_shot --model openai/clip-vit-base-patch16 --clips clips.parquet --triplets triplets.parquet --run-dir runs/clip
  python -m training.evaluation.zero_shot --model Salesforce/blip2-itm-vit-g --clips clips.parquet --triplets triplets.parquet --run-dir runs/blip2
  python -m training.evaluation.zero_shot --model runs/stage1/bundle --clips clips.parquet --triplets triplets.parquet --run-dir runs/aim
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroShotConfig:
    """Options of `python -m training.evaluation.zero_shot`."""

    model: str
    """Name or folder of a CLIP-like model or a BLIP-2 for image-text retrieval, or a stage 1 bundle."""
    clips: Path
    """The clips.parquet of the split."""
    triplets: Path
    run_dir: Path
    """Folder for metrics.json and the vectors of a bundle."""
    split: str = "test"
    num_frames: int = 12
    """Number of frames per clip that are averaged; a bundle uses its own."""
    num_workers: int = 0
    """Number of Ray workers; 0 = in this process."""
    limits: MediaLimits = field(default_factory=MediaLimits)


def measure_zero_shot(config: ZeroShotConfig) -> dict[str, Any]:
    """Rows `video_only`, and for a CLIP-like model `text_only` and `mean`; written to DIR/metrics.json and returned."""
    clips = [clip for clip in read_clips(config.clips) if clip.split == config.split]
    if not clips:
        raise ValueError(f"{config.clips}: no clip has the split {config.split!r}")
    is_bundle = (Path(config.model) / CARD_NAME).exists()
    vectors, dead = _bundle_vectors(config, clips) if is_bundle else _average_frames(config, clips)
    problem = build_retrieval_problem(
        read_triplets(config.triplets), vectors, split=config.split, clips=clips, dead_ids=dead
    )
    if is_bundle:
        queries = {"video_only": problem.clips_ND}
    else:
        queries = zero_shot_queries(problem, ClipLike(config.model))
    record = measure_rows(queries, problem, split=config.split)
    record |= {"model": config.model, "data": str(config.triplets), "dead_clips": dead}
    write_metrics(config.run_dir / METRICS_FILE, record)
    return record


def zero_shot_queries(problem: RetrievalProblem, model: ClipLike) -> dict[str, np.ndarray]:
    """The clip's vector, the text's, and the unit mean of both; every text is encoded once."""
    texts = sorted({triplet.edit_text for triplet in problem.triplets})
    row_by_text = {text: row for row, text in enumerate(texts)}
    rows_N = [row_by_text[triplet.edit_text] for triplet in problem.triplets]
    texts_ND = model.embed_texts(texts)[rows_N]
    sum_ND = problem.clips_ND + texts_ND
    length_N1 = np.linalg.norm(sum_ND, axis=1, keepdims=True).clip(min=1e-12)
    return {"video_only": problem.clips_ND, "text_only": texts_ND, "mean": sum_ND / length_N1}


def _average_frames(
    config: ZeroShotConfig, clips: Sequence[Clip]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Unit vector by clip id, and the reason by clip id of those that cannot be decoded."""
    launch = LaunchSettings(num_workers=config.num_workers, limits=config.limits)
    device = choose_device(launch)
    sampling = SamplingConfig(num_frames=config.num_frames, frame_size=image_size_of(config.model))
    plan = FlowPlan(
        decode_arguments={"sampling": sampling, "limits": config.limits},
        stage=FrameAverageStage,
        stage_arguments={
            "model": config.model,
            "device": device,
        },
        num_workers=config.num_workers,
        use_gpu=device != "cpu",
    )
    vectors: dict[str, np.ndarray] = {}
    dead: dict[str, str] = {}
    with (
        connected(launch, config.run_dir),
        progress_bar("clip vectors", len(clips), shown=sys.stderr.isatty()) as update,
    ):
        for done, row in enumerate(run_flow(clips, plan), 1):
            if (error := error_of(row["error"])) is not None:
                dead[str(row["clip_id"])] = error.reason
            else:
                vectors[str(row["clip_id"])] = np.frombuffer(row["vector"], np.float32)
            update(done, "")
    return vectors, dead


def _bundle_vectors(
    config: ZeroShotConfig, clips: Sequence[Clip]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    launch = LaunchSettings(num_workers=config.num_workers, limits=config.limits)
    out = config.run_dir / "vectors.parquet"
    plan = VectorsConfig(
        clips=config.clips,
        bundle=Path(config.model),
        out=out,
        device=choose_device(launch),
        launch=launch,
    )
    with connected(launch, config.run_dir):
        compute_vectors(plan, clips)
    return read_unit_vectors(out), dict.fromkeys(read_dead_ids(out), "see vectors.dead.parquet")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    import tyro

    config = tyro.cli(
        ZeroShotConfig,
        args=argv,
        prog="python -m training.evaluation.zero_shot",
        description=_EXAMPLES,
    )
    metrics = measure_zero_shot(config)
    console = wide_console()
    title = f"{metrics['model']}, {metrics['split']} split, zero-shot, protocol unique, percent"
    console.print(rows_table(metrics, title=title, width=console.width))
    console.print(paper_table(our_rows(metrics), data=describe_data(metrics)))
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error
