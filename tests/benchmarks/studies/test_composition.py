"""Every variant is the recipe but for what it names, and only recipes of stage 2 are taken."""

from dataclasses import replace

import pytest

from benchmarks.studies.composition import VARIANTS, main
from training.recipes import demo_fusion


def test_a_variant_changes_what_it_names_and_nothing_else():
    recipe = demo_fusion()
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names)
    for variant in VARIANTS:
        config = variant.config(recipe)
        back = replace(config.loop, num_epochs=recipe.loop.num_epochs, seed=recipe.loop.seed)
        kept = {name: getattr(recipe, name) for name in variant.changes}
        assert replace(config, loop=back, **kept) == recipe
        assert (config == recipe) == (variant.name == "demo")


def test_a_recipe_of_stage_1_or_of_no_stage_is_refused(tmp_path, capsys):
    for recipe in ("demo_actions", "nope"):
        flags = ["--demo", str(tmp_path), "--out", str(tmp_path), "--recipe", recipe]
        with pytest.raises(SystemExit):
            main(flags)
        assert "demo_fusion" in capsys.readouterr().err
