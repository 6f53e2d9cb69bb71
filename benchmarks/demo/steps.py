"""Which commands the demo runs, in order, and how large the archive is that it makes for itself."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.demo.step_notes import (
    describe_answers,
    describe_archive,
    describe_evaluation,
    describe_evidence,
    describe_export,
    describe_index,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoPlan:
    """The size of a demo; everything else is in the recipes."""

    name: str
    classes: tuple[str, ...]
    clips_per_class: tuple[int, int, int]
    """train, val, test"""
    recipe_suffix: str
    num_triplets: int


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
    return [
        Step(
            name="dives",
            weight=103,
            title="render an archive of dives",
            command=tfcovr_command("dives", clips.parent, *_archive_flags(plan)),
            outputs=(clips,),
            made=lambda: describe_archive(clips),
        ),
        Step(
            name="triplets",
            weight=1,
            title="write composed queries",
            command=tfcovr_command(
                "triplets", "--clips", clips, "--out", triplets,
                "--num-triplets", str(plan.num_triplets),
            ),
            outputs=(triplets,),
            made=lambda: describe_triplets(triplets),
        ),
        Step(
            name="stage1",
            weight=157,
            title="stage 1: learn to tell the dives apart",
            command=tfcovr_command(
                "train", "--recipe", f"demo_actions{plan.recipe_suffix}", "--clips", clips,
                "--run-dir", stage1,
            ),
            outputs=(stage1 / "bundle" / "card.json",),
            made=lambda: describe_training(stage1),
            variables=ray_variables,
        ),
        Step(
            name="vectors",
            weight=44,
            title="embed all clips for stage 2 and for exact search",
            command=tfcovr_command(
                "vectors", "--clips", clips, "--bundle", stage1 / "bundle", "--out", vectors
            ),
            outputs=(vectors,),
            made=lambda: describe_vectors(vectors),
        ),
        Step(
            name="stage2",
            weight=55,
            title="stage 2: learn to compose clip and sentence",
            command=tfcovr_command(
                "train", "--recipe", f"demo_fusion{plan.recipe_suffix}", "--vectors", vectors,
                "--triplets", triplets, "--init", stage1 / "bundle", "--run-dir", stage2,
            ),
            outputs=(bundle / "card.json",),
            made=lambda: describe_training(stage2),
            variables=ray_variables,
        ),
        Step(
            name="export",
            weight=22,
            title="export to ONNX",
            command=tfcovr_command("export", "--bundle", bundle, "--clips", clips),
            outputs=(bundle / "video.onnx", bundle / "text.onnx", bundle / "fusion.onnx"),
            made=lambda: describe_export(bundle),
        ),
        Step(
            name="index",
            weight=68,
            title="index the archive into Milvus",
            command=tfcovr_command("index", *index_flags),
            outputs=(index / "index_summary.json",),
            made=lambda: describe_index(index),
            variables=ray_variables,
        ),
        Step(
            name="verify",
            weight=3,
            title="verify the collection",
            command=tfcovr_command("verify", *index_flags),
            outputs=(),
            made=lambda: "missing 0, duplicate 0, stale 0",
        ),
        Step(
            name="time_evidence",
            weight=97,
            title="does the encoder see time?",
            command=_module_command(
                "benchmarks.demo.time_evidence", "--stage1", stage1, "--clips", clips,
                "--out", evidence,
            ),
            outputs=(evidence / "time_evidence.json",),
            made=lambda: describe_evidence(evidence),
        ),
        Step(
            name="evaluate",
            weight=74,
            title="evaluate composed retrieval",
            command=tfcovr_command(
                "evaluate", "--stage2", stage2, "--vectors", vectors,
                "--triplets", triplets, "--clips", clips, "--run-dir", evaluation,
            ),
            outputs=(evaluation / "metrics.json",),
            made=lambda: describe_evaluation(evaluation),
        ),
        Step(
            name="ask",
            weight=9,
            title="ask three questions",
            command=_module_command(
                "benchmarks.demo.questions", "--bundle", bundle, "--milvus-uri", milvus,
                "--clips", clips, "--triplets", triplets, "--out", run_dir,
            ),
            outputs=(run_dir / "answers.json", run_dir / "answers.png"),
            made=lambda: describe_answers(run_dir),
        ),
    ]  # fmt: skip


def _module_command(module: str, *arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *map(str, arguments))


def _archive_flags(plan: DemoPlan) -> tuple[str, ...]:
    return ("--classes", *plan.classes, "--clips-per-class", *map(str, plan.clips_per_class))
