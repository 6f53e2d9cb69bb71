"""Runs many seeded faults and mutants and writes a line of JSON after each; resumable.

python -m tests.support.faults.long_run --out runs/faults --faults 60 --mutants 500 [--limit-s 500] [--record]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.record import capture_environment, write_record
from cluster.storage import write_atomic
from tests.support.bundles import write_tiny_bundle
from tests.support.faults.fault import expected_of_clips, fault_of_seed, write_archive
from tests.support.faults.harness import run_fault
from tests.support.faults.mutants import index_mutants

_MODULE = "tests.support.faults.long_run"
_ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    """0 when every fault and mutant that was run ended well and none is left to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="finished parts; give the same again"
    )
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1, help="faults at once")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--limit-s", type=float, default=1e9, help="start nothing after it")
    parser.add_argument(
        "--record", action="store_true", help="write benchmarks/results/index_*.json"
    )
    arguments = parser.parse_args()
    # Workers of Ray import the project by this path, whatever folder they start in.
    os.environ["PYTHONPATH"] = str(_ROOT)
    arguments.out.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + arguments.limit_s
    bundle_dir = _bundle(arguments.out)
    commit = str(capture_environment()["git_commit"])
    if arguments.jobs > 1:
        _run_jobs(arguments)
    lines = _run_faults(
        arguments.out, bundle_dir, arguments.faults, give_up, commit, arguments.part
    )
    mutants = _run_mutants(arguments.out, bundle_dir, arguments.mutants, give_up, commit)
    metrics = {
        "fault_runs": len(lines),
        "faults_struck": sum(line["struck"] for line in lines),
        "faults_lost": sum(line["lost"] for line in lines),
        "faults_duplicated": sum(line["doubled"] for line in lines),
        "faults_stale": sum(line["stale"] for line in lines),
        "faults_wrong_vectors": sum(line["wrong_vectors"] for line in lines),
        "faults_hung": sum(line["is_hung"] for line in lines),
        "faults_by_kind": dict(Counter(line["fault"]["kind"] for line in lines)),
        "faults_by_moment": dict(Counter(line["fault"]["moment"] for line in lines)),
        "faults_over_http": sum(line["fault"]["is_remote"] for line in lines),
        "faults_with_server": sum(line["fault"]["has_server"] for line in lines),
        "faults_runs": sum(line["num_runs"] for line in lines),
    }
    _say(json.dumps(metrics | mutants, indent=2))
    is_whole = (
        len(lines) == arguments.faults and mutants.get("mutants_tried", 0) == arguments.mutants
    )
    if arguments.record and is_whole and lines:
        config = {"faults": arguments.faults}
        _say(str(write_record("index_faults", config=config, metrics=metrics)))
    if arguments.record and is_whole and mutants:
        config = {"mutants": arguments.mutants}
        _say(str(write_record("index_mutants", config=config, metrics=mutants)))
    bad = [f"faults_{name}" for name in ("lost", "duplicated", "stale", "wrong_vectors", "hung")]
    bad += [f"mutants_{name}" for name in ("lost", "unexplained", "crashed")]
    return 0 if is_whole and not any((metrics | mutants).get(name) for name in bad) else 1


def _run_faults(
    out: Path, bundle_dir: Path, num_faults: int, give_up: float, commit: str, part: str | None
) -> list[dict]:
    """What ran at another commit says nothing of this one, and runs again."""
    done = out / "faults.jsonl"
    lines = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    lines = [line for line in lines if line["commit"] == commit]
    if part is None:
        write_atomic(done, "".join(json.dumps(line) + "\n" for line in lines))
    with tempfile.TemporaryDirectory() as folder:
        clips = write_archive(Path(folder) / "videos")
        expected = expected_of_clips(bundle_dir, clips)
        finished = {line["fault"]["seed"] for line in lines}
        number, count = map(int, (part or "0/1").split("/"))
        for seed in sorted(set(range(number, num_faults, count)) - finished):
            if time.monotonic() > give_up:
                break
            place = Path(folder) / f"fault-{seed}"
            place.mkdir()
            result = run_fault(
                fault_of_seed(seed), place, bundle_dir=bundle_dir, clips=clips, expected=expected
            )
            lines.append(asdict(result) | {"commit": commit})
            with done.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            _say(json.dumps(lines[-1]))
            if not result.is_right:
                (out / f"fault-{seed}.log").write_bytes((place / "log").read_bytes())
    return lines


def _run_jobs(arguments: argparse.Namespace) -> None:
    """The faults by several processes, which share the file of finished ones."""
    command = [
        sys.executable,
        "-m",
        _MODULE,
        "--out",
        str(arguments.out.absolute()),
        "--mutants",
        "0",
    ]
    command += ["--faults", str(arguments.faults), "--limit-s", str(arguments.limit_s)]
    parts = [
        subprocess.Popen([*command, "--part", f"{number}/{arguments.jobs}"], cwd=_ROOT)
        for number in range(arguments.jobs)
    ]
    for part in parts:
        part.wait()


def _run_mutants(
    out: Path, bundle_dir: Path, num_mutants: int, give_up: float, commit: str
) -> dict:
    """One indexing run over all of them; stopped, it goes on in its folder."""
    folder = out / f"mutants-{commit[:12]}-{num_mutants}"
    done = folder / "found.json"
    if not done.exists():
        if time.monotonic() > give_up or num_mutants == 0:
            return {}
        for earlier in out.glob("mutants-*"):
            if earlier != folder:
                shutil.rmtree(earlier)
        folder.mkdir(exist_ok=True)
        figures = index_mutants(folder, bundle_dir, range(num_mutants))
        write_atomic(done, json.dumps(figures))
    return json.loads(done.read_text())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _bundle(out: Path) -> Path:
    folder = out / "bundle"
    return (
        folder if (folder / "canaries.safetensors").exists() else write_tiny_bundle(folder, seed=1)
    )


if __name__ == "__main__":
    raise SystemExit(main())
