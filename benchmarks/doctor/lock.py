"""`make lock`: requirements.txt and requirements-tests.txt, the installed packages with the hashes of their files.

pip checks hashes of requirements only, not of constraints; what these two hold is installed without asking for dependencies. torch is left out: which build a machine takes, and what that build needs, follows from its GPU.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.harness.record import REPOSITORY
from cluster.storage import write_atomic

BASE = ("cpu",)
TESTS = ("cpu", "dev", "dali", "tensorrt-rtx", "server", "shots")
_BUILD = "setuptools"
"""Builds the program, without a download of its own."""
_LEFT_OUT = "torch"
_OF_ITS_BUILD = ("cuda-", "nvidia-", "triton")
"""Beginnings of the names of packages that a build of torch for GPUs brings."""
Hashes = Mapping[str, set[str]]
"""Name -> SHA-256 of its files."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write the two files."""

    pythons: tuple[str, ...] = ("3.11", "3.12")
    """Versions of Python whose files count, on this kind of machine; none but the running one need be installed."""


def run(config: Config) -> int:
    """Status 0; CalledProcessError where pip does not find a file."""
    base, tests = needed_packages(BASE) | needed_packages((), _BUILD), needed_packages(TESTS)
    pins = waiting = base | tests
    hashes: dict[str, set[str]] = {name: set() for name in pins}
    for python in config.pythons:
        files = _chosen_files(python, waiting)
        for name, (_, sha256) in files.items():
            hashes[name].add(sha256)
        # A file for every Python is the same for the next one; pip downloads what it is asked for.
        waiting = {name: pins[name] for name, (url, _) in files.items() if "-py3-none-" not in url}
    write_atomic(REPOSITORY / "requirements.txt", "".join(_lines(base, base, hashes)))
    more = _lines(tests.keys() - base.keys(), tests, hashes)
    write_atomic(REPOSITORY / "requirements-tests.txt", "".join(["-r requirements.txt\n", *more]))
    sys.stdout.write(f"{len(base)} packages, and {len(more)} for the tests\n")
    return 0


def needed_packages(extras: Iterable[str], name: str = "tfcovr") -> dict[str, str]:
    """Name -> installed version of all that an installed package needs with these extras; torch and the program left out."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        try:
            package = distribution(item[0])
        except PackageNotFoundError:  # of another Python or system
            continue
        if item[0] not in ("tfcovr", _LEFT_OUT):
            pins[item[0]] = package.version
        for line in package.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": item[1]}):
                needed_name = canonicalize_name(needed.name)
                if item[0] == _LEFT_OUT and needed_name.startswith(_OF_ITS_BUILD):
                    continue
                waiting += [(needed_name, extra) for extra in ("", *needed.extras)]
    return pins


def _lines(names: Iterable[str], pins: Mapping[str, str], hashes: Hashes) -> list[str]:
    return [
        f"{name}=={pins[name]}" + "".join(f" --hash=sha256:{sha256}" for sha256 in sorted(hashes[name])) + "\n"
        for name in sorted(names)
    ]  # fmt: skip


def _chosen_files(python: str, pins: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Name -> (URL, SHA-256) of the file of each package that pip would install."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--report", "-"]  # fmt: skip
    command += [f"{name}=={version}" for name, version in pins.items()]
    # pip answers for another Python only about wheels, and only with a folder to install into.
    with tempfile.TemporaryDirectory() as folder:
        command += ["--python-version", python, "--only-binary", ":all:", "--target", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path.home())
    files: dict[str, tuple[str, str]] = {}
    for item in json.loads(done.stdout)["install"]:
        source = item["download_info"]
        sha256 = source["archive_info"]["hashes"]["sha256"]
        files[canonicalize_name(item["metadata"]["name"])] = source["url"], sha256
    return files


def main() -> int:
    """The command line."""
    import tyro

    return run(tyro.cli(Config, description=__doc__))


if __name__ == "__main__":
    raise SystemExit(main())
