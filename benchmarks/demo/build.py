"""`tfcovr build`: from a folder of videos to an archive folder that can be searched.

The table of labels is read and checked first; then the commands of the flow run, each in a process of its own.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.demo.build_clips import write_build_clips
from benchmarks.demo.build_encoder import Paths, encoder_parts, encoder_steps, step_weights
from benchmarks.demo.build_models import collection_name, model_paths, remove_older_models
from benchmarks.demo.build_settings import num_triplets, stage1_settings, stage2_settings
from benchmarks.demo.run import shared_ray
from benchmarks.demo.step_notes import (
    describe_evaluation,
    describe_export,
    describe_index,
    describe_training,
    describe_triplets,
    describe_vectors,
)
from benchmarks.demo.summary import read_json
from benchmarks.harness.parts import Part, PartFailedError, PartRunner
from benchmarks.harness.steps import Step, command_parts, tfcovr_command
from benchmarks.harness.thresholds import format_duration
from benchmarks.report.page import write_report
from benchmarks.report.run_files import BUILD_FILE
from cluster.storage import write_atomic
from encoders.bundle.card import CARD_NAME, read_card
from encoders.clips import read_clips
from encoders.files import hash_file, read_table
from encoders.media.container import MediaLimits
from indexing.archive_folder import ARCHIVE_NAME, Archive, write_archive
from indexing.ledger.dead_letters import DEAD_LETTERS
from indexing.ledger.summary import SUMMARY

if TYPE_CHECKING:
    from benchmarks.commands.build import Config


def build_archive(config: "Config") -> int:
    """Check, build, and say how to ask; 1 where a step failed."""
    console = Console()
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    out = config.out.resolve()
    if "://" not in config.videos and out == Path(config.videos).resolve():
        raise ValueError(f"out is {str(config.out)!r}, the folder of the videos; name another one")
    out.mkdir(parents=True, exist_ok=True)
    paths = Paths(out)
    try:
        notes, num_refused = write_build_clips(config, paths, say)
        paths = model_paths(config, paths)
        paths.model.mkdir(parents=True, exist_ok=True)
        settings = {"model": paths.model.name}
        with shared_ray(out) as ray_variables:
            parts = plan_parts(config, paths, ray_variables=ray_variables)
            records = PartRunner(out, settings=settings, say=say).run(parts)
    except PartFailedError as error:
        sys.stderr.write(f"error: {error}\nrerun the same command to resume\n")
        return 1
    steps = next_steps(config, paths)
    about = {
        "videos": config.videos,
        "model": str(paths.model.relative_to(out)),
        "notes": notes,
        "next_steps": steps,
    }
    write_atomic(out / BUILD_FILE, json.dumps(about, indent=1))
    report = write_report(out)
    say(f"\nBuilt in {format_duration(sum(record.seconds for record in records))}; {report}")
    say("\n".join(steps))
    for name in remove_older_models(paths, _milvus(config, paths)):
        say(f"removed model {name} of an earlier build")
    left_out, told = _left_out(num_refused, paths)
    say("\n".join(told))
    return 1 if left_out else 0


def _left_out(num_refused: int, paths: Paths) -> tuple[int, list[str]]:
    """How many rows, videos and clips cannot be searched, and that in words; rows that nothing of today is behind, too."""
    now = read_json(paths.index / SUMMARY)["now"]
    lines = []
    if num_refused:
        lines.append(f"left out: {num_refused} rows or videos, named above and in report.html")
    if now["dead"]:
        reasons = ", ".join(
            f"{count} x {reason}" for reason, count in now["dead_by_reason"].items()
        )
        lines.append(f"left out: {now['dead']} clips ({reasons}): see {paths.index / DEAD_LETTERS}")
    if now["orphaned"]:
        lines.append(
            f"{now['orphaned']} clips of an earlier build are not among the videos or rows of today, and still answer: "
            "the same command with --prune deletes them"
        )
    return num_refused + now["dead"], lines


def _prune_options(config: "Config") -> tuple[str, ...]:
    if not config.prune:
        return ()
    return "--prune", "--max-delete-share", str(config.max_delete_share)


def plan_parts(
    config: "Config",
    paths: Paths,
    *,
    ray_variables: Callable[[], Mapping[str, str]] = dict,
) -> list[Part]:
    """What is done after clips.parquet is there, in order."""
    is_labelled = config.labels is not None
    milvus, collection = _milvus(config, paths), collection_name(config, paths)
    bundle = _bundle(config, paths)
    limits = limit_options(config.limits)
    index = Step(
        name="index",
        title="index into Milvus",
        command=tfcovr_command(
            "index", "--bundle", bundle, "--clips", paths.clips, "--milvus-uri", milvus,
            "--collection", collection, "--run-dir", paths.index, *limits, *_prune_options(config),
        ),
        outputs=(paths.index / SUMMARY,),
        made=lambda: describe_index(paths.index),
        variables=ray_variables,
        weight=step_weights(paths)["index"],
        statuses=(0, 1),
        key=hash_file(paths.clips),
    )  # fmt: skip
    before = (
        _training_steps(config, paths, ray_variables)
        if is_labelled
        else encoder_steps(config.encoder, paths)
    )
    after = [_evaluate_step(paths)] if is_labelled else []
    parts = command_parts([*before, index, *after], paths.out)
    archive = Archive(
        folder=paths.out,
        bundle=bundle,
        milvus_uri=milvus,
        collection=collection,
        videos=config.videos,
        indexed_from=_indexed_from(config.videos),
    )
    found = next(number for number, part in enumerate(parts) if part.name == "index")
    parts.insert(found + 1, _archive_part(archive, key=parts[found].key))
    if config.labels is None:
        parts = [*encoder_parts(config.encoder, paths), *parts]
    return parts


def _milvus(config: "Config", paths: Paths) -> str:
    return config.milvus_uri or str(paths.milvus)


def _bundle(config: "Config", paths: Paths) -> Path:
    return paths.encoder if config.labels is None else paths.stage2 / "bundle"


def _indexed_from(videos: str) -> str:
    return videos if "://" in videos else str(Path(videos).resolve())


def _training_steps(
    config: "Config", paths: Paths, ray_variables: Callable[[], Mapping[str, str]]
) -> list[Step]:
    """clips.parquet to an exported bundle that composes."""
    clips = read_clips(paths.labelled)
    num_train = sum(clip.split == "train" and clip.label is not None for clip in clips)
    wanted = num_triplets(len(clips))
    stage1 = stage1_settings(num_train)
    stage2 = stage2_settings(round(wanted * num_train / len(clips)))
    first, bundle = paths.stage1 / "bundle", paths.stage2 / "bundle"
    on_ray = {"variables": ray_variables}
    rows: list[tuple[str, str, tuple[str, ...], tuple[Path, ...], Callable[[], str], dict[str, Any]]] = [
        ("triplets", "write composed queries",
         tfcovr_command("triplets", "--clips", paths.labelled, "--out", paths.triplets, "--num-triplets", str(wanted)),
         (paths.triplets,), lambda: describe_triplets(paths.triplets), {}),
        ("stage1", f"stage 1, {stage1.num_epochs} epochs: tell the labels apart",
         tfcovr_command("train", "--recipe", config.stage1_recipe, "--clips", paths.labelled, "--run-dir", paths.stage1,
                        *stage1.options(), *limit_options(config.limits)),
         (first / CARD_NAME,), lambda: describe_training(paths.stage1), on_ray),
        ("vectors", "embed all clips for stage 2",
         tfcovr_command("vectors", "--clips", paths.labelled, "--bundle", first, "--out", paths.vectors,
                        *limit_options(config.limits, "--launch.limits")),
         (paths.vectors,), lambda: describe_vectors(paths.vectors), {}),
        ("stage2", f"stage 2, {stage2.num_epochs} epochs: compose clip and sentence",
         tfcovr_command("train", "--recipe", config.stage2_recipe, "--vectors", paths.vectors, "--clips", paths.labelled,
                        "--triplets", paths.triplets, "--init", first, "--run-dir", paths.stage2, *stage2.options()),
         (bundle / CARD_NAME,), lambda: describe_training(paths.stage2), on_ray),
        ("export", "export to ONNX",
         tfcovr_command("export", "--bundle", bundle, "--clips", paths.labelled),
         (bundle / "video.onnx", bundle / "fusion.onnx"), lambda: describe_export(bundle), {}),
    ]  # fmt: skip
    weights = step_weights(paths)
    return [
        Step(
            name=name, title=title, command=command, outputs=outputs, made=made,
            weight=weights[name], **extra,
        )
        for name, title, command, outputs, made, extra in rows
    ]  # fmt: skip


def limit_options(limits: MediaLimits, prefix: str = "--limits") -> tuple[str, ...]:
    """For a command: those that are not the usual ones."""
    return tuple(
        text
        for name, value in limits.unusual().items()
        for text in (f"{prefix}.{name.replace('_', '-')}", str(value))
    )


def _evaluate_step(paths: Paths) -> Step:
    """mAP on the held-out clips."""
    weights = step_weights(paths)
    return Step(
        name="evaluate",
        title="evaluate on the test split",
        command=tfcovr_command(
            "evaluate", "--stage2", paths.stage2, "--vectors", paths.vectors, "--triplets", paths.triplets,
            "--clips", paths.labelled, "--run-dir", paths.evaluation, "--rows", "composed", "raw",
        ),
        outputs=(paths.evaluation / "metrics.json",),
        made=lambda: describe_evaluation(paths.evaluation),
        weight=weights["evaluate"],
    )  # fmt: skip


def _archive_part(archive: Archive, *, key: object) -> Part:
    def write() -> Mapping[str, Any]:
        write_archive(archive)
        return {}

    return Part(
        name="archive",
        title="the archive can be searched from here on",
        run=write,
        key=[key, str(archive)],
        outputs=(archive.folder / ARCHIVE_NAME,),
        describe=lambda _figures: str(archive.folder / ARCHIVE_NAME),
        weight=1,
    )


def next_steps(config: "Config", paths: Paths) -> list[str]:
    """What can be asked now, and what it takes to ask more."""
    out = quote(str(config.out))
    lines = [f"  tfcovr serve {out}        # the page"]
    if config.labels is not None:
        clips = read_clips(paths.labelled)
        test = next((clip for clip in clips if clip.split == "test"), clips[0])
        text = read_table(paths.triplets, ["edit_text"])["edit_text"][0].as_py()
        return [*lines, f"  tfcovr search {out} {quote(text)} --clip {quote(test.clip_id)}"]
    clip = read_clips(paths.clips)[0]
    lines.append(f"  tfcovr search {out} --clip {quote(clip.clip_id)}")
    if read_card(paths.encoder).fusion is not None:
        lines.append(f"  tfcovr search {out} 'a diver in pike position'")
    return [
        *lines,
        'For "the same, but with one more twist", name the action in some clips: a CSV with the columns file and label '
        "(and start, end), a dozen clips or more per label; then",
        f"  tfcovr build {quote(str(config.videos))} --labels labels.csv --out {quote(f'{config.out}-labelled')}",
    ]
