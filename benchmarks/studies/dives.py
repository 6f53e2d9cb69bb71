"""Whether the demo's encoder sees time for another seed, on the harder archive and without pretraining; AIM beside it.

Renders archives of its own (seeds that no setting was chosen on), trains each variant, and writes one record. Resumable:
rerun the same command after an interruption. N clips, T frames, H W pixels, C channels, K classes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from benchmarks.demo.steps import CLASSES
from benchmarks.demo.time_evidence import measure
from benchmarks.dives.archive import ArchiveConfig, write_archive
from benchmarks.harness.record import write_record
from training.configs import LaunchSettings, Stage1Config
from training.recipes import RECIPES
from training.stage1.train import Stage1Inputs, train_stage1

Rows = Sequence[Mapping[str, Any]]
_CLIPS_PER_CLASS = (48, 8, 14)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One training and what is measured of it."""

    name: str
    config: Stage1Config
    difficulty: str = "open"


def variants(aim_start: str | None) -> list[Variant]:
    """The demo's encoder first, then AIM: from image weights of this folder, where there is one, with AIM's recipe on both archives
    and with all weights training as the released code has it; and from random weights."""
    demo, aim = RECIPES["demo_actions"](), RECIPES["demo_actions_aim"]()
    assert isinstance(demo, Stage1Config)
    assert isinstance(aim, Stage1Config)
    chosen = [
        Variant(name=f"demo_seed{seed}", config=replace(demo, loop=replace(demo.loop, seed=seed)))
        for seed in (0, 1, 2)
    ]
    chosen += [
        Variant(name="demo_full", config=demo, difficulty="full"),
        Variant(name="demo_random_image_part", config=replace(demo, pretrained_image=None)),
        Variant(name="aim_random_image_part", config=aim),
    ]
    if aim_start is not None:
        aim = replace(aim, pretrained_image=aim_start)
        chosen += [
            Variant(name="aim", config=aim),
            Variant(name="aim_full", config=aim, difficulty="full"),
            Variant(name="aim_all_weights", config=replace(aim, freeze_pretrained=False)),
        ]
    return chosen


def run_variant(variant: Variant, clips_path: Path, run_dir: Path) -> Rows:
    """Rows of top-1 on the test split, beside the controls."""
    # Seeds of one image part share its frame vectors; AIM has none.
    kept_dir = clips_path.parent / f"frame_vectors_{variant.config.pretrained_image or 'random'}"
    inputs = Stage1Inputs(clips_path=clips_path, frame_vectors_dir=kept_dir)
    train_stage1(variant.config, inputs, run_dir / "stage1", LaunchSettings())
    evidence = measure(
        run_dir / "stage1", clips_path, run_dir / "controls", split="test", kept_dir=kept_dir
    )
    return cast(Rows, evidence["rows"])


def study(
    out_dir: Path, chosen: Sequence[Variant], *, seed: int, say: Callable[[str], object]
) -> dict[str, object]:
    """Figures by variant and row, and what the validation clips said after each epoch that was measured."""
    metrics: dict[str, object] = {}
    for variant in chosen:
        archive = ArchiveConfig(
            classes=CLASSES,
            clips_per_class=_CLIPS_PER_CLASS,
            difficulty=variant.difficulty,
            seed=seed,
        )
        clips_path = write_archive(out_dir / f"archive_{variant.difficulty}", archive)
        for row in run_variant(variant, clips_path, out_dir / variant.name):
            name = f"{variant.name}.{row['name']}"
            metrics[name] = row["top1"]
            say(f"{name}: {row['top1']:.1%} [{row['low']:.1%}, {row['high']:.1%}]")
        metrics[f"{variant.name}.val_by_epoch"] = _val_by_epoch(out_dir / variant.name / "stage1")
    return metrics


def _val_by_epoch(run_dir: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return {line["epoch"]: line["val_top1"] for line in lines if "val_top1" in line}


def _pretraining(folder: str) -> dict[str, Any]:
    """What the image weights cost, and how well they read poses on the way."""
    info = json.loads((Path(folder) / "pretraining.json").read_text())
    return {name: info[name] for name in ("pretraining", "train_cpu_s", "snapshots", "held_out")}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.dives",
        description=__doc__,
        epilog="example: python -m benchmarks.pretraining.vit --name vit_tiny --out runs/weights && "
        "python -m benchmarks.studies.dives --out runs/study --aim-start runs/weights/vit_tiny --only aim aim_full",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--aim-start",
        help="folder of `benchmarks.pretraining.vit`; without it AIM starts at random",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the archives (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="instead of all")
    given = parser.parse_args(argv)
    if given.aim_start is not None and not (Path(given.aim_start) / "config.json").is_file():
        parser.error(
            f"--aim-start {given.aim_start!r} is not a folder of `benchmarks.pretraining.vit`"
        )
    chosen = variants(given.aim_start)
    names = [variant.name for variant in chosen]
    if unknown := sorted(set(given.only or ()) - set(names)):
        parser.error(f"--only {unknown[0]!r} is unknown; choose from {', '.join(names)}")
    if given.only:
        chosen = [variant for variant in chosen if variant.name in given.only]
    metrics = study(given.out, chosen, seed=given.seed, say=Console(soft_wrap=True).print)
    name = "_".join(["dive_study", *(given.only or ())])
    config = {
        "classes": list(CLASSES),
        "clips_per_class": list(_CLIPS_PER_CLASS),
        "archive_seed": given.seed,
        "difficulty": {variant.name: variant.difficulty for variant in chosen},
        "epochs": {variant.name: variant.config.loop.num_epochs for variant in chosen},
        "aim_start": None if given.aim_start is None else _pretraining(given.aim_start),
    }
    sys.stdout.write(f"{write_record(name, config=config, metrics=metrics)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
