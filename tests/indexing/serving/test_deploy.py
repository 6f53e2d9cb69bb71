from dataclasses import replace
from pathlib import Path

import pytest

from indexing.commands.serve import chosen_token
from indexing.serving.config import ServeConfig
from tfcovr import run_command

CONFIG = ServeConfig(bundle=Path("bundle"), milvus_uri="milvus")


@pytest.fixture(autouse=True)
def _no_token_from_outside(monkeypatch) -> None:
    monkeypatch.delenv("TFCOVR_TOKEN", raising=False)


def test_beyond_loopback_there_is_a_token_unless_it_is_said_that_there_is_none(monkeypatch) -> None:
    assert chosen_token(CONFIG) == ""
    assert chosen_token(replace(CONFIG, host="::1")) == ""
    open_to_all = replace(CONFIG, host="0.0.0.0")
    made_up = chosen_token(open_to_all)
    assert len(made_up) >= 32
    assert chosen_token(open_to_all) != made_up
    assert chosen_token(replace(open_to_all, no_token=True)) == ""
    monkeypatch.setenv("TFCOVR_TOKEN", "from-outside")
    assert chosen_token(open_to_all) == "from-outside"
    assert chosen_token(replace(CONFIG, token="given")) == "given"
    with pytest.raises(ValueError, match="exclude each other"):
        chosen_token(replace(CONFIG, token="given", no_token=True))


@pytest.mark.parametrize(
    "wrong",
    [{"port": 0}, {"port": 70_000}, {"replicas": 0}, {"token": "a b"}, {"token": "\u00e4"}, {"clip_hosts": ("http://a.test",)}],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"port is|token must|must be HOST"):
        replace(CONFIG, **wrong)


def test_what_the_options_say_of_urls() -> None:
    config = replace(CONFIG, clip_hosts=("media.test",), clip_hosts_private=True, max_body_mb=2)
    assert config.url_policy.max_bytes == 2 << 20
    assert config.url_policy.allow_private
    assert CONFIG.url_policy.hosts == ()


def test_an_archive_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    uri = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nowhere' is not a Milvus Lite folder"):
        run_command("serve", ["--bundle", str(tmp_path), "--milvus-uri", uri])
    assert not (tmp_path / "nowhere").exists()
