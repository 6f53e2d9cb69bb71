"""Names of classes and outputs of the head must agree, in number and order."""

import json

import pytest
import torch

from encoders.video_encoder.pretrained.aim_weights import SourceWeights
from encoders.video_encoder.pretrained.head import read_head, read_labels


def source(num_classes=3, width=4, **changes):
    head = {"weight": torch.randn(num_classes, width).half(), "bias": torch.randn(num_classes)}
    values = {"described": "it", "kind": "aim", "tensors": {}, "head": head}
    return SourceWeights(**(values | changes))


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_json_names_stand_at_their_index(tmp_path):
    path = write(tmp_path, "labels.json", json.dumps({"107b": 2, "0": 0, "5253b": 1}))
    given = source()
    head, labels, note = read_head(given, labels_path=path, width=4)
    assert labels == ("0", "5253b", "107b")
    assert note == "3 classes"
    assert head is not None
    assert given.head is not None
    x = torch.randn(5, 4)
    with torch.no_grad():
        torch.testing.assert_close(head(x), x @ given.head["weight"].float().T + given.head["bias"])


def test_lines_are_names_in_order(tmp_path):
    assert read_labels(write(tmp_path, "l.txt", "a\n\nb c \n")) == ("a", "b c")


def test_a_head_without_names_is_left_out_and_said(tmp_path):
    head, labels, note = read_head(source(), labels_path=None, width=4)
    assert (head, labels) == (None, None)
    assert note == "3 classes, left out: give their names with --labels"
    assert read_head(source(labels=("a", "b", "c")), labels_path=None, width=4)[1] == (
        "a",
        "b",
        "c",
    )
    assert read_head(source(head=None), labels_path=None, width=4) == (None, None, "none")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "a\nb\na", "'a' more than once"),
        ("l.txt", "a\nb", "names 2 classes; the head has 3"),
        ("l.json", "{", "not JSON"),
        ("l.json", "[1]", "class name -> class index"),
        ("l.json", '{"a": true}', "class name -> class index"),
        ("l.json", '{"a": 0, "b": 2, "c": 3}', r"must be 0 \.\.\. 2"),
        ("l.json", '{"a": 0, "b": 1, "c": 1}', r"each once"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_head(source(), labels_path=write(tmp_path, name, text), width=4)


def test_names_without_a_head_and_heads_of_another_width_are_refused(tmp_path):
    path = write(tmp_path, "l.txt", "a\nb\nc")
    with pytest.raises(ValueError, match="no classification head"):
        read_head(source(head=None), labels_path=path, width=4)
    with pytest.raises(ValueError, match=r"shape \(3, 4\); width is 5"):
        read_head(source(), labels_path=path, width=5)
