"""A file that an option writes is no other option's, by whatever path it is named."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.option_checks import (
    require_folder,
    require_inputs,
    require_milvus_name,
    require_numbers,
    require_own_outputs,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    clips: str = ""
    clip: str = ""
    edit: tuple[str, ...] = ()
    out: Path | None = None
    to: tuple[Path, ...] = ()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"clip": "a.mp4", "out": "a.mp4"}, "--out is .*a.mp4.* clip names"),
        ({"clip": "a.mp4@0.5-2", "out": "./a.mp4"}, "--out .* clip names"),
        ({"clip": "link.mp4", "to": ("b.mp4", "a.mp4")}, "--to .* clip names"),
        ({"to": ("a.mp4", "link.mp4")}, "--to .* to names"),
    ],
)
def test_an_input_is_not_written_over(folder: Path, options: dict, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        require_own_outputs(Options(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"clip": "a.mp4", "out": "b.mp4"},
        {"clip": "a.mp4", "out": "new.mp4"},
        {"clips": ".", "out": "."},  # folders
        {"edit": ("x" * 5000, "a\0b"), "out": "a.mp4"},
    ],
)
def test_what_is_not_one_file_is_not_refused(folder: Path, options: dict) -> None:
    require_own_outputs(Options(**options))


def test_a_table_that_is_not_there_is_told_with_what_was_expected(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"--clips is 'none.parquet'.*a Parquet file of clips"):
        require_inputs(Options(clips="none.parquet"))


@dataclass(frozen=True, kw_only=True)
class Outer:
    share: float = 0.5
    lengths_s: tuple[float, ...] = ()
    inner: object = None


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """Options with a whole number."""

    seed: int = 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (Outer(share=float("nan")), "--share is nan"),
        (Outer(lengths_s=(1.0, float("nan"))), "--lengths-s is nan"),
        (Outer(inner=Outer(share=float("nan"))), "--inner.share is nan"),
    ],
)
def test_nan_is_no_number(options: Outer, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        require_numbers(options)
    require_numbers(Outer(share=float("inf"), lengths_s=(1.0,), inner=Outer()))


@pytest.mark.parametrize("name", ["bad name!", "b-ad", "1a", "", "a" * 256, "\u00e4"])
def test_what_milvus_takes_for_no_name_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="--alias is"):
        require_milvus_name("alias", name)
    require_milvus_name("alias", "_live2")


def test_a_whole_number_fits_into_64_bits() -> None:
    with pytest.raises(ValueError, match="--seed is 9223372036854775808; it must fit into 64 bits"):
        require_numbers(Seeded(seed=2**63))
    require_numbers(Seeded(seed=2**63 - 1))


def test_a_folder_that_cannot_be_written_to_is_named(folder: Path) -> None:
    require_folder("labels", folder / "new" / "folder")
    require_folder("labels", None)
    for path in (folder / "a.mp4", folder / "a.mp4" / "below", Path("/proc/x")):
        with pytest.raises(ValueError, match=f"labels is '{path}', no folder that can be written"):
            require_folder("labels", path)
