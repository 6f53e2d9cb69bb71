import pytest

from training.configs import LoopConfig
from training.trainer.run_folder import open_run, read_result, write_result

CONFIG = LoopConfig(num_epochs=2, batch_size=8, learning_rate=0.1, weight_decay=0)
OTHER = LoopConfig(num_epochs=2, batch_size=9, learning_rate=0.1, weight_decay=0)


def test_the_same_run_is_known_again_and_another_is_refused(tmp_path) -> None:
    key = open_run(tmp_path, stage="s", config=CONFIG, inputs={"clips": "abc"})
    assert open_run(tmp_path, stage="s", config=CONFIG, inputs={"clips": "abc"}) == key
    with pytest.raises(ValueError, match=r"config\.batch_size: 8 there, 9 now\)"):
        open_run(tmp_path, stage="s", config=OTHER, inputs={"clips": "abc"})
    with pytest.raises(ValueError, match=r"inputs\.clips: 'abc' there, 'abd' now"):
        open_run(tmp_path, stage="s", config=CONFIG, inputs={"clips": "abd"})


def test_a_result_counts_for_its_own_key_only(tmp_path) -> None:
    assert read_result(tmp_path, "k") is None
    write_result(tmp_path, {"key": "k", "epoch": 3})
    assert read_result(tmp_path, "k") == {"key": "k", "epoch": 3}
    assert read_result(tmp_path, "other") is None
