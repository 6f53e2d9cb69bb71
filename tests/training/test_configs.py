"""A value that no training can use is refused where it is given, by its name."""

from dataclasses import replace

import pytest

from training.configs import AugmentConfig, LaunchSettings
from training.recipes import demo_actions, demo_fusion


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (demo_fusion().loop, {"betas": (0.9, 1.0)}),
        (demo_fusion().loop, {"num_threads": 0}),
        (AugmentConfig(), {"decode_size": 0}),
        (demo_actions(), {"attribute_weight": -0.5}),
        (demo_fusion(), {"projection_dim": 0}),
        (demo_fusion(), {"hidden_dim": -1}),
        (demo_fusion(), {"max_tokens": 0}),
        (demo_fusion(), {"beta": -0.5}),
        (demo_fusion(), {"text_learning_rate_scale": float("nan")}),
        (LaunchSettings(), {"cpus_per_worker": 0.0}),
    ],
)
def test_a_value_out_of_range_is_named(config, changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name} is .*; it must be "):
        replace(config, **changes)
