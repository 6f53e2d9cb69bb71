"""The front door: every command leads somewhere, mistakes get a hint, bad input gets one line."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import tfcovr

ROOT = Path(__file__).resolve().parent.parent


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert tfcovr.main(["serch"]) == 2
    assert "did you mean 'search'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(tfcovr.COMMANDS))
def test_every_command_has_a_module_with_main(name: str) -> None:
    module = tfcovr.COMMANDS[name].module
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} is missing"
    assert "def main(" in Path(str(spec.origin)).read_text()


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
    class Refusing:
        @staticmethod
        def main(_: list[str]) -> int:
            raise ValueError("k is 0; it must be at least 1")

    monkeypatch.setattr(tfcovr.importlib, "import_module", lambda _: Refusing)
    assert tfcovr.main(["search", "-k", "0"]) == 2
    assert capsys.readouterr().err == "error: k is 0; it must be at least 1\n"
