import re
from dataclasses import replace
from pathlib import Path

import pytest

from indexing.commands.serve import chosen_token
from indexing.serving.config import ServeConfig
from indexing.serving.deploy import allowed_hosts, last_error
from indexing.serving.guard.access import LOOPBACK_HOSTS
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


def test_on_loopback_without_a_token_only_its_names_are_answered() -> None:
    assert allowed_hosts(CONFIG, token="") == LOOPBACK_HOSTS
    assert allowed_hosts(CONFIG, token="given") == ()
    assert allowed_hosts(replace(CONFIG, host="0.0.0.0"), token="") == ()
    named = replace(CONFIG, allowed_hosts=("clips.example.org",))
    assert allowed_hosts(named, token="") == ("clips.example.org",)


def test_a_client_has_a_quarter_of_the_places_unless_it_is_said_otherwise() -> None:
    assert CONFIG.client_places == 64
    assert replace(CONFIG, max_in_flight=2).client_places == 1
    assert replace(CONFIG, max_in_flight_per_client=200).client_places == 200


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_json_kb": 0}, "max_json_kb is 0"), ({"max_uploads_mb": -1}, "max_uploads_mb is -1"), ({"max_in_flight_per_client": 257}, "it must be 1 to max_in_flight"),
        ({"allowed_hosts": ("http://a.test",)}, "allowed_hosts has 'http://a.test'"), ({"allowed_hosts": ("*.a.test",)}, "allowed_hosts"),
        ({"allowed_hosts": ("A.test",)}, "lower case"), ({"trusted_proxies": ("a.test",)}, "trusted_proxies has 'a.test'"), ({"max_body_mb": 0}, "max_body_mb"),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be_is_named_with_what_is_allowed(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
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


def test_why_a_replica_did_not_start_is_the_last_error_of_its_log(tmp_path) -> None:
    assert last_error(tmp_path) == ""
    log = tmp_path / "replica_tfcovr_ASGIIngressDeployment_a1.log"
    log.write_text("ERROR 2026 started\n  File x\nencoders.checks.BundleMismatchError: b has no text.onnx\nERROR 2026 Exiting.\n")  # fmt: skip
    assert last_error(tmp_path) == "encoders.checks.BundleMismatchError: b has no text.onnx"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ef": 0}, "ef is 0; it must be at least 1"),
        ({"sample_share": 2.0}, "sample_share is 2.0; it must lie in"),
        ({"sample_share": float("nan")}, "sample_share is nan"),
        ({"otlp_endpoint": "ftp://x"}, "otlp_endpoint is 'ftp://x'; it must be http"),
        ({"otlp_endpoint": "x"}, "otlp_endpoint is 'x'"),
    ],
)
def test_options_that_cannot_be_are_told_before_ray_starts(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeConfig(**values)
