"""Released embeddings against torch's own reading of the same files."""

import io
import os
import pickle  # noqa: TID251
import random
import tracemalloc
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tfcovr import run_command
from training.annotations.embeddings import import_embeddings as import_embeddings_module
from training.annotations.embeddings.import_embeddings import (
    ImportEmbeddingsConfig,
    import_embeddings,
)
from training.annotations.embeddings.pickle_reader import PickleReader, PickleRefusedError
from training.annotations.embeddings.pickled_tensors import (
    embedding_of,
    read_tensor_file,
    tensor_builders,
)
from training.vectors.tables import read_dead_ids, read_unit_vectors


def tensors():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(12, 64, generator=generator)
    return {
        "plain": torch.randn(64, generator=generator),
        "frames": base,
        "a view": base[3],
        "transposed": torch.randn(64, 5, generator=generator).t()[2],
        "half": base[5].half(),
        "bfloat16": base[6].bfloat16(),
        "double": base[7].double(),
        "parameter": torch.randn(64, generator=generator).requires_grad_(),
    }


def expected(tensor):
    tensor = tensor.detach().double()
    vector = tensor.mean(0) if tensor.ndim > 1 else tensor
    return (vector / vector.norm()).float().numpy()


def convert(source, **options):
    out = source.with_name("vectors.parquet")
    return out, import_embeddings(ImportEmbeddingsConfig(source=source, out=out, **options))


def torch_save(value, *, is_zip=True):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=is_zip)
    return file.getvalue()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_stream_of_dicts_equals_what_torch_reads(tmp_path, protocol):
    given = tensors()
    names = list(given)
    content = b"".join(
        pickle.dumps({name: given[name] for name in part}, protocol)
        for part in (names[:3], names[3:])
    )
    (tmp_path / "emb.pkl").write_bytes(content)
    out, done = convert(tmp_path / "emb.pkl")
    vectors = read_unit_vectors(out)
    assert list(vectors) == names
    assert (done.num_vectors, done.width, done.num_bad, done.num_replaced) == (8, 64, 0, 0)
    for name, tensor in given.items():
        np.testing.assert_allclose(vectors[name], expected(tensor), atol=1e-6)
    table = pq.read_table(out)
    assert table["length"][0].as_py() == pytest.approx(given["plain"].norm().item(), rel=1e-6)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_folder_of_files_equals_what_torch_reads(tmp_path, is_zip):
    (tmp_path / "emb").mkdir()
    given = tensors()
    for name, tensor in given.items():
        (tmp_path / "emb" / f"{name}.pth").write_bytes(torch_save(tensor, is_zip=is_zip))
    (tmp_path / "emb" / "notes.txt").write_text("not a vector")
    out, done = convert(tmp_path / "emb")
    vectors = read_unit_vectors(out)
    assert sorted(vectors) == sorted(given)
    assert done.num_vectors == len(given)
    for name, tensor in given.items():
        np.testing.assert_allclose(vectors[name], expected(tensor), atol=1e-6)


def test_the_later_vector_of_a_name_stays_as_in_the_released_reader(tmp_path):
    first, later, other = torch.randn(3, 8)
    parts = [{"a": first.clone(), "b": other.clone()}, {"a": later.clone()}]
    (tmp_path / "emb.pkl").write_bytes(b"".join(pickle.dumps(part) for part in parts))
    out, done = convert(tmp_path / "emb.pkl")
    vectors = read_unit_vectors(out)
    assert (done.num_vectors, done.num_replaced) == (2, 1)
    np.testing.assert_allclose(vectors["a"], expected(later), atol=1e-6)
    np.testing.assert_allclose(vectors["b"], expected(other), atol=1e-6)


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def evil_streams(marker):
    command = f"touch {marker}"
    nested = io.BytesIO()
    torch.save(Evil(os.system, command), nested, _use_new_zipfile_serialization=False)
    nested_zip = io.BytesIO()
    torch.save(Evil(os.system, command), nested_zip)
    return {
        "os.system": pickle.dumps({"v": Evil(os.system, command)}),
        "eval": pickle.dumps({"v": Evil(eval, f"__import__('os').system({command!r})")}),
        "nested in a storage": pickle.dumps(
            {"v": Evil(torch.storage._load_from_bytes, nested.getvalue())}
        ),
        "nested in a zipped storage": pickle.dumps(
            {"v": Evil(torch.storage._load_from_bytes, nested_zip.getvalue())}
        ),
        "torch.load": pickle.dumps({"v": Evil(torch.load, "x.pth")}),
        "in the second dict": pickle.dumps({"v": torch.ones(4)})
        + pickle.dumps({"w": Evil(os.system, command)}),
    }


@pytest.mark.parametrize("name", evil_streams("x"))
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_pickle_that_would_run_something_is_refused(tmp_path, name, skip_bad):
    marker = tmp_path / "ran"
    (tmp_path / "emb.pkl").write_bytes(evil_streams(marker)[name])
    with pytest.raises(PickleRefusedError, match=r"emb\.pkl.*names the global.*is not allowed"):
        convert(tmp_path / "emb.pkl", skip_bad=skip_bad)
    assert not marker.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["emb.pkl"]


def deflated(tensor):
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(torch_save(tensor))) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out.getvalue()


ONE = torch.arange(1, 9).float()
BAD_FILES = {
    "cut": (torch_save(ONE)[:-40], "not a complete file"),
    "cut, old layout": (torch_save(ONE, is_zip=False)[:-9], "ends inside a storage"),
    "compressed": (deflated(ONE), "stores without compression"),
    "no torch file": (b"hello", "memo index 101"),
    "complex numbers": (torch_save(torch.ones(8, dtype=torch.complex64)), "ComplexFloatStorage"),
    "a dict": (torch_save({"x": ONE}), "it must be a tensor"),
    "one number": (torch_save(ONE[0].clone()), "a single number"),
    "not finite": (torch_save(ONE / 0), "length is inf"),
    "all zero": (torch_save(ONE * 0), "length is 0"),
    "no numbers": (torch_save(ONE[:0].clone()), "does not lie in its storage"),
    "empty": (b"", "ends inside a pickle"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_say_what_is_wrong(name):
    content, message = BAD_FILES[name]
    with pytest.raises(ValueError, match=message):
        embedding_of(read_tensor_file(content, source="x.pth"))


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(0, (9,), (1,)), (8, (1,), (1,)), (0, (2, 2), (1 << 40, 1))]
)
def test_a_tensor_that_leaves_its_storage_is_refused(offset, size, stride):
    content = torch_save(ONE.reshape(2, 4)[:, :2])
    tensor = read_tensor_file(content, source="x.pth")
    tensor.offset, tensor.size, tensor.stride = offset, size, stride
    with pytest.raises(ValueError, match="does not lie in its storage"):
        tensor.array()


def test_few_bytes_do_not_become_many_vectors(tmp_path, monkeypatch):
    """A stride of 0, one storage under many names, and parts of a zip that overlap."""
    expanded = read_tensor_file(torch_save(ONE), source="x.pth")
    expanded.size, expanded.stride = (1 << 22, 4), (0, 1)
    with pytest.raises(ValueError, match="more numbers than its storage, which holds 8"):
        embedding_of(expanded)
    (tmp_path / "emb.pkl").write_bytes(pickle.dumps({"a": torch.ones((1 << 16) + 1)}))
    with pytest.raises(ValueError, match="65537 wide; at most 65536 are read"):
        convert(tmp_path / "emb.pkl")
    monkeypatch.setattr(import_embeddings_module, "_BYTES_PER_GROUP", 1 << 20)
    shared = torch.ones(1 << 12)
    (tmp_path / "emb.pkl").write_bytes(pickle.dumps({f"{n}": shared for n in range(2000)}))
    tracemalloc.start()
    try:
        convert(tmp_path / "emb.pkl")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # at once they would be 33 MB
    finally:
        tracemalloc.stop()


def test_a_zip_whose_parts_overlap_is_refused():
    content = bytearray(torch_save(ONE))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        number = len(archive.infolist())
    # Every entry of the directory claims the size of the whole file.
    place = content.find(b"PK\x01\x02")
    for _ in range(number):
        content[place + 20 : place + 28] = len(content).to_bytes(4, "little") * 2
        place = content.find(b"PK\x01\x02", place + 1)
    with pytest.raises(ValueError, match="larger than the zip"):
        read_tensor_file(bytes(content), source="x.pth")


def test_bad_vectors_can_be_listed_instead_of_ending_the_run(tmp_path):
    (tmp_path / "emb").mkdir()
    for name, content in {"good": torch_save(ONE), "bad": torch_save(ONE)[:-40]}.items():
        (tmp_path / "emb" / f"{name}.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.pth: video 'bad'"):
        convert(tmp_path / "emb")
    assert not (tmp_path / "vectors.parquet").exists()
    out, done = convert(tmp_path / "emb", skip_bad=True)
    assert list(read_unit_vectors(out)) == ["good"]
    assert done.num_bad == 1
    assert read_dead_ids(out) == {"bad"}


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_end_in_a_value_error_or_a_vector(seed):
    rng = random.Random(seed)
    files = [torch_save(ONE), torch_save(ONE, is_zip=False), pickle.dumps({"a": ONE})]
    for _ in range(200):
        content = bytearray(rng.choice(files))
        for _ in range(rng.choice([1, 2, 8])):
            place = rng.randrange(len(content))
            content[place : place + rng.choice([0, 1, 9])] = rng.randbytes(rng.choice([0, 1, 2]))
        for read in (read_file, read_dict):
            try:
                for tensor in read(bytes(content)):
                    embedding_of(tensor)
            except ValueError:
                pass


def read_file(content):
    return [read_tensor_file(content, source="x")]


def read_dict(content):
    value = PickleReader(content, source="x", builders=tensor_builders("x")).load()
    return value.values() if isinstance(value, dict) else [value]


def test_a_file_that_is_no_file_is_refused(tmp_path):
    (tmp_path / "emb").mkdir()
    os.mkfifo(tmp_path / "emb" / "a.pth")
    with pytest.raises(ValueError, match="must be a regular file"):
        convert(tmp_path / "emb")


def test_widths_must_agree(tmp_path):
    (tmp_path / "emb.pkl").write_bytes(pickle.dumps({"a": torch.ones(4), "b": torch.ones(5)}))
    with pytest.raises(ValueError, match=r"video 'b': the vector is 5 wide; those before it are 4"):
        convert(tmp_path / "emb.pkl")


def test_the_command_says_what_it_made(tmp_path, capsys):
    (tmp_path / "emb.pkl").write_bytes(pickle.dumps({"a": torch.ones(4)}))
    out = tmp_path / "v.parquet"
    assert (
        run_command("import-embeddings", ["--source", str(tmp_path / "emb.pkl"), "--out", str(out)])
        == 0
    )
    assert "1 vectors, 4 wide" in capsys.readouterr().out
