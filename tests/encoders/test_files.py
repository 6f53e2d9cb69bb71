"""Every error about a table names the file, and every error about a JSON record the field."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.files import atomic_file, from_dict, open_table, read_table


def test_columns_come_in_the_order_that_is_asked(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.5]}), path)
    assert read_table(path).column_names == ["a", "b", "c"]
    assert read_table(path, ["c", "a"]).to_pydict() == {"c": [0.5, 1.5], "a": [1, 2]}
    with pytest.raises(
        ValueError, match=r"a\.parquet: column 'd' is missing; it has \['a', 'b', 'c'\]"
    ):
        read_table(path, ["a", "d"])


@pytest.mark.parametrize("keep", [0, 3, 100])
def test_what_is_no_parquet_is_named(tmp_path, keep):
    path = tmp_path / "torn.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"torn\.parquet is not a Parquet file, or is truncated"):
        read_table(path)
    with pytest.raises(OSError, match="gone"):
        read_table(tmp_path / "gone.parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class Circle:
    kind: Literal["circle"] = "circle"
    radius: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Square:
    kind: Literal["square"] = "square"
    side: int

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"side is {self.side}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    shapes: tuple[Circle | Square, ...]
    size: tuple[int, int]
    path: Path | None = None
    colours: Mapping[str, float] = field(default_factory=dict)
    is_open: bool = False
    note: str | int = ""


DRAWING = Drawing(
    shapes=(Circle(radius=2), Square(side=3)),
    size=(4, 5),
    path=Path("a/b.png"),
    colours={"red": 0.5},
    note=7,
)


def test_a_dataclass_comes_back_from_json() -> None:
    values = json.loads(json.dumps(asdict(DRAWING), default=str))
    assert from_dict(Drawing, values, "drawing") == DRAWING
    plain = {"shapes": [], "size": [1, 2]}
    assert from_dict(Drawing, plain, "drawing") == Drawing(shapes=(), size=(1, 2))
    with pytest.raises(ValueError, match=r"lacks \['colours', 'is_open', 'note', 'path'\]"):
        from_dict(Drawing, plain, "drawing", is_complete=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sise": [1, 2]}, r"drawing has unknown keys \['sise'\] and lacks \[\]"),
        ({"size": [1]}, r"drawing\.size is \[1\]; it must be of type tuple\[int, int\]"),
        ({"size": [1, "2"]}, r"drawing\.size\[1\] is '2'; it must be of type int"),
        ({"size": [1, True]}, r"drawing\.size\[1\] is True; it must be of type int"),
        ({"size": "12"}, r"drawing\.size is '12'"),
        ({"is_open": 1}, r"drawing\.is_open is 1; it must be of type bool"),
        ({"path": 3}, r"drawing\.path is 3; it must be of type Path"),
        ({"colours": {"red": None}}, r"drawing\.colours\.red is None; it must be of type float"),
        ({"colours": ["red"]}, r"drawing\.colours is \['red'\]"),
        ({"shapes": [{"kind": "line"}]}, r"drawing\.shapes\[0\] has the kind 'line'; .* 'circle', 'square'"),
        ({"shapes": [3]}, r"drawing\.shapes\[0\] has the kind None"),
        ({"shapes": [{"kind": "circle"}]}, r"drawing\.shapes\[0\] has unknown keys \[\] and lacks \['radius'\]"),
        ({"shapes": [{"kind": "square", "side": 0}]}, r"side is 0; it must be at least 1"),
        ({"shapes": [{"kind": ["circle"]}]}, r"has the kind \['circle'\]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(change, message) -> None:
    values = json.loads(json.dumps(asdict(DRAWING), default=str))
    with pytest.raises(ValueError, match=message):
        from_dict(Drawing, values | change, "drawing")
    for other in (None, 3, "text", [values]):
        with pytest.raises(ValueError, match=r"drawing is .*; it must be an object"):
            from_dict(Drawing, other, "drawing")


def test_an_atomic_file_is_there_as_a_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(text: str) -> None:
        with atomic_file(path) as temporary:
            temporary.write_text(text)
            if text == "half":
                raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write("half")
    assert path.read_text() == "old"
    write("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_is_read_group_by_group(tmp_path: Path) -> None:
    """However many row groups it has, one of them is in memory."""
    path, num_groups, rows = tmp_path / "large.parquet", 40, 20_000
    with pq.ParquetWriter(
        path, pa.schema([("number", pa.float64())]), compression="none"
    ) as writer:
        for seed in range(num_groups):
            numbers = np.random.default_rng(seed).random(rows)
            writer.write_table(pa.table({"number": numbers}))
    before = pa.total_allocated_bytes()
    with open_table(path, ["number"]) as file:
        most = max(pa.total_allocated_bytes() for _ in file.iter_batches(rows))
    assert most - before < path.stat().st_size / 5
