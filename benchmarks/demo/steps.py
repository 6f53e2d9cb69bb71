"""Which commands the demo runs, in order, and how large the archive is that it makes for itself."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.demo.step_notes import (
    describe_answers,
    describe_archive,
    describe_evaluation,
    describe_evidence,
    describe_export,
    describe_index,
    describe_pretraining,
    describe_training,
    describe_triplets,
    describe_vectors,
)
from benchmarks.harness.steps import Step, tfcovr_command

# Families of three that differ only in the somersault count, or only in the twist count. No two of
# the classes are one motion seen in a mirror (as 103b and 403b are, but for the side of the board).
# Forward and back, pike and tuck are both there, so that edits can swap either: no vector added to
# every clip does both.
CLASSES = (
    "103b", "105b", "107b", "103c", "105c", "107c",
    "203b", "205b", "207b", "203c", "205c", "207c",
    "5132d", "5134d", "5136d",
    "5152b", "5154b", "5156b",
)  # fmt: skip


EncoderKind = Literal["frame_temporal", "aim"]
_IMAGE_WEIGHTS = "vit_tiny"
_ON_RAY = ("stage1", "stage2", "index")


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoPlan:
    """The size of a demo; everything else is in the recipes."""

    name: str
    classes: tuple[str, ...]
    clips_per_class: tuple[int, int, int]
    """train, val, test"""
    recipe_suffix: str
    num_triplets: int
    encoder: EncoderKind = "frame_temporal"
    """Video encoder: `aim` is the paper's, small; its image transformer is pretrained first, for `pretrain_flags`."""
    pretrain_flags: tuple[str, ...] = ()


FULL = DemoPlan(
    name="full",
    classes=CLASSES,
    clips_per_class=(48, 8, 14),
    recipe_suffix="",
    num_triplets=12_000,
)
TINY = DemoPlan(
    name="tiny",
    classes=("103b", "105b", "107b", "203b", "205b", "207b"),
    clips_per_class=(4, 2, 3),
    recipe_suffix="_tiny",
    pretrain_flags=(
        "--num-clips",
        "4",
        "--num-held-out-clips",
        "2",
        "--num-steps",
        "10",
        "--batch-size",
        "8",
    ),
    num_triplets=200,
)


def plan_steps(
    plan: DemoPlan, run_dir: Path, *, ray_variables: Callable[[], Mapping[str, str]] = dict
) -> list[Step]:
    """The flow; each step reads what the ones before it wrote.

    `ray_variables` are of the steps that run on Ray: where to find it. Without them each starts its own.
    """
    clips = run_dir / "archive" / "clips.parquet"
    triplets = run_dir / "triplets.parquet"
    stage1, stage2 = run_dir / "stage1", run_dir / "stage2"
    bundle, milvus, index = stage2 / "bundle", run_dir / "milvus", run_dir / "index"
    vectors = run_dir / "vectors.parquet"
    evidence, evaluation = run_dir / "time_evidence", run_dir / "evaluate"
    index_flags = (
        "--bundle", bundle, "--clips", clips, "--milvus-uri", milvus, "--run-dir", index,
    )  # fmt: skip
    actions, start = f"demo_actions{plan.recipe_suffix}", ()
    if plan.encoder == "aim":
        actions = f"demo_actions_aim{plan.recipe_suffix}"
        start = ("--config.pretrained-image", run_dir / "weights" / _IMAGE_WEIGHTS)
    fusion = f"demo_fusion{plan.recipe_suffix}"
    pretraining = (
        ("pretrain", 9000, "pretrain an image transformer for AIM",
         _module_command("benchmarks.pretraining.vit", "--name", _IMAGE_WEIGHTS, "--out", run_dir / "weights", *plan.pretrain_flags),
         (run_dir / "weights" / _IMAGE_WEIGHTS / "pretraining.json",),
         lambda: describe_pretraining(run_dir / "weights" / _IMAGE_WEIGHTS)),
    )  # fmt: skip
    steps = (
        *(pretraining if plan.encoder == "aim" else ()),
        ("dives", 103, "render an archive of dives",
         tfcovr_command("dives", clips.parent, *_archive_flags(plan)),
         (clips,), lambda: describe_archive(clips)),
        ("triplets", 1, "write composed queries",
         tfcovr_command("triplets", "--clips", clips, "--out", triplets, "--num-triplets", str(plan.num_triplets)),
         (triplets,), lambda: describe_triplets(triplets)),
        ("stage1", 157, "stage 1: learn to tell the dives apart",
         tfcovr_command("train", "--recipe", actions, "--clips", clips, "--run-dir", stage1, *start),
         (stage1 / "bundle" / "card.json",), lambda: describe_training(stage1)),
        ("vectors", 44, "embed all clips for stage 2 and for exact search",
         tfcovr_command("vectors", "--clips", clips, "--bundle", stage1 / "bundle", "--out", vectors),
         (vectors,), lambda: describe_vectors(vectors)),
        ("stage2", 55, "stage 2: learn to compose clip and sentence",
         tfcovr_command("train", "--recipe", fusion, "--vectors", vectors, "--triplets", triplets,
                        "--init", stage1 / "bundle", "--run-dir", stage2),
         (bundle / "card.json",), lambda: describe_training(stage2)),
        ("export", 22, "export to ONNX",
         tfcovr_command("export", "--bundle", bundle, "--clips", clips),
         (bundle / "video.onnx", bundle / "text.onnx", bundle / "fusion.onnx"), lambda: describe_export(bundle)),
        ("index", 68, "index the archive into Milvus", tfcovr_command("index", *index_flags),
         (index / "index_summary.json",), lambda: describe_index(index)),
        ("verify", 3, "verify the collection", tfcovr_command("verify", *index_flags),
         (), lambda: "missing 0, duplicate 0, stale 0"),
        ("time_evidence", 97, "does the encoder see time?",
         _module_command("benchmarks.demo.time_evidence", "--stage1", stage1, "--clips", clips, "--out", evidence),
         (evidence / "time_evidence.json",), lambda: describe_evidence(evidence)),
        ("evaluate", 74, "evaluate composed retrieval",
         tfcovr_command("evaluate", "--stage2", stage2, "--vectors", vectors, "--triplets", triplets,
                        "--clips", clips, "--run-dir", evaluation),
         (evaluation / "metrics.json",), lambda: describe_evaluation(evaluation)),
        ("ask", 9, "ask three questions",
         _module_command("benchmarks.demo.questions", "--bundle", bundle, "--milvus-uri", milvus,
                         "--clips", clips, "--triplets", triplets, "--out", run_dir),
         (run_dir / "answers.json", run_dir / "answers.png"), lambda: describe_answers(run_dir)),
    )  # fmt: skip
    return [
        Step(
            name=name,
            weight=seconds,
            title=title,
            command=command,
            outputs=outputs,
            made=made,
            variables=ray_variables if name in _ON_RAY else dict,
        )
        for name, seconds, title, command, outputs, made in steps
    ]


def _module_command(module: str, *arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *map(str, arguments))


def _archive_flags(plan: DemoPlan) -> tuple[str, ...]:
    return ("--classes", *plan.classes, "--clips-per-class", *map(str, plan.clips_per_class))
