"""Coverage-guided fuzzing of the readers of hostile input, by atheris (libFuzzer): an input that reaches new branches is mutated further.

python -m tests.support.faults.fuzz [--seconds 60] [--seed 0] [--only NAME]; status 1 and the input in hex where a reader raises anything
other than its own errors, or takes ten seconds or 2 GB.
"""

import argparse
import hashlib
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.record import REPOSITORY
from tests.support.faults.fuzz_targets import TARGETS, Target

_INSTRUMENTED = ("encoders", "indexing", "training", "tests")
_OPTIONS = ("-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1")
_CHILD = "from tests.support.faults.fuzz import fuzz_here; fuzz_here()"


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """What one target came to; `crash` is the input that did it, and the error."""

    num_inputs: int
    num_branches: int
    crash: tuple[bytes, str] | None


def fuzz(name: str, *, seconds: float, seed: int = 0, module: str = Target.__module__) -> Fuzzed:
    """Fuzz the entry `name` of `TARGETS` in `module`; ends early with the first crash."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        chosen = f"-max_total_time={max(1, round(seconds))}", f"-seed={seed + 1}"
        command = [sys.executable, "-c", _CHILD, module, name, str(corpus), *_OPTIONS, *chosen]
        done = subprocess.run(
            [*command, f"-artifact_prefix={folder}/crash_"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        said = done.stdout + done.stderr
        crashes = sorted(Path(folder).glob("crash_*"))
        if done.returncode and not crashes:
            raise RuntimeError(f"the fuzzer ended with status {done.returncode}:\n{said}")
        crash = (crashes[0].read_bytes(), _reason(said)) if crashes else None
        return Fuzzed(
            num_inputs=_last_number(r"number_of_executed_units: ", said),
            num_branches=_last_number(r"\bcov: ", said),
            crash=crash,
        )


def fuzz_here() -> None:
    """What the process of a target does; libFuzzer ends it."""
    atheris: Any = importlib.import_module(
        "atheris"
    )  # it hooks imports, and the parent needs none of it
    module, name, corpus, *options = sys.argv[1:]
    for loaded in [key for key in sys.modules if key.partition(".")[0] in _INSTRUMENTED]:
        del sys.modules[loaded]
    with atheris.instrument_imports(include=_INSTRUMENTED):
        targets: Mapping[str, Target] = importlib.import_module(module).TARGETS
    target = targets[name]
    for seed in target.seeds:
        Path(corpus, hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)

    def read(data: bytes) -> None:
        with suppress(*target.allowed):
            target.read(data)

    atheris.Setup([sys.argv[0], corpus, *options], read)
    atheris.Fuzz()


def _last_number(before: str, said: str) -> int:
    found = re.findall(before + r"(\d+)", said)
    return int(found[-1]) if found else 0


def _reason(said: str) -> str:
    """The line that names the exception, or libFuzzer's own error."""
    found = re.search(r"Uncaught Python exception: ===\n(.+)|ERROR: (.+)", said)
    return next(filter(None, found.groups())) if found else said[-2000:]


def main() -> int:
    """0 where nothing crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS)
    arguments = parser.parse_args()
    is_clean = True
    for name in [arguments.only] if arguments.only else TARGETS:
        found = fuzz(name, seconds=arguments.seconds, seed=arguments.seed)
        told = "no crash" if found.crash is None else f"{found.crash[1]} by {found.crash[0].hex()}"
        sys.stdout.write(
            f"{name}: {found.num_inputs} inputs, {found.num_branches} branches, {told}\n"
        )
        is_clean = is_clean and found.crash is None
    return 0 if is_clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
