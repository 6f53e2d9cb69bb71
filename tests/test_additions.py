"""The additions that docs/architecture.md shows, made to a copy of the tree: each is picked up everywhere it should be."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.diffs import apply_diff, diffs_by_heading

ROOT = Path(__file__).resolve().parent.parent
DIFFS = diffs_by_heading((ROOT / "docs" / "architecture.md").read_text())
PACKAGES = ("benchmarks", "cluster", "encoders", "indexing", "training")
CHECKS = {
    "A decode backend": """
import tomllib
from pathlib import Path
from typing import get_args
import encoders
from encoders.decoding.backends import DECODE_BACKENDS, DecodeBackendKind
assert "torchcodec" in DECODE_BACKENDS and set(get_args(DecodeBackendKind)) == set(DECODE_BACKENDS)
project = tomllib.loads(Path(encoders.__file__).parents[1].joinpath("pyproject.toml").read_text())
assert DECODE_BACKENDS["torchcodec"].extra in project["project"]["optional-dependencies"]
""",
    "A loss": """
import torch
from training.losses import loss_of
from training.recipes import RECIPES
config = RECIPES["demo_fusion_info_nce"]()
cosine = torch.eye(4)
expected = -torch.log_softmax(cosine / config.temperature, 1).diagonal().mean()
assert torch.isclose(loss_of(config)(cosine, None, config), expected)
""",
    "A search filter": """
import numpy as np
from encoders.clips import Clip
from indexing.search.filters import FILTERS
from indexing.store.rows import collection_row
assert "folder" in FILTERS
clip = Clip(clip_id="a", video_uri="/videos/2024/a.mp4")
row = collection_row(clip, key="k", embedding_D=np.zeros(2, np.float32), backend="torch", precision="float32")
assert row["folder"] == "/videos/2024"
""",
    "Something on the page": """
from pathlib import Path
import indexing.serving
from indexing.serving.schemas import HitBody
assert "duration_s" in HitBody.model_fields
page = Path(indexing.serving.__file__).with_name("web") / "view.js"
assert "about + length + more" in page.read_text()
""",
    "A label format": """
import json
from pathlib import Path
import tfcovr
videos = Path("videos"); videos.mkdir()
(videos / "a.mp4").touch()
Path("train.json").write_text(json.dumps([{"vid_name": "a", "label": 7}]))
assert tfcovr.main(["import-annotations", "diving48", "--annotations", "train.json", "--videos", "videos", "--out", "clips.parquet"]) == 0
(clip,) = tfcovr.read_clips(Path("clips.parquet"))
assert (clip.clip_id, clip.label, Path(clip.video_uri).name) == ("a", "7", "a.mp4")
""",
    "A benchmark": """
import json, os
from pathlib import Path
from benchmarks.__main__ import main
from benchmarks.harness.thresholds import judge, read_bars
os.environ["OUT"] = "records"
Path("video").write_bytes(b"x" * 1000)
assert main(["content-hash", "--video", "video"]) == 0
(path,) = Path("records").iterdir()
record = json.loads(path.read_text())
verdicts = judge(read_bars(), benchmark="content_hash", hardware=record["hardware"], metrics=record["metrics"])
assert [verdict.state for verdict in verdicts] == ["pass"]
""",
}


def copy_tree(folder: Path) -> Path:
    """The packages without records and caches."""
    ignored = shutil.ignore_patterns("__pycache__", "results", "weights")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("tfcovr.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_each_addition_works(tmp_path: Path) -> None:
    """All of them together, so that the tree is imported once."""
    assert set(DIFFS) == set(CHECKS)
    tree = copy_tree(tmp_path / "tree")
    for diff in DIFFS.values():
        apply_diff(tree, diff)
    work = tmp_path / "work"
    work.mkdir()
    code = "\n".join(CHECKS.values())
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=work,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_a_diff_of_lines_that_are_gone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    diff = "--- a/a.py\n+++ b/a.py\n@@\n {}\n+z = 3\n"
    apply_diff(tmp_path, diff.format("x = 1"))
    assert (tmp_path / "a.py").read_text() == "x = 1\nz = 3\ny = 2\n"
    with pytest.raises(ValueError, match="does not hold 'w = 1'"):
        apply_diff(tmp_path, diff.format("w = 1"))
