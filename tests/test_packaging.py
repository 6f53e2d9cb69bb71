"""The wheel runs without the checkout: built, installed into an empty folder, and used from another one."""

import http.client
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cluster.network import free_port
from tests.support.served_archive import write_served_archive

ROOT = Path(__file__).resolve().parents[1]
DATA_FILES = {
    "benchmarks": ("thresholds.toml", "report/*.jinja", "report/*.css"),
    "cluster": ("milvus/*",),
    "encoders": ("video_encoder/weights/*",),
    "indexing": ("serving/web/*",),
    "training": ("annotations/labels/data/*",),
}
WHERE = "import tfcovr, benchmarks, encoders; print(tfcovr.__file__, benchmarks.__file__, encoders.__file__, sep='\\n')"
WEIGHTS = """
from encoders.video_encoder.pose_image import WEIGHTS_FOLDER
from training.annotations.labels.names import gym99_names, released_labels
from benchmarks.harness.thresholds import read_bars
assert len(list(WEIGHTS_FOLDER.glob("*.safetensors"))) == 1
assert (len(released_labels()), len(gym99_names())) == (306, 99)
assert read_bars()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that neither an earlier build nor what lies around in the checkout gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "tfcovr.py"):
        shutil.copy(ROOT / name, source / name)
    for package in DATA_FILES:
        unwanted = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / package, source / package, ignore=unwanted)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (built,) = folder.glob("tfcovr-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-compile", "--target", str(folder), str(wheel))
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", *arguments]
    subprocess.run(command, check=True, timeout=120)


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The interpreter of the tests with its packages; -P: nothing of the current folder is imported."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def run_command(installed: Path, cwd: Path, *arguments: str) -> str:
    result = run(installed, cwd, "-m", "tfcovr", *arguments)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def test_the_wheel_holds_every_data_file_and_no_test(wheel) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, patterns in DATA_FILES.items():
        for pattern in patterns:
            paths = [path for path in (ROOT / package).glob(pattern) if path.is_file()]
            assert paths, f"{package}/{pattern}"
            assert {path.relative_to(ROOT).as_posix() for path in paths} <= names
    sources = {
        path.relative_to(ROOT).as_posix()
        for name in DATA_FILES
        for path in (ROOT / name).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources | {"tfcovr.py"}


def test_the_installed_packages_are_the_ones_that_run(installed, tmp_path) -> None:
    result = run(installed, tmp_path, "-c", WHERE)
    assert result.returncode == 0, result.stderr
    assert all(Path(line).is_relative_to(installed) for line in result.stdout.split())
    result = run(installed, tmp_path, "-c", WEIGHTS)
    assert result.returncode == 0, result.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    result = run(installed, tmp_path, "-c", "import tfcovr; print(tfcovr.__version__)")
    assert result.stdout.strip() == version, result.stderr


def test_doctor_runs_without_a_checkout(installed, tmp_path) -> None:
    text = run_command(installed, tmp_path, "doctor")
    assert "torch" in text
    assert "h264" in text  # its probe of codecs is a second process


def test_what_needs_the_checkout_says_so(installed, tmp_path) -> None:
    result = run(installed, tmp_path, "-m", "tfcovr", "report", "results")
    assert result.returncode == 2
    assert "needs the checkout" in result.stderr
    assert "Traceback" not in result.stderr


def test_dives_are_rendered_and_a_tiny_training_ends_in_a_bundle(installed, tmp_path) -> None:
    run_command(
        installed, tmp_path, "dives", "archive", "--classes", "103b", "107b",
        "--clips-per-class", "3", "1", "1", "--size", "64", "--num-workers", "1",
    )  # fmt: skip
    run_command(
        installed, tmp_path, "train", "--recipe", "demo_actions_tiny", "--clips", "archive/clips.parquet",
        "--run-dir", "stage1", "--no-ray", "--quiet", "--config.loop.num-epochs", "1",
    )  # fmt: skip
    assert (tmp_path / "stage1" / "bundle" / "card.json").is_file()


@contextmanager
def serving(installed: Path, cwd: Path, *arguments: str) -> Iterator[int]:
    """`tfcovr serve` of the installed packages; the port, once the service is ready."""
    port = free_port()
    with (cwd / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tfcovr", "serve", "--port", str(port), *arguments],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(installed)},
            stdout=log,
            stderr=log,
        )
        try:
            give_up_s = time.monotonic() + 120
            while get(port, "/readyz")[0] != 200:
                assert process.poll() is None, (cwd / "serve.log").read_text()[-3000:]
                assert time.monotonic() < give_up_s, (cwd / "serve.log").read_text()[-3000:]
                time.sleep(0.3)
            yield port
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            for child in psutil.wait_procs(family, timeout=30)[1]:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.wait(timeout=30)


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


@pytest.mark.xdist_group("milvus")
def test_serve_answers_with_its_page(installed, tiny_bundle, tmp_path) -> None:
    write_served_archive(tmp_path, tiny_bundle)
    options = ["--bundle", str(tiny_bundle), "--milvus-uri", "milvus"]
    with serving(installed, tmp_path, *options) as port:
        for name in ("index.html", "app.js", "style.css"):
            assert get(port, f"/web/{name}") == (
                200,
                (installed / "indexing" / "serving" / "web" / name).read_bytes(),
            )
        assert get(port, "/")[0] == 200
