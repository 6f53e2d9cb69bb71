"""The entry point: every command leads somewhere, mistakes get a hint, bad input gets one line."""

import dataclasses
import errno
import importlib
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import ray.exceptions
from pymilvus.exceptions import MilvusException

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


def test_no_command_imports_what_is_heavy_for_its_options() -> None:
    """Help, and errors in options and paths, come before torch, Ray, PyAV and the client of Milvus are imported."""
    modules = sorted(entry.module for entry in tfcovr.COMMANDS.values())
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'ray', 'av', 'pymilvus'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{name} imports {sorted(heavy)}')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_bad_input_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str, arguments: list[str]) -> int:
        raise ValueError("limit is 0; it must be at least 1")

    monkeypatch.setattr(tfcovr, "run_command", refuse)
    assert tfcovr.main(["search", "--limit", "0"]) == 2
    assert capsys.readouterr().err == "error: limit is 0; it must be at least 1\n"


def _examples() -> list[str]:
    """One command a line; `...` stands for the options of the command's first example."""
    lines: list[str] = []
    for name, entry in tfcovr.COMMANDS.items():
        if name == "train":  # its options depend on recipe and files: tests/training/test_run.py
            continue
        text = importlib.import_module(entry.module).EXAMPLES.replace("\\\n", " ")
        commands = [line.strip() for line in text.splitlines() if line.strip()]
        first = commands[0].removeprefix(f"tfcovr {name} ")
        lines += [line.replace(" ... ", f" {first} ") for line in commands]
    return lines


@pytest.mark.parametrize("line", _examples())
def test_every_example_parses(line: str) -> None:
    program, name, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
    assert program == "tfcovr"
    _command, config = tfcovr.parse(name, arguments)
    assert config is not None


@pytest.mark.parametrize("name", sorted(tfcovr.COMMANDS))
def test_help_shows_options_and_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        tfcovr.parse(name, ["--help"])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr().out
    assert "example" in shown
    assert "--" in shown


def test_the_list_of_commands_names_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert tfcovr.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in tfcovr.COMMANDS:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1


def test_version_and_dir(capsys: pytest.CaptureFixture[str]) -> None:
    assert tfcovr.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfcovr {tfcovr.__version__}\n"
    assert set(tfcovr._PUBLIC) <= set(dir(tfcovr))


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted; rerun the same command to resume"),
        (SystemExit(143), 143, "terminated; rerun the same command to resume"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "the disk is full at /x/y"),
        (MilvusException(message="[Errno 28] No space left on device"), 2, "the disk is full: "),
        (MilvusException(message="server unavailable"), 2, "see that --milvus-uri is right"),
        (ray.exceptions.NodeDiedError("it died"), 2, "Ray: NodeDiedError"),
        (FloatingPointError("the loss is not finite at step 7"), 2, "not finite at step 7"),
        (MemoryError("Unable to allocate 9 TiB"), 2, "too little memory: Unable to allocate 9 TiB"),
    ],
)
def test_what_ends_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    line: str,
) -> None:
    def fail(name: str, arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(tfcovr, "run_command", fail)
    assert tfcovr.main(["index"]) == status
    shown = capsys.readouterr().err
    assert line in shown
    assert shown.count("\n") == 1


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, arguments: list[str]) -> int:
        raise KeyError("defect")

    monkeypatch.setattr(tfcovr, "run_command", fail)
    with pytest.raises(KeyError):
        tfcovr.main(["index"])


def _ended(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50
    )


def test_sigterm_ends_with_its_status() -> None:
    code = (
        "import os, signal, time, tfcovr\n"
        "def run(name, arguments):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "tfcovr.run_command = run\n"
        "raise SystemExit(tfcovr.main(['index']))\n"
    )
    ended = _ended(code)
    assert ended.returncode == 143
    assert "terminated; rerun the same command to resume" in ended.stderr


def test_being_told_again_does_not_cut_short_how_a_command_ends() -> None:
    """As a terminal and the command that started it tell it: Ctrl-C, then SIGTERM and Ctrl-C at once."""
    code = (
        "import os, signal, time, tfcovr\n"
        "def run(name, arguments):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('cleaned up', flush=True)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "tfcovr.run_command = run\n"
        "raise SystemExit(tfcovr.main(['index']))\n"
    )
    ended = _ended(code)
    assert (ended.returncode, ended.stdout) == (130, "cleaned up\n")
    assert ended.stderr == "interrupted; rerun the same command to resume\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("serve --bundle nope --milvus-uri m", "--bundle is 'nope', which does not exist; expected a bundle"),
        ("triplets --clips no.parquet --out t", "--clips is 'no.parquet', which does not exist; expected a Parquet"),
        ("import-annotations table --table no.csv --out c.parquet", "'no.csv': does not exist"),
        ("train --recipe demo_actions --clips no.parquet --run-dir r", "--clips is 'no.parquet', which does not"),
    ],
)  # fmt: skip
def test_a_missing_file_is_named_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tfcovr.main(arguments.split()) == 2
    shown = capsys.readouterr().err
    assert line in shown
    assert "Errno" not in shown
    assert list(tmp_path.iterdir()) == []
