"""The entry point: every command leads somewhere, mistakes get a hint, bad input gets one line."""

import dataclasses
import importlib
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import tfcovr

ROOT = Path(__file__).resolve().parent.parent


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert tfcovr.main(["serch"]) == 2
    assert "did you mean 'search'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(tfcovr.COMMANDS))
def test_every_command_has_config_run_and_examples(name: str) -> None:
    entry = tfcovr.COMMANDS[name]
    verb = entry.module.rpartition(".")[2]
    assert verb == name.replace("-", "_")
    command = importlib.import_module(entry.module)
    assert callable(command.run)
    assert f"tfcovr {name}" in command.EXAMPLES or name == "train"
    kinds = typing.get_args(command.Config) or (command.Config,)
    for kind in kinds:
        config = typing.get_args(kind)[0] if typing.get_args(kind) else kind
        assert dataclasses.is_dataclass(config)
        assert config.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    source = Path(str(command.__file__)).read_text()
    assert "def main(" not in source
    assert "__main__" not in source
    assert "tyro.cli" not in source


@pytest.mark.parametrize("name", sorted(tfcovr._PUBLIC))
def test_public_names_resolve(name: str) -> None:
    assert getattr(tfcovr, name) is not None


def test_import_of_the_front_door_is_light() -> None:
    code = (
        "import sys, tfcovr; print(sorted({'torch', 'ray', 'av', 'pymilvus'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_bad_input_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str, arguments: list[str]) -> int:
        raise ValueError("limit is 0; it must be at least 1")

    monkeypatch.setattr(tfcovr, "run_command", refuse)
    assert tfcovr.main(["search", "--limit", "0"]) == 2
    assert capsys.readouterr().err == "error: limit is 0; it must be at least 1\n"
