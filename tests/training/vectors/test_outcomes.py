"""Parts of vectors.parquet: joined, read back, and no larger in their footers for more clips."""

import json
import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.stages.base import NO_ERROR
from training.vectors import outcomes
from training.vectors.outcomes import join_parts, parts_folder, read_fingerprints, write_part
from training.vectors.tables import read_dead_ids, read_unit_vectors

KEY = "encoder torch"
DEAD = {"stage": "decode", "reason": "too_short", "detail": "1 frame"}


def rows_of(clip_ids, width=4, dead=()):
    return [
        {
            "clip_id": clip_id,
            "video_uri": "/v.mp4",
            "embedding": np.eye(width, dtype=np.float32)[i % width],
            "error": DEAD if clip_id in dead else NO_ERROR,
        }
        for i, clip_id in enumerate(clip_ids)
    ]


def prints_of(clip_ids):
    return {clip_id: f"print of {clip_id}" for clip_id in clip_ids}


def footer_bytes(path) -> int:
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def test_parts_are_joined_in_the_order_of_ids_and_go_last(tmp_path) -> None:
    out = tmp_path / "vectors.parquet"
    wanted = prints_of("abcd")
    write_part(parts_folder(out), KEY, rows_of(["d", "b"], dead=["b"]), wanted)
    write_part(parts_folder(out), KEY, rows_of(["a", "c"]), wanted)
    write_part(parts_folder(out), "another encoder", rows_of(["a"]), wanted)
    assert join_parts(out, KEY, wanted) == (3, 1)
    assert list(read_unit_vectors(out)) == ["a", "c", "d"]
    np.testing.assert_array_equal(read_unit_vectors(out)["c"], [0, 1, 0, 0])
    assert read_dead_ids(out) == {"b"}
    assert read_fingerprints(out, KEY) == wanted
    assert read_fingerprints(out, "another encoder") == {}
    assert not parts_folder(out).exists()


@pytest.mark.parametrize("place", ["out", "part"])
@pytest.mark.parametrize(
    "kind", ["cut", "empty", "nulls", "pages", "no key", "no column", "no text"]
)
def test_a_damaged_table_is_named_and_computed_again(tmp_path, caplog, place, kind) -> None:
    out = tmp_path / "vectors.parquet"
    wanted = prints_of("abcd")
    write_part(parts_folder(out), KEY, rows_of("abcd"), wanted)
    (path,) = parts_folder(out).glob("*.parquet")
    if place == "out":
        assert join_parts(out, KEY, wanted) == (4, 0)
        path = out
    content, table = path.read_bytes(), pq.read_table(path)
    forms = {
        "cut": content[: len(content) // 2], "empty": b"", "nulls": bytes(len(content)),
        "pages": content[:4] + bytes(300) + content[304:],
    }  # fmt: skip
    metas = {"no key": b"[]", "no text": b"\xff"}
    if kind in forms:
        path.write_bytes(forms[kind])
    elif kind in metas:
        pq.write_table(table.replace_schema_metadata({b"tfcovr": metas[kind]}), path)
    else:
        pq.write_table(table.drop_columns(["fingerprint"]), path)
    assert read_fingerprints(path, KEY) == {}
    assert f"{path} is damaged" in caplog.text
    write_part(parts_folder(out), KEY, rows_of("abcd"), wanted)
    assert join_parts(out, KEY, wanted) == (4, 0)
    assert list(read_unit_vectors(out)) == list("abcd")


@pytest.mark.parametrize("kind", ["clips", "text"])
def test_what_is_no_table_of_vectors_is_not_replaced(tmp_path, kind) -> None:
    out = tmp_path / "clips.parquet"
    if kind == "clips":
        pq.write_table(pa.table({"clip_id": ["a"], "video_uri": ["/v.mp4"]}), out)
    else:
        out.write_text("clip_id,video_uri\n")
    before = out.read_bytes()
    with pytest.raises(
        ValueError, match=r"clips\.parquet is not a table that `tfcovr vectors` wrote"
    ):
        read_fingerprints(out, KEY)
    assert out.read_bytes() == before


def test_vectors_that_alone_are_damaged_are_not_lost_in_silence(tmp_path) -> None:
    out = tmp_path / "vectors.parquet"
    wanted = prints_of("abcd")
    write_part(parts_folder(out), KEY, rows_of("abcd"), wanted)
    join_parts(out, KEY, wanted)
    with pq.ParquetFile(out) as file:
        column = file.metadata.row_group(0).column(1)
        assert column.path_in_schema.startswith("embedding")
        first = column.dictionary_page_offset or column.data_page_offset
        size = column.total_compressed_size
    content = bytearray(out.read_bytes())
    content[first + 20 : first + size] = b"\xff" * (size - 20)
    out.write_bytes(bytes(content))
    more = prints_of("abcde")
    assert read_fingerprints(out, KEY) == wanted
    write_part(parts_folder(out), KEY, rows_of("e"), more)
    with pytest.raises(ValueError, match="damaged, and moved aside; run the same command again"):
        join_parts(out, KEY, more)
    assert read_fingerprints(out, KEY) == {}


def test_a_changed_clip_replaces_its_row_and_the_others_are_kept(tmp_path) -> None:
    out = tmp_path / "vectors.parquet"
    write_part(parts_folder(out), KEY, rows_of("abc", dead="c"), prints_of("abc"))
    join_parts(out, KEY, prints_of("abc"))
    wanted = prints_of("abd") | {"a": "new content"}
    write_part(parts_folder(out), KEY, rows_of("da"), wanted)
    assert join_parts(out, KEY, wanted) == (3, 0)
    assert read_fingerprints(out, KEY) == wanted
    np.testing.assert_array_equal(read_unit_vectors(out)["a"], [0, 1, 0, 0])
    assert read_dead_ids(out) == frozenset()


def test_tables_with_fingerprints_in_their_footer_are_read(tmp_path) -> None:
    out = tmp_path / "vectors.parquet"
    vectors = pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32()))
    letter = {"clip_id": "c", "video_uri": "/v.mp4"} | DEAD

    def write_old(path, ids, meta) -> None:
        table = pa.table({"clip_id": ids, "embedding": vectors[: len(ids)]})
        path.parent.mkdir(exist_ok=True)
        meta = {b"tfcovr": json.dumps({"key": KEY} | meta).encode()}
        pq.write_table(table.replace_schema_metadata(meta), path)

    write_old(out, ["a", "b"], {"clips": prints_of("abc")})
    assert read_fingerprints(out, KEY) == prints_of("abc")
    part = {"clips": prints_of("dc"), "dead": [letter]}
    write_old(parts_folder(out) / "old.parquet", ["d"], part)
    assert join_parts(out, KEY, prints_of("abcd")) == (3, 1)
    assert read_fingerprints(out, KEY) == prints_of("abcd")
    assert read_dead_ids(out) == {"c"}


@pytest.mark.parametrize("num_clips", [10, 20_000])
def test_no_footer_grows_with_the_clips(num_clips, tmp_path) -> None:
    out = tmp_path / "vectors.parquet"
    clip_ids = [f"clip-{i:08}" for i in range(num_clips)]
    write_part(parts_folder(out), KEY, rows_of(clip_ids, dead=clip_ids[::2]), prints_of(clip_ids))
    (part,) = parts_folder(out).iterdir()
    assert footer_bytes(part) < 4000
    join_parts(out, KEY, prints_of(clip_ids))
    assert footer_bytes(out) < 4000
    assert footer_bytes(tmp_path / "vectors.dead.parquet") < 4000


def test_parts_stay_where_the_table_does_not_read_back(tmp_path, monkeypatch) -> None:
    out = tmp_path / "vectors.parquet"
    write_part(parts_folder(out), KEY, rows_of("ab"), prints_of("ab"))
    join_parts(out, KEY, prints_of("ab"))
    write_part(parts_folder(out), KEY, rows_of("c"), prints_of("c"))
    write = pq.ParquetWriter.write_table

    def lossy(self, table, *args, **kwargs) -> None:
        write(self, table.slice(1), *args, **kwargs)

    monkeypatch.setattr(outcomes.pq.ParquetWriter, "write_table", lossy)
    with pytest.raises(OSError, match="did not read back"):
        join_parts(out, KEY, prints_of("abc"))
    assert list(parts_folder(out).iterdir())
    assert list(read_unit_vectors(out)) == ["a", "b"]


def test_where_no_clip_can_be_embedded_the_reason_is_told(tmp_path) -> None:
    out = tmp_path / "vectors.parquet"
    write_part(parts_folder(out), KEY, rows_of("a", dead="a"), prints_of("a"))
    with pytest.raises(ValueError, match="none of 1 clips can be embedded; a: too_short, 1 frame"):
        join_parts(out, KEY, prints_of("a"))


@pytest.mark.long
def test_five_million_vectors_are_written_read_and_joined(tmp_path) -> None:
    num_clips, part, width = 5_000_000, 50_000, 8
    out = tmp_path / "vectors.parquet"
    generator = np.random.default_rng(0)
    wanted = {f"clip-{i:08}": f"{i:016x}" for i in range(num_clips)}
    clip_ids = list(wanted)
    vectors_ND = generator.normal(size=(num_clips, width)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    order = generator.permutation(num_clips)
    started = time.monotonic()
    for first in range(0, num_clips, part):
        rows = [
            {"clip_id": clip_ids[i], "video_uri": "/v.mp4", "embedding": vectors_ND[i], "error": NO_ERROR}
            for i in order[first : first + part]
        ]  # fmt: skip
        write_part(parts_folder(out), KEY, rows, wanted)
    assert join_parts(out, KEY, wanted) == (num_clips, 0)
    print(f"written and joined in {time.monotonic() - started:.0f} s")  # noqa: T201
    assert footer_bytes(out) < 100_000
    assert read_fingerprints(out, KEY) == wanted
    vectors = read_unit_vectors(out)
    assert list(vectors) == clip_ids
    np.testing.assert_array_equal(np.stack(list(vectors.values())), vectors_ND)
