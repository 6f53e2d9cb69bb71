"""The rules of the house as tests: who may import whom, where heavy packages live, how long a file is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 300
MAY_IMPORT: dict[str, set[str]] = {
    "cluster": set(),
    "encoders": set(),
    "training": {"cluster", "encoders"},
    "indexing": {"cluster", "encoders"},
    "benchmarks": {"cluster", "encoders", "training", "indexing"},
}
# Heavy package -> the files or folders that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": (
        "cluster/",
        "training/trainer/ray_launch.py",
        "indexing/store/datasink.py",
        "indexing/pipeline/index_archive.py",
        "indexing/serving/deploy.py",
    ),
    "pymilvus": ("indexing/",),
    "milvus_lite": ("indexing/",),
    "nvidia": ("encoders/decoding/dali_video.py",),
    "tensorrt": ("encoders/export/tensorrt_export.py",),
    "tensorrt_rtx_bindings": ("encoders/export/tensorrt_export.py",),
    "av": (
        "encoders/decoding/pixels.py",
        "encoders/decoding/pyav_video.py",
        "encoders/decoding/trim.py",
        "benchmarks/dives/video.py",
        "benchmarks/throughput/decode_peers.py",
    ),
}


def source_files() -> list[Path]:
    files = [ROOT / "tfcovr.py"] if (ROOT / "tfcovr.py").exists() else []
    for package in MAY_IMPORT:
        files += sorted((ROOT / package).rglob("*.py"))
    return files


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def layering_violations(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}: {package} may not import {name}"
        for package, allowed in MAY_IMPORT.items()
        for path in sorted((root / package).rglob("*.py"))
        for name in imported_packages(path)
        if name in {*MAY_IMPORT, "tfcovr"} and name not in allowed | {package}
    ]


def heavy_import_violations(root: Path, files: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(root)} may not import {name}"
        for path in files
        for name in imported_packages(path)
        if name in ONLY_IN and not str(path.relative_to(root)).startswith(ONLY_IN[name])
    ]


def test_packages_import_only_downwards() -> None:
    assert layering_violations(ROOT) == []


def test_heavy_packages_stay_in_their_rooms() -> None:
    assert heavy_import_violations(ROOT, source_files()) == []


def test_files_are_short_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in source_files()
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_a_planted_violation_is_found(tmp_path: Path) -> None:
    for package in MAY_IMPORT:
        (tmp_path / package).mkdir()
    planted = tmp_path / "encoders" / "bad.py"
    planted.write_text("from training.losses import hn_nce\nimport ray\n")
    assert layering_violations(tmp_path) == ["encoders/bad.py: encoders may not import training"]
    assert heavy_import_violations(tmp_path, [planted]) == ["encoders/bad.py may not import ray"]


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_answers(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
