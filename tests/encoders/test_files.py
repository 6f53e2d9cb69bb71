"""Every error about a table names the file."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.files import read_table


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
