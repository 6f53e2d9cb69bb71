from pathlib import Path

import pytest

from indexing.commands.labels import Config, parse_label
from indexing.serving.config import ServeConfig


def test_a_label_is_behind_the_last_equals_sign() -> None:
    assert parse_label("a=b=103b") == ("a=b", "103b")
    assert parse_label("clip 1=") == ("clip 1", "")
    for wrong in ("clip", "=x"):
        with pytest.raises(ValueError, match="CLIP_ID=LABEL"):
            parse_label(wrong)


def test_labels_lie_in_the_archive_folder_unless_another_is_named() -> None:
    assert Config(archive=Path("runs/mine")).folder() == Path("runs/mine/labels")
    assert Config(archive=Path("runs/mine"), labels=Path("x")).folder() == Path("x")
    with pytest.raises(ValueError, match="give --labels FOLDER"):
        Config(bundle=Path("b"), milvus_uri="m").folder()


def test_one_process_serves_an_archive_that_is_labelled() -> None:
    with pytest.raises(ValueError, match="replicas is 2; with labels it must be 1"):
        ServeConfig(archive=Path("a"), labels=Path("l"), replicas=2)
