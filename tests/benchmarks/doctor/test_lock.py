"""The files of hashes against the packages that are installed and against constraints.txt."""

import re
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

from benchmarks.doctor.lock import BASE, TESTS, needed_packages

ROOT = Path(__file__).resolve().parents[3]
LINE = re.compile(r"([a-z0-9-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")


def locked(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("-r ")]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), [line for line, found in zip(lines, matches, strict=True) if not found]
    return {found[1]: found[2] for found in matches if found}


def test_every_needed_package_is_locked_at_its_version() -> None:
    base = locked("requirements.txt")
    needed = needed_packages(BASE) | needed_packages((), "setuptools")
    assert {name: base.get(name) for name in needed} == needed
    needed = needed_packages(TESTS)
    both = base | locked("requirements-tests.txt")
    assert {name: both.get(name) for name in needed} == needed
    assert "torch" not in both


def test_the_versions_are_those_of_the_constraints() -> None:
    pins = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()]
    constrained = {canonicalize_name(name): version for name, version in pins}
    both = locked("requirements.txt") | locked("requirements-tests.txt")
    assert {name: constrained.get(name) for name in both} == both


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    """pip's own check, of a line as it is written here."""
    (tmp_path / "locked-9.9-py3-none-any.whl").write_bytes(b"not what was locked")
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"locked==9.9 --hash=sha256:{'0' * 64}\n")
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-index", "--dry-run", "--ignore-installed"]  # fmt: skip
    done = subprocess.run([*command, "--find-links", str(tmp_path), "--requirement", str(lock)], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
