"""What a folder must hold, said by name; conversion itself is tested with its readers and in test_train_data."""

import csv
import io

import pytest
import torch

from benchmarks.studies.synthetic_data import LearnableSize, make_learnable_data, write_released
from training.released_data import DataChoices, prepare_data

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


def released_layout(folder, tmp_path):
    """As the release has it: annotations, a stream for the queries and files for the gallery, another encoder's beside them."""
    data = tmp_path / "work_dir"
    for name in ("annotations", "embedding_files", "Embeddings/AIM", "Embeddings/BLIP2"):
        (data / name).mkdir(parents=True)
    for split in ("train", "val", "test"):
        (folder / f"{split}.csv").rename(data / "annotations" / f"{split}_finegd.csv")
    (folder / "embeddings.pkl").rename(data / "embedding_files" / "aim_embeddings_12f.pkl")
    (data / "embedding_files" / "blip2_embeddings.pkl").write_bytes(b"not read")
    for name in ("AIM", "BLIP2"):
        torch.save(torch.ones(4), data / "Embeddings" / name / "clip_00000.pth")
    return data


def test_the_released_layout_is_taken_and_another_embeddings_by_name(folder, tmp_path):
    data = released_layout(folder, tmp_path)
    summary = prepare_data(data, tmp_path / "out").summary
    assert summary["num_vectors"] == 200
    assert summary["embeddings"].endswith("aim_embeddings_12f.pkl")
    choices = DataChoices(embeddings="BLIP2", skips_missing=True)
    assert prepare_data(data, tmp_path / "blip2", choices).summary["num_vectors"] == 1
    with pytest.raises(ValueError, match=r"embeddings is 'CLIP'; it must be one of \["):
        prepare_data(data, tmp_path / "out", DataChoices(embeddings="CLIP"))


def test_bad_rows_end_the_run_or_are_listed(folder, tmp_path):
    path = folder / "test.csv"
    header, first, *others = path.read_text().splitlines()
    cells = next(csv.reader([first]))
    own = header.split(",").index("target_video")
    cells[own] = "another_clip"  # which the list of targets does not have
    bad = io.StringIO()
    csv.writer(bad).writerow(cells)
    path.write_text("\n".join([header, bad.getvalue().strip(), *others]) + "\n")
    with pytest.raises(ValueError, match="target_videos_ids is"):
        prepare_data(folder, tmp_path / "out")
    files = prepare_data(folder, tmp_path / "out", DataChoices(skips_bad=True))
    assert files.summary["num_bad_rows"] == 1
    assert files.summary["num_triplets"]["test"] == len(others)
    assert "test.csv: line 2" in (tmp_path / "out" / "problems.txt").read_text()
