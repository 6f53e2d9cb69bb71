"""Bundles whose content was changed and whose card was made to fit again: each ends in one line that names the file."""

import json
import pickle  # noqa: TID251  written, never read
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy

from encoders.backends.base import BackendSettings
from encoders.backends.onnx_backend import OnnxBackend
from encoders.bundle.canaries import read_canaries
from encoders.bundle.card import (
    BundleMismatchError,
    card_from_dict,
    read_card,
    with_bundle_id,
    write_card,
)
from encoders.bundle.folder import load_bundle
from encoders.files import hash_file

DEEP = b"[" * 200_000
WEIGHTS = ("video", "text", "fusion", "head", "canaries")


class Marker:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def open_everything(folder: Path) -> None:
    load_bundle(folder)
    read_canaries(folder)
    backend = OnnxBackend(BackendSettings(bundle_dir=folder, num_threads=1))
    vectors_ND = np.eye(2, backend.card.embedding_dim, dtype=np.float32)
    backend.embed_queries(vectors_ND, ["in tuck", "with a half"])


def reseal(folder: Path) -> None:
    """A card that fits the files as they are now, as anyone who changes a bundle can make one."""
    card = read_card(folder)
    files = {name: hash_file(folder / name) for name in card.files if (folder / name).exists()}
    write_card(folder, with_bundle_id(replace(card, files=files)))


def change_tensors(path: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    path.write_bytes(safetensors.numpy.save(tensors))


def first(tensors: dict[str, np.ndarray]) -> str:
    return sorted(tensors)[0]


def as_float16(tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        tensors[name] = tensor.astype(np.float16)


TENSORS: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "without a key": lambda tensors: tensors.pop(first(tensors)),
    "of another type": as_float16,
    "of another shape": lambda t: t.update({first(t): np.zeros((3, 5), np.float32)}),
    "not finite": lambda t: t.update({first(t): np.full_like(t[first(t)], np.nan)}),
}
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "text": lambda _content: b"hello " * 100,
    "nested": lambda _content: DEEP,
    "huge header": lambda content: b"\xff" * 8 + content[8:],
}


def change_graph(path: Path, change: Callable[[onnx.ModelProto], Any]) -> None:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def keep_outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def keep_outside_in_a_node(model: onnx.ModelProto) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["unused"], value=tensor))


GRAPHS: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "weights outside": keep_outside,
    "weights outside, in a node": keep_outside_in_a_node,
    "unknown node": lambda m: setattr(m.graph.node[0], "op_type", "Nothing"),
    "no nodes": lambda m: m.graph.ClearField("node"),
    "another input": lambda m: setattr(m.graph.input[0], "name", "other"),
    "another width": lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 5),
    "another type": lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", onnx.TensorProto.DOUBLE),
}  # fmt: skip
JSON: dict[str, Any] = {"list": [], "number": 5, "null": None, "empty": {}, "bert": {"model_type": "bert"}, "unknown": {"model_type": "x"}, "odd": {"model_type": ["bert"], "padding": 3}}  # fmt: skip


def tamperings() -> list[Any]:
    cases: list[Any] = []
    for name in WEIGHTS:
        file = f"{name}.safetensors"
        for kind, change in TENSORS.items():
            cases.append((file, kind, lambda path, change=change: change_tensors(path, change)))
    for name in ("video.onnx", "text.onnx", "fusion.onnx"):
        for kind, change in GRAPHS.items():
            cases.append((name, kind, lambda path, change=change: change_graph(path, change)))
    for name in ("text_config.json", "tokenizer.json"):
        for kind, value in JSON.items():
            if (name, kind) != (
                "text_config.json",
                "bert",
            ):  # a BERT, with other weights than text.safetensors
                cases.append((name, kind, lambda path, value=value: path.write_text(json.dumps(value))))  # fmt: skip
    for name in [*(f"{name}.safetensors" for name in WEIGHTS), "video.onnx", "text.onnx", "fusion.onnx", "text_config.json", "tokenizer.json"]:  # fmt: skip
        for kind, content in BYTES.items():
            cases.append((name, kind, lambda path, change=content: path.write_bytes(change(path.read_bytes()))))  # fmt: skip
    return [pytest.param(*case, id=f"{case[0]}: {case[1]}") for case in cases]


@pytest.mark.parametrize(("name", "kind", "change"), tamperings())
def test_a_changed_file_with_a_fitting_card_ends_in_one_line(
    tiny_bundle: Path, tmp_path: Path, name: str, kind: str, change: Callable[[Path], Any]
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    change(folder / name)
    reseal(folder)
    with pytest.raises(BundleMismatchError) as raised:
        open_everything(folder)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_bundle_that_nobody_changed_opens(tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    reseal(tmp_path / "bundle")
    open_everything(tmp_path / "bundle")


@pytest.mark.parametrize("name", [f"{name}.safetensors" for name in WEIGHTS])
def test_a_pickle_is_not_run(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    (folder / name).write_bytes(pickle.dumps(Marker(tmp_path / "was_run")))
    reseal(folder)
    with pytest.raises(BundleMismatchError, match=name):
        open_everything(folder)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("name", ["video.safetensors", "text.safetensors", "fusion.safetensors", "text_config.json", "tokenizer.json", "canaries.safetensors", "video.onnx", "text.onnx", "fusion.onnx"])  # fmt: skip
def test_a_file_that_the_card_does_not_name_is_not_opened(
    tiny_bundle: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    card = read_card(folder)
    files = {key: value for key, value in card.files.items() if key != name}
    write_card(folder, with_bundle_id(replace(card, files=files)))
    with pytest.raises(BundleMismatchError, match=name):
        open_everything(folder)


CARDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "width as text": lambda v: v.update(embedding_dim="16"),
    "width as bool": lambda v: v.update(embedding_dim=True),
    "labels a number": lambda v: v.update(labels=3),
    "label a number": lambda v: v.update(labels=[1, 2]),
    "training a list": lambda v: v.update(training=[1]),
    "files a list": lambda v: v.update(files=["video.onnx"]),
    "file without hash": lambda v: v["files"].update({"video.onnx": None}),
    "file outside": lambda v: v["files"].update({"../secret": "0" * 64}),
    "video a list": lambda v: v.update(video=[]),
    "frames as text": lambda v: v["video"].update(num_frames="4"),
    "sampling null": lambda v: v.update(sampling=None),
    "sampling as text": lambda v: v["sampling"].update(num_frames="4"),
    "preprocessing a number": lambda v: v.update(preprocessing=1),
    "preprocessing as text": lambda v: v["preprocessing"].update(mean="abc"),
    "preprocessing of two": lambda v: v["preprocessing"].update(mean=[0.5, 0.5]),
    "engines a number": lambda v: v.update(engines=7),
    "canaries as text": lambda v: v.update(canaries="yes"),
    "onnx of another form": lambda v: v.update(onnx={"min_cosine": 1}),
    "fusion a list": lambda v: v.update(fusion=[1]),
    "id a number": lambda v: v.update(encoder_id=12),
}


@pytest.mark.parametrize("kind", CARDS)
def test_a_card_of_another_form_ends_in_one_line(
    tiny_bundle: Path, tmp_path: Path, kind: str
) -> None:
    values = json.loads((tiny_bundle / "card.json").read_text())
    CARDS[kind](values)
    (tmp_path / "card.json").write_text(json.dumps(values))
    with pytest.raises(BundleMismatchError, match=r"card\.json") as raised:
        read_card(tmp_path)
    assert "\n" not in str(raised.value)
    assert "changed by hand" not in str(
        raised.value
    )  # the form is told, not only that it is another


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *(("video", name, 10**n) for name in ("depth", "width", "num_frames", "image_size") for n in (5, 12, 30)),
        ("preprocessing", "mean", [10**30, 0, 0]),
        *(("fusion", name, 10**n) for name in ("hidden_dim", "video_dim") for n in (7, 30)),
        ("", "encoder_id", "a\nb"),
    ],
)  # fmt: skip
def test_a_card_of_another_size_ends_in_one_line_before_anything_of_that_size_is_made(
    tiny_bundle: Path, tmp_path: Path, part: str, name: str, value: object
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    values = json.loads((folder / "card.json").read_text())
    (values[part] if part else values)[name] = value
    with suppress(ValueError):  # a form that is refused at once
        write_card(folder, with_bundle_id(card_from_dict(values)))
    with pytest.raises(BundleMismatchError) as raised:
        load_bundle(folder)
    assert "\n" not in str(raised.value)


def _ids_beyond_the_embedding(folder: Path) -> None:
    values = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = values["model"]["vocab"]
    values["model"]["vocab"] = {word: number + 100_000 for word, number in vocabulary.items()}
    (folder / "tokenizer.json").write_text(json.dumps(values))


def _only_padding(folder: Path) -> None:
    values = json.loads((folder / "tokenizer.json").read_text())
    pad = values["padding"]["pad_token"]
    values["model"]["vocab"] = {pad: values["padding"]["pad_id"]}
    (folder / "tokenizer.json").write_text(json.dumps(values))


def _times(name: str, factor: float) -> Callable[[Path], None]:
    """The output of a graph times a number."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / name)
        output = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = [f"{o}_before" if o == output else o for o in node.output]
            node.input[:] = [f"{i}_before" if i == output else i for i in node.input]
        constant = onnx.helper.make_tensor("factor", onnx.TensorProto.FLOAT, [1], [factor])
        model.graph.initializer.append(constant)
        model.graph.node.append(
            onnx.helper.make_node("Mul", [f"{output}_before", "factor"], [output])
        )
        onnx.save(model, folder / name)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_ids_beyond_the_embedding, r"text\.onnx|tokenizer\.json"),
        (_only_padding, r"tokenizer\.json|text\.onnx"),
        (_times("fusion.onnx", float("nan")), r"fusion\.onnx"),
        (_times("fusion.onnx", 0.0), r"fusion\.onnx"),
        (_times("text.onnx", float("nan")), r"text\.onnx"),
    ],
)
def test_what_loads_and_does_not_run_ends_in_one_line(
    exported_bundle: Path, tmp_path: Path, change: Callable[[Path], None], named: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(exported_bundle, folder)
    change(folder)
    reseal(folder)
    backend = OnnxBackend(BackendSettings(bundle_dir=folder, num_threads=1))
    with pytest.raises(BundleMismatchError, match=named) as raised:
        backend.embed_queries(np.eye(1, backend.card.embedding_dim, dtype=np.float32), ["in tuck"])
    assert "\n" not in str(raised.value)


def test_a_text_model_of_any_depth_is_not_made(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    for name, value in (("num_hidden_layers", 10**9), ("hidden_size", 10**9)):
        architecture = json.loads((tiny_bundle / "text_config.json").read_text())
        (folder / "text_config.json").write_text(json.dumps(architecture | {name: value}))
        reseal(folder)
        with pytest.raises(BundleMismatchError, match=r"text\.safetensors|text_config\.json"):
            load_bundle(folder)


@pytest.mark.parametrize(
    "content", [DEEP, b"", b"\xff\xfe", b"[]", b"null", b'{"version": 1', b'{"a":' * 100_000]
)
def test_a_card_that_is_no_object_ends_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(BundleMismatchError, match=r"card\.json") as raised:
        read_card(tmp_path)
    assert "\n" not in str(raised.value)
