"""`tfcovr build`: from a folder of videos to an archive folder that can be searched.

The table of labels is read and checked first; then the commands of the flow run, each in a process of its own.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.demo.build_encoder import Paths, encoder_parts, encoder_steps, step_weights
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
from benchmarks.harness.parts import Part, PartFailedError, PartRunner, format_seconds
from benchmarks.harness.steps import Step, command_parts, tfcovr_command
from encoders.bundle.card import CARD_NAME
from encoders.clips import Clip, read_clips
from encoders.files import hash_file, read_table
from indexing.archive_folder import ARCHIVE_NAME, Archive, write_archive
from indexing.clipping.cut_video import CutSettings
from indexing.clipping.split_videos import SplitConfig, split_videos
from training.annotations.labels.pairs import attributes_by_label, label_pairs
from training.annotations.readers.import_clips import import_annotations
from training.annotations.readers.label_file import ImportLabelFile

if TYPE_CHECKING:
    from benchmarks.commands.build import Config

_MAX_CHANGES = 2


def build_archive(config: "Config") -> int:
    """Check, build, and say how to ask; 1 where a step failed."""
    console = Console(file=sys.stdout)
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    out = config.out.resolve()
    if "://" not in config.videos and out == Path(config.videos).resolve():
        raise ValueError(f"out is {str(config.out)!r}, the folder of the videos; name another one")
    out.mkdir(parents=True, exist_ok=True)
    paths = Paths(out)
    try:
        if config.labels is None:
            _cut(config, paths, say)
        else:
            read_labels(config, paths, say)
        settings = {"clips": hash_file(paths.clips)}
        with shared_ray(out) as ray_variables:
            parts = plan_parts(config, paths, ray_variables=ray_variables)
            records = PartRunner(out, settings=settings, say=say).run(parts)
    except PartFailedError as error:
        sys.stderr.write(f"error: {error}\nrerun the same command to resume\n")
        return 1
    say(f"\nBuilt in {format_seconds(sum(record.seconds for record in records))}.")
    say("\n".join(next_steps(config, paths)))
    return 0


def read_labels(config: "Config", paths: Paths, say: Callable[[str], object]) -> None:
    """Write clips.parquet, say what was understood; ValueError for all that training would fail on."""
    assert config.labels is not None
    report = import_annotations(
        ImportLabelFile(
            labels=config.labels,
            videos=config.videos,
            columns=config.columns,
            shares=config.shares,
            skip_bad=config.skip_bad,
            out=paths.clips,
        )
    )
    say(f"{config.labels}: {report.num_clips} clips of {report.num_labels} labels")
    for note in report.notes:
        say(f"  {note}")
    if report.num_bad_rows:
        say(
            f"  {report.num_bad_rows} bad rows left out: {paths.clips.with_suffix('.problems.txt')}"
        )
    require_edits(read_clips(paths.clips))


def require_edits(clips: Sequence[Clip]) -> None:
    """ValueError where no edit leads from one label to another."""
    attributes = attributes_by_label(clips)
    if not label_pairs(attributes, max_changes=_MAX_CHANGES):
        shown = "; ".join(
            f"{label}: {dict(values)}" for label, values in list(attributes.items())[:3]
        )
        raise ValueError(
            f"no two of the {len(attributes)} labels have the same attributes and differ in one or two of them ({shown}): "
            "no edit can be learnt. Add a column per attribute whose value follows from the label, such as position or apparatus"
        )


def _cut(config: "Config", paths: Paths, say: Callable[[str], object]) -> None:
    """Write clips.parquet of windows."""
    cut = CutSettings(length_s=config.window_s)
    console = Console(stderr=True)
    summary = split_videos(
        SplitConfig(videos=config.videos, out=paths.clips, cut=cut), console=console
    )
    say(
        f"{config.videos}: {summary.num_clips} clips of {config.window_s:g} s from "
        f"{summary.num_videos - len(summary.problems)} videos"
    )
    for name, problem in list(summary.problems.items())[:3]:
        say(f"  left out: {name}: {problem}")
    if len(summary.problems) > 3:
        say(f"  and {len(summary.problems) - 3} more: {paths.clips.with_suffix('.problems.txt')}")


def plan_parts(
    config: "Config",
    paths: Paths,
    *,
    ray_variables: Callable[[], Mapping[str, str]] = dict,
) -> list[Part]:
    """What is done after clips.parquet is there, in order."""
    is_labelled = config.labels is not None
    milvus = config.milvus_uri or str(paths.milvus)
    bundle = _bundle(config, paths)
    index = Step(
        name="index",
        title="index into Milvus",
        command=tfcovr_command(
            "index", "--bundle", bundle, "--clips", paths.clips, "--milvus-uri", milvus,
            "--collection", config.collection, "--run-dir", paths.index,
        ),
        outputs=(paths.index / "index_summary.json",),
        made=lambda: describe_index(paths.index),
        variables=ray_variables,
        weight=step_weights(paths)["index"],
        statuses=(0, 1),
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
        collection=config.collection,
        videos=config.videos,
        indexed_from=_indexed_from(config.videos),
    )
    found = next(number for number, part in enumerate(parts) if part.name == "index")
    parts.insert(found + 1, _archive_part(archive, key=parts[found].key))
    if config.labels is None:
        parts = [*encoder_parts(config.encoder, paths), *parts]
    return parts


def _bundle(config: "Config", paths: Paths) -> Path:
    return paths.encoder if config.labels is None else paths.stage2 / "bundle"


def _indexed_from(videos: str) -> str:
    return videos if "://" in videos else str(Path(videos).resolve())


def _training_steps(
    config: "Config", paths: Paths, ray_variables: Callable[[], Mapping[str, str]]
) -> list[Step]:
    """clips.parquet to an exported bundle that composes."""
    clips = read_clips(paths.clips)
    num_train = sum(clip.split == "train" and clip.label is not None for clip in clips)
    wanted = num_triplets(len(clips))
    stage1 = stage1_settings(num_train)
    stage2 = stage2_settings(round(wanted * num_train / len(clips)))
    first, bundle = paths.stage1 / "bundle", paths.stage2 / "bundle"
    on_ray = {"variables": ray_variables}
    rows: list[tuple[str, str, tuple[str, ...], tuple[Path, ...], Callable[[], str], dict[str, Any]]] = [
        ("triplets", "write composed queries",
         tfcovr_command("triplets", "--clips", paths.clips, "--out", paths.triplets, "--num-triplets", str(wanted)),
         (paths.triplets,), lambda: describe_triplets(paths.triplets), {}),
        ("stage1", f"stage 1, {stage1.num_epochs} epochs: tell the labels apart",
         tfcovr_command("train", "--recipe", config.stage1_recipe, "--clips", paths.clips, "--run-dir", paths.stage1,
                        *stage1.options()),
         (first / CARD_NAME,), lambda: describe_training(paths.stage1), on_ray),
        ("vectors", "embed all clips for stage 2",
         tfcovr_command("vectors", "--clips", paths.clips, "--bundle", first, "--out", paths.vectors),
         (paths.vectors,), lambda: describe_vectors(paths.vectors), {}),
        ("stage2", f"stage 2, {stage2.num_epochs} epochs: compose clip and sentence",
         tfcovr_command("train", "--recipe", config.stage2_recipe, "--vectors", paths.vectors, "--triplets", paths.triplets,
                        "--init", first, "--run-dir", paths.stage2, *stage2.options()),
         (bundle / CARD_NAME,), lambda: describe_training(paths.stage2), on_ray),
        ("export", "export to ONNX",
         tfcovr_command("export", "--bundle", bundle, "--clips", paths.clips),
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


def _evaluate_step(paths: Paths) -> Step:
    """mAP on the held-out clips."""
    weights = step_weights(paths)
    return Step(
        name="evaluate",
        title="evaluate on the test split",
        command=tfcovr_command(
            "evaluate", "--stage2", paths.stage2, "--vectors", paths.vectors, "--triplets", paths.triplets,
            "--clips", paths.clips, "--run-dir", paths.evaluation, "--rows", "composed", "raw",
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
    clip = next(iter(read_clips(paths.clips)))
    lines = [f"  tfcovr serve {config.out}        # the page"]
    if config.labels is not None:
        test = next((c for c in read_clips(paths.clips) if c.split == "test"), clip)
        text = read_table(paths.triplets, ["edit_text"])["edit_text"][0].as_py()
        return [*lines, f'  tfcovr search {config.out} "{text}" --clip {test.clip_id}']
    return [
        *lines,
        f"  tfcovr search {config.out} --clip {clip.clip_id}",
        'To ask with words ("the same, but ..."), name the action in some clips: a CSV with the columns file and label '
        "(and start, end), a dozen clips or more per label; then",
        f"  tfcovr build {config.videos} --labels labels.csv --out {config.out}-labelled",
    ]
