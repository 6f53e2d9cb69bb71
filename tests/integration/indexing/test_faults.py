"""Seeded faults, one of each kind; those of files, which mutants and damaged files ask too, those of drivers and servers, which other
files kill too, and the rest run with `make test-long`."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.faults.fault import KINDS, expected_of_clips, fault_of_seed, write_archive
from tests.support.faults.harness import run_fault

_LONG = {"driver", "cut", "videos", "raylet", "milvus"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory, tiny_bundle) -> tuple[Path, dict[str, np.ndarray]]:
    clips = write_archive(tmp_path_factory.mktemp("faults") / "videos")
    return clips, expected_of_clips(tiny_bundle, clips)


def can_mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def _seed(seed: int):
    kind = fault_of_seed(seed).kind
    return pytest.param(seed, id=kind, marks=[pytest.mark.long] if kind in _LONG else [])


@pytest.mark.parametrize("seed", [_seed(seed) for seed in range(len(KINDS))])
def test_after_a_fault_and_a_rerun_nothing_is_lost_or_doubled(
    seed, archive, tmp_path, tiny_bundle
) -> None:
    clips, expected = archive
    fault = fault_of_seed(seed)
    if fault.kind == "disk" and not can_mount(tmp_path):
        pytest.skip("mounting a tmpfs needs more rights than this user has")
    result = run_fault(fault, tmp_path, bundle_dir=tiny_bundle, clips=clips, expected=expected)
    assert result.struck, (result, (tmp_path / "log").read_text()[-3000:])
    assert result.is_right, (result, (tmp_path / "log").read_text()[-3000:])
