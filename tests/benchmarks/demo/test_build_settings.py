import math

import pytest

from benchmarks.demo.build_settings import num_triplets, stage1_settings, stage2_settings


@pytest.mark.parametrize("num_clips", [2, 10, 100, 864, 5_000, 100_000])
def test_small_and_large_sets_get_enough_steps_in_a_bounded_number_of_epochs(
    num_clips: int,
) -> None:
    for settings in (stage1_settings(num_clips), stage2_settings(num_clips)):
        steps = settings.num_epochs * math.ceil(num_clips / settings.batch_size)
        assert 12 <= settings.num_epochs <= 60
        assert 1 <= settings.batch_size <= num_clips
        assert settings.num_warmup_steps < steps
        assert 1 <= settings.eval_every <= settings.num_epochs


def test_the_demo_gets_what_its_recipes_have() -> None:
    assert stage1_settings(864).num_epochs == 20
    assert stage1_settings(864).batch_size == 32
    assert stage2_settings(8_200).num_epochs == 12


def test_triplets_grow_with_the_clips_up_to_the_paper() -> None:
    assert [num_triplets(n) for n in (40, 1_200, 10**6)] == [2_000, 12_000, 180_000]
