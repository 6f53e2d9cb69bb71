import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pymilvus import BulkInsertState

from indexing.store import bulk_import
from indexing.store.bulk_import import _Part, _table


def test_a_server_knows_a_part_by_its_path_or_by_the_key_in_its_bucket(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    local = _Part(collection="clips", place=str(tmp_path / "parts"), name="a.parquet")
    assert local.server_path == str(tmp_path / "parts" / "a.parquet")
    remote = _Part(collection="clips", place="s3://bucket/first/load/", name="a.parquet")
    assert remote.server_path == "first/load/a.parquet"
    local.write(pa.table({"one": [1]}))
    assert (tmp_path / "parts" / "a.parquet").exists()
    local.delete()
    local.delete()
    assert not (tmp_path / "parts" / "a.parquet").exists()


def test_rows_become_columns_of_milvus_types() -> None:
    rows = [
        {"clip_key": f"{i}", "start_s": 0.5 * i, "attributes": {"b": "1", "a": "2"}, "embedding": [i, 1.0]}
        for i in range(3)
    ]  # fmt: skip
    table = _table(rows)
    assert table.column("attributes").to_pylist() == ['{"a": "2", "b": "1"}'] * 3
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    assert np.array(table.column("embedding").to_pylist()).tolist() == [[0, 1], [1, 1], [2, 1]]
    assert table.schema.field("start_s").type == pa.float64()


def test_an_import_that_gets_no_further_ends_the_wait_and_is_not_forgotten(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(bulk_import, "_STALLED_S", 0.0)
    monkeypatch.setattr(bulk_import, "_POLL_S", 0.01)
    monkeypatch.setattr(bulk_import.connections, "connect", lambda *_, **__: None)
    collection = SimpleNamespace(address="http://127.0.0.1:9", name="clips")
    importer = bulk_import.BulkImport(collection, tmp_path)
    pending = SimpleNamespace(state=BulkInsertState.ImportPending, progress=40)
    monkeypatch.setattr(importer, "_state_of", lambda _: pending)
    place = str(tmp_path / "parts")
    (tmp_path / bulk_import.MARKER).write_text(
        json.dumps({"collection": "clips", "place": place, "name": "a.parquet"})
    )
    with pytest.raises(
        bulk_import.BulkImportError, match=r"stood at 40% of importing .*a\.parquet"
    ):
        importer.finish_earlier()
    assert (tmp_path / bulk_import.MARKER).exists()
