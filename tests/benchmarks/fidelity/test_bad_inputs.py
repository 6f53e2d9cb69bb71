"""Every bad input gets a clear error that names what is wrong."""

import pytest

from benchmarks.fidelity.bad_inputs import BAD_INPUTS, try_bad_input

# What the error must say: where (file, line, column) and what.
SAYS = {
    "FineGym: cut JSON": "line 1, column 18: not JSON",
    "FineGym: a key twice": "the key 'a' occurs twice",
    "FineGym: a span that ends before it starts": "A_0003_0009: timestamps is '[[9.0, 3.0]]'; it must be",
    "FineGym: a class above 98": "gym99_train_element_v1.1.txt: line 1: class is '99'; it must be 0 to 98",
    "FineGym: an element twice": "line 2: element is",
    "FineDiving: a pickle that runs a command": "'system', which is not allowed; nothing was run",
    "FineDiving: a dive number that is none": "('FINA_r1', 0): action_type: '999Z' is not a dive number",
    "FineDiving: frames that run backwards": "start_frame is 80, end_frame 9",
    "TF-CoVR train: a column is missing": "train.csv: line 1: column 'modification' is missing",
    "TF-CoVR train: a row of four columns": "train.csv: line 2: 4 columns; the header has 5",
    "TF-CoVR train: a modification that is code": "line 2: modification is",
    "TF-CoVR train: a label that is not released": "line 2: label1 is '288'; it must be one of the 306",
    "TF-CoVR train: a name that leads out of the folder": "line 2: query_video is '../../etc/passwd'",
    "TF-CoVR train: one video with two labels": "line 3: video 'v1' has label '12'; it has '107b' in",
    "TF-CoVR test: a query id twice": "line 3: query_id is '7'; it must be unique; it is in line 2",
    "TF-CoVR stage 1: an empty file": "line 1: the file is empty",
    "Table: a start that is not a number": "mine.csv: line 2: start_s is 'early'",
    "Table: no column of videos": "line 1: column 'video_uri'",
    "Embeddings: a pickle that evaluates text": "'builtins'.'eval', which is not allowed",
    "Embeddings: a command inside of a storage": "bytes of a storage: byte",
    "Embeddings: a cut .pth": "v1.pth: video 'v1'",
    "Embeddings: widths that differ": "video 'v2': the vector is 5 wide; those before it are 4 wide",
}


@pytest.mark.parametrize(("name", "attempt"), BAD_INPUTS, ids=[name for name, _ in BAD_INPUTS])
def test_the_error_is_clear(name, attempt):
    tried = try_bad_input(name, attempt)
    assert tried.is_clear, tried.error
    assert SAYS.get(name, "") in tried.error


def test_the_table_is_long_enough_and_its_names_are_unique():
    names = [name for name, _ in BAD_INPUTS]
    assert len(set(names)) == len(names) >= 25
    assert set(names) >= SAYS.keys()


def test_what_is_accepted_or_breaks_is_no_clear_error(tmp_path):
    assert not try_bad_input("fine", lambda folder: folder).is_clear
    assert not try_bad_input("bug", lambda _: {}["x"]).is_clear
