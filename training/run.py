"""Train by recipe: `python training/run.py --recipe NAME ...`, alone or through `ray job submit --working-dir . -- ...`.

Stage 1 recipes need --clips, stage 2 recipes --triplets, --init and --clips (or --vectors), or --data: a folder of released files.
Every value of a recipe is an option, and an option beats the recipe. Resumable: rerun the same command after an interruption; a
finished run is not repeated.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Python puts the script's folder first, where our modules would hide packages of the same name.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cluster.processes import leave, run_until_signal
from encoders.media.container import MediaLimits
from training.configs import GpuEstimate, LaunchSettings, Stage1Config, Stage2Config
from training.recipes import RECIPES

EXAMPLES = """
  python training/run.py --recipe demo_actions --clips clips.parquet --run-dir runs/stage1
  python training/run.py --recipe demo_fusion --clips clips.parquet --triplets triplets.parquet \\
      --init runs/stage1/bundle --run-dir runs/stage2
  python training/run.py --recipe tfcovr_base --data TF-CoVR --run-dir runs/tfcovr
  python training/run.py --recipe tfcovr_released --data TF-CoVR --run-dir runs/released --skip-bad
  python training/run.py --recipe aim_vit_b16_finegd --clips clips.parquet --run-dir runs/aim --dry-run
  python training/run.py --recipe demo_actions ... --config.loop.num-epochs 5 --config.encoder.depth 2
  python training/run.py --recipe aim_vit_b16_finegd ... --num-workers 8            8 Ray Train workers
  ray job submit --working-dir . -- python training/run.py --recipe aim_vit_b16_finegd ... --num-workers 8
  python training/run.py --recipe demo_actions --help                        all options of a recipe
"""


@dataclass(frozen=True, kw_only=True)
class _Run:
    recipe: str
    """One of the recipes."""
    run_dir: Path
    """Everything the run writes; shared by all nodes."""
    num_workers: int = 1
    """Ray Train workers; 0 = no Ray."""
    no_ray: bool = False
    """The plain torch loop in this process, as --num-workers 0."""
    cpus_per_worker: float = 1.0
    use_gpu: bool | None = None
    """None = if there is one."""
    max_failures: int = 3
    """How often the run survives a dead worker."""
    address: str | None = None
    """Ray cluster; None = RAY_ADDRESS, or a local one."""
    quiet: bool = False
    """No progress bars."""
    limits: MediaLimits = field(default_factory=MediaLimits)

    def launch(self) -> LaunchSettings:
        return LaunchSettings(
            num_workers=0 if self.no_ray else self.num_workers,
            cpus_per_worker=self.cpus_per_worker,
            use_gpu=self.use_gpu,
            max_failures=self.max_failures,
            address=self.address,
            show_progress=not self.quiet,
            limits=self.limits,
        )


@dataclass(frozen=True, kw_only=True)
class Stage1Run(_Run):
    """Action classification: clips.parquet -> bundle with a video encoder and a classification head."""

    clips: Path
    """clips.parquet with labels and splits."""
    frame_vectors_dir: Path | None = None
    """Where vectors of a frozen image part are kept; runs may share it. None = in the run folder."""
    dry_run: bool = False
    """Train nothing: print memory and time of a step here, and the time of an epoch on N GPUs."""
    gpu: GpuEstimate = field(default_factory=GpuEstimate)
    """What --dry-run supposes of the GPUs."""
    config: Stage1Config

    def train(self) -> dict[str, Any]:
        """Returns what result.json holds."""
        from training.stage1.train import Stage1Inputs, train_stage1

        inputs = Stage1Inputs(clips_path=self.clips, frame_vectors_dir=self.frame_vectors_dir)
        return train_stage1(self.config, inputs, self.run_dir, self.launch())

    def describe_cost(self) -> str:
        """What --dry-run prints."""
        from encoders.clips import read_clips
        from training.stage1.dry_run import describe, dry_run
        from training.stage1.task import class_names, select_clips

        clips = select_clips(read_clips(self.clips), self.config)["train"]
        cost = dry_run(
            self.config,
            num_clips=len(clips),
            num_classes=len(class_names(clips, self.config)["label"]),
            num_workers=self.num_workers,
            estimate=self.gpu,
        )
        return describe(cost)


@dataclass(frozen=True, kw_only=True)
class Stage2Run(_Run):
    """Composition: a stage 1 bundle and triplets -> bundle that answers (clip, edit text)."""

    triplets: Path
    """triplets.parquet."""
    init: Path
    """Stage 1 bundle."""
    clips: Path | None = None
    """clips.parquet, whose clips become vectors in the run folder. With --vectors only their attributes are read, which demo_fusion_factored
    edits; without them it knows those that names of labels tell."""
    vectors: Path | None = None
    """vectors.parquet of the same bundle, so that no clip is embedded."""
    config: Stage2Config

    def train(self) -> dict[str, Any]:
        from training.stage2.train import Stage2Inputs, train_stage2

        inputs = Stage2Inputs(
            triplets_path=self.triplets,
            init_bundle=self.init,
            clips_path=self.clips,
            vectors_path=self.vectors,
        )
        return train_stage2(self.config, inputs, self.run_dir, self.launch())


@dataclass(frozen=True, kw_only=True)
class Stage2DataRun(_Run):
    """Composition from released files: annotations and embeddings -> trained composer and an evaluation of both protocols."""

    data: Path
    """Folder with train, val and test annotations and embeddings."""
    init: Path | None = None
    """Bundle of the encoder that made the embeddings; with it the run makes a bundle that can be searched with."""
    skip_missing: bool = False
    """Leave out clips without an embedding, and list them, instead of stopping."""
    skip_bad: bool = False
    """Leave out rows and vectors that cannot be read, and list them, instead of stopping."""
    embeddings: str | None = None
    """Name of one of several embeddings of the folder; None = the only one, or the one whose name has "aim" in it."""
    eval_split: str = "test"
    config: Stage2Config

    def train(self) -> dict[str, Any]:
        from training.released_data import DataChoices, train_on_data

        return train_on_data(
            self.config,
            self.data,
            self.run_dir,
            init_bundle=self.init,
            choices=DataChoices(
                embeddings=self.embeddings,
                skips_missing=self.skip_missing,
                skips_bad=self.skip_bad,
            ),
            eval_split=self.eval_split,
            launch=self.launch(),
        )


AnyRun = Stage1Run | Stage2Run | Stage2DataRun


def parse(argv: Sequence[str]) -> AnyRun:
    """The recipe first: its values are the defaults of the other options."""
    import tyro

    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--recipe")
    finder.add_argument("--data", nargs="?", const="")
    known = finder.parse_known_args(argv)[0]
    name = known.recipe
    if name is None:
        wants_help = not argv or "--help" in argv or "-h" in argv
        sys.stdout.write(f"{__doc__}\nrecipes:\n{_recipe_list()}\n\nexamples:{EXAMPLES}")
        raise SystemExit(0 if wants_help else 2)
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"recipe is {name!r}; choose one of {', '.join(RECIPES)}{hint}")
    default = _defaults(name, has_data=known.data is not None)
    config = tyro.cli(
        type(default),
        args=list(argv),
        default=default,
        description=f"{__doc__}\nexamples:{EXAMPLES}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    return replace(config)


def _defaults(name: str, *, has_data: bool) -> AnyRun:
    """The kind of run that recipe and options ask for, with what has no default left open."""
    import tyro

    missing: Any = tyro.MISSING
    config = RECIPES[name]()
    settings = {"recipe": name, "run_dir": missing, "config": config}
    if isinstance(config, Stage1Config):
        if has_data:
            raise ValueError(f"--data is for stage 2; recipe {name!r} is stage 1 and takes --clips")
        return Stage1Run(clips=missing, **settings)
    if has_data:
        return Stage2DataRun(data=missing, **settings)
    return Stage2Run(triplets=missing, init=missing, **settings)


def _recipe_list() -> str:
    return "\n".join(
        f"  {name:<18} {(recipe.__doc__ or '').splitlines()[0]}" for name, recipe in RECIPES.items()
    )


def run(config: AnyRun) -> int:
    """Train, or with --dry-run say what it costs, and print what was made."""
    if isinstance(config, Stage1Run) and config.dry_run:
        sys.stdout.write(config.describe_cost() + "\n")
        return 0
    result = config.train()
    scores = ", ".join(f"{name} {result[name]:.3f}" for name in result if name.startswith("val_"))
    product = config.run_dir / (result["bundle"] or result["composer"])
    sys.stdout.write(f"{product}: epoch {result['epoch']}, {scores}\n")
    if isinstance(config, Stage2DataRun):
        from training.released_data import print_evaluation

        print_evaluation(config.run_dir)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run(parse(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    try:
        leave(run_until_signal(main))
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error
