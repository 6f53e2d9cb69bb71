"""What a folder must hold, said by name; conversion itself is tested with its readers and in test_train_data."""

import pytest

from benchmarks.studies.synthetic_data import LearnableSize, make_learnable_data, write_released
from training.released_data import prepare_data

SIZE = LearnableSize(num_clips=200, num_triplets=30, num_actions=2, vector_dim=4)


@pytest.fixture
def folder(tmp_path):
    write_released(tmp_path / "data", make_learnable_data(SIZE))
    return tmp_path / "data"


def test_a_folder_is_converted_once_and_again_when_it_changes(folder, tmp_path):
    out = tmp_path / "out"
    files = prepare_data(folder, out)
    assert files.summary["num_triplets"] == {"test": 3, "train": 24, "val": 3}
    assert files.summary["num_vectors"] == 200
    first = files.vectors_path.stat().st_mtime_ns
    assert prepare_data(folder, out).vectors_path.stat().st_mtime_ns == first
    with (folder / "test.csv").open("a") as file:
        file.write(
            (folder / "test.csv").read_text().splitlines()[1].replace("test_", "again_") + "\n"
        )
    assert prepare_data(folder, out).summary["num_triplets"]["test"] == 4


def test_a_table_of_stage_1_is_no_table_of_triplets(folder, tmp_path):
    (folder / "train_stage1.csv").write_text("video_file,label\nclip_00000.mp4,1\n")
    assert prepare_data(folder, tmp_path / "out").summary["num_vectors"] == 200


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "val.csv").unlink(), "one CSV of the val split .*found none"),
        (lambda f: (f / "old_test.csv").write_text("query_video\n"), "test split.*old_test.csv"),
        (lambda f: (f / "embeddings.pkl").unlink(), "one embeddings .*found none"),
        (lambda f: (f / "more.pkl").write_bytes(b""), "embeddings.pkl.*more.pkl"),
    ],
)
def test_what_is_missing_or_there_twice_is_named(folder, tmp_path, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        prepare_data(folder, tmp_path / "out")


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        prepare_data(tmp_path / "nowhere", tmp_path / "out")
