"""The command line, without training; and the plain parts import where Ray, av and tyro are missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.recipes import RECIPES
from training.run import main, parse

ROOT = Path(__file__).resolve().parents[2]


def test_an_option_beats_the_recipe_and_leaves_the_rest() -> None:
    options = ["--recipe", "demo_actions", "--clips", "c.parquet", "--run-dir", "d"]
    run = parse([*options, "--config.loop.num-epochs", "7", "--config.encoder.depth", "2"])
    recipe = RECIPES["demo_actions"]()
    assert (run.config.loop.num_epochs, run.config.encoder.depth) == (7, 2)
    assert run.config.loop.learning_rate == recipe.loop.learning_rate
    assert run.config.encoder.num_frames == recipe.encoder.num_frames
    assert run.launch().num_workers == 1
    assert parse([*options, "--no-ray"]).launch().num_workers == 0


def test_stage_2_asks_for_its_own_files(capsys) -> None:
    with pytest.raises(SystemExit):
        parse(["--recipe", "demo_fusion", "--run-dir", "d"])
    text = capsys.readouterr()
    assert "--triplets" in text.out + text.err


def test_an_unknown_recipe_names_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"demo_fusion_tiny.*did you mean 'demo_fusion'"):
        main(["--recipe", "demo_fusio", "--run-dir", "d"])


def test_help_without_a_recipe_lists_recipes_and_examples(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)
    assert "ray job submit --working-dir . -- python training/run.py" in text


def test_the_plain_parts_import_without_heavy_packages() -> None:
    code = (
        "import sys\n"
        "for name in ('ray', 'av', 'tyro', 'nvidia', 'pymilvus'): sys.modules[name] = None\n"
        "import training.stage1.train, training.stage2.train, training.recipes, training.vectors.compute\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)
