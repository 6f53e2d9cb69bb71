"""Tensors of pickles and `.pth` files as NumPy vectors, without torch.load and without running anything.

A pickled tensor names `torch._utils._rebuild_tensor_v2` and, for its storage, `torch.storage._load_from_bytes`:
here both are builders of records. The bytes of the storage are the output of `torch.save`, in its old layout
(pickles, then raw numbers) or as a zip, and are parsed by the same reader. D vector width.
"""

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.annotations.embeddings.pickle_reader import (
    Buffer,
    Builder,
    PickleReader,
    latin1_bytes,
)

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_ELEMENTS = 1 << 24
_MAX_DIMS = 8
_MAX_STORAGES = 64
_PREAMBLE_BYTES = 137
_STORAGE_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Storage:
    """A row of numbers that tensors view; `data` is set once the file has been read up to it."""

    dtype: str
    num_elements: int
    data: Buffer | None = None

    def numbers(self) -> np.ndarray:
        """The numbers as they are stored [num_elements]; bfloat16 comes as float32."""
        if self.data is None:
            raise ValueError("a tensor's storage is not in the file")
        is_bfloat16 = self.dtype == "bfloat16"
        dtype = np.dtype("<u2" if is_bfloat16 else self.dtype)
        if len(self.data) < self.num_elements * dtype.itemsize:
            raise ValueError(
                f"a storage of {self.num_elements} numbers has {len(self.data)} bytes; "
                f"it needs {self.num_elements * dtype.itemsize}"
            )
        numbers = np.frombuffer(self.data, dtype, count=self.num_elements)
        if is_bfloat16:
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        return numbers


@dataclass(kw_only=True, slots=True)
class PickledTensor:
    """A view of a storage, as described by `_rebuild_tensor_v2`; nothing is read before `array`."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        """A copy as float32; ValueError if size and stride leave the storage."""
        numbers = self.storage.numbers()
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.size, self.stride, strict=True)
        )
        if math.prod(self.size) == 0 or last >= len(numbers):
            raise ValueError(
                f"a tensor of size {self.size}, stride {self.stride} from {self.offset} on does not lie in its storage "
                f"of {len(numbers)} numbers"
            )
        # A stride of 0 would show few numbers as many, each a copy in memory.
        if math.prod(self.size) > len(numbers):
            raise ValueError(
                f"a tensor of size {self.size} has more numbers than its storage, which holds {len(numbers)}"
            )
        width = numbers.itemsize
        strided = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.size, [step * width for step in self.stride]
        )
        return strided.astype(np.float32)


def embedding_of(value: object) -> tuple[np.ndarray, np.ndarray | None]:
    """The float32 [D] vector of a tensor, and [T, D] where it has several in order (frames, tokens), of which it is the mean.

    Of [T, Q, D], as BLIP-2's queries of each frame, those of a frame are averaged.
    """
    if not isinstance(value, PickledTensor):
        raise ValueError(f"it is a {type(value).__name__}; it must be a tensor")
    array = value.array()
    if array.ndim == 0:
        raise ValueError("it is a single number; it must be a vector")
    tokens_TD = None
    if array.ndim > 1:
        if len(array) > 1:
            tokens_TD = array.reshape(len(array), -1, array.shape[-1]).mean(
                axis=1, dtype=np.float64
            )
        array = array.reshape(-1, array.shape[-1]).mean(axis=0, dtype=np.float64)
    vector_D = array.astype(np.float32)
    length = float(np.linalg.norm(vector_D))
    if not 0 < length < math.inf:
        raise ValueError(f"the vector's length is {length}; it must be a finite number above 0")
    return vector_D, None if tokens_TD is None else tokens_TD.astype(np.float32)


def read_tensor_file(content: bytes, *, source: str) -> object:
    """The value of one file of `torch.save`: a zip, or the older layout."""
    if content[:2] == b"PK":
        return _read_zip(content, source)
    return _read_legacy(content, source)


def tensor_builders(source: str) -> dict[tuple[str, str], Builder]:
    """Builders of the globals that a pickled dict of tensors may name."""

    def load_from_bytes(content: Buffer) -> object:
        if not isinstance(content, (bytes, memoryview)):
            raise ValueError(f"{source}: a storage's content is a {type(content).__name__}")
        nested = f"{source}: bytes of a storage"
        storage = (
            _read_zip(bytes(content), nested)
            if bytes(content[:2]) == b"PK"
            else _read_legacy(content, nested)
        )
        if not isinstance(storage, Storage):
            raise ValueError(f"{nested}: a {type(storage).__name__} where a storage must be")
        return storage

    return {
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("torch.storage", "_load_from_bytes"): load_from_bytes,
        ("collections", "OrderedDict"): _empty_dict,
        ("_codecs", "encode"): latin1_bytes,
    }


def _rebuild_tensor(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object = False,
    *hooks: object,
) -> PickledTensor:
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor's storage is a {type(storage).__name__}")
    if not (_are_counts((offset,)) and _are_counts(size) and _are_counts(stride)):
        raise ValueError("a tensor's offset, size and stride must be whole numbers from 0 on")
    assert isinstance(size, tuple)
    assert isinstance(stride, tuple)
    assert isinstance(offset, int)
    if len(size) != len(stride) or math.prod(size) > _MAX_ELEMENTS:
        raise ValueError(
            f"a tensor has size {size} and stride {stride}; at most {_MAX_ELEMENTS} numbers are read"
        )
    return PickledTensor(storage=storage, offset=offset, size=size, stride=stride)


def _rebuild_parameter(data: object, _requires_grad: object, _hooks: object) -> PickledTensor:
    """An nn.Parameter is its tensor."""
    if not isinstance(data, PickledTensor):
        raise ValueError(f"a parameter's data is a {type(data).__name__}")
    return data


def _are_counts(values: object) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= _MAX_DIMS
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _StorageClass:
    """The builder for `torch.FloatStorage` and similar classes: a number type."""

    dtype: str

    def __call__(self, *_arguments: object) -> object:
        raise ValueError(f"a storage class ({self.dtype}) is called; it may only be named")


def _empty_dict() -> dict[object, object]:
    return {}


_FILE_BUILDERS: dict[tuple[str, str], Builder] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): _empty_dict,
} | {("torch", name): _StorageClass(dtype=dtype) for name, dtype in _STORAGE_DTYPES.items()}


def _storage_of(persistent_id: object, source: str) -> tuple[str, Storage]:
    """("storage", class, key, location, number of elements[, view]) -> (key, an empty storage)."""
    if not (isinstance(persistent_id, tuple) and len(persistent_id) in (5, 6)):
        raise ValueError(f"{source}: a persistent id does not describe a storage")
    kind, storage_class, key, _location, num_elements, *view = persistent_id
    is_whole = kind == "storage" and isinstance(key, str) and view in ([], [None])
    if not (is_whole and isinstance(storage_class, _StorageClass) and _are_counts((num_elements,))):
        raise ValueError(f"{source}: a persistent id does not describe a whole storage")
    return key, Storage(dtype=storage_class.dtype, num_elements=num_elements)


def _persistent_loader(storages: dict[str, Storage], source: str) -> Callable[[object], Storage]:
    def load(persistent_id: object) -> Storage:
        key, storage = _storage_of(persistent_id, source)
        if len(storages) == _MAX_STORAGES and key not in storages:
            raise ValueError(f"{source}: more than {_MAX_STORAGES} storages; one tensor has 1")
        return storages.setdefault(key, storage)

    return load


def _read_legacy(content: Buffer, source: str) -> object:
    """Five pickles (magic number, version, machine, value, storage keys), then each storage's count and numbers."""
    storages: dict[str, Storage] = {}
    reader = PickleReader(
        content,
        source=source,
        builders=_FILE_BUILDERS,
        load_persistent=_persistent_loader(storages, source),
    )
    end_of_preamble = _end_of_preamble(bytes(content[:_PREAMBLE_BYTES]))
    if end_of_preamble is None:
        _read_preamble(reader, source)
    else:
        reader.position = end_of_preamble
    value, keys = reader.load(), reader.load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"{source}: the list of storages is not a list of names")
    view, position = memoryview(content), reader.position
    for key in keys:
        storage = storages.get(key)
        count = int.from_bytes(view[position : position + 8], "little")
        if storage is None or count != storage.num_elements:
            raise ValueError(
                f"{source}: a storage has {count} numbers, which differs from its tensor"
            )
        end = position + 8 + count * (2 if storage.dtype == "bfloat16" else int(storage.dtype[2:]))
        if end > len(view):
            raise ValueError(f"{source}: the file ends inside a storage of {count} numbers")
        storage.data = view[position + 8 : end]
        position = end
    return value


def _read_preamble(reader: PickleReader, source: str) -> None:
    if reader.load() != _LEGACY_MAGIC:
        raise ValueError(f"{source}: not a file of torch.save: the magic number is missing")
    reader.load()
    machine = reader.load()
    if not (isinstance(machine, dict) and machine.get("little_endian") is True):
        raise ValueError(f"{source}: written on a big-endian machine; only little-endian is read")


@lru_cache(maxsize=16)
def _end_of_preamble(head: bytes) -> int | None:
    """End of the first three pickles, which are equal in all files of one torch version; None = not within `head`, or invalid."""
    reader = PickleReader(head, source="", builders=_FILE_BUILDERS)
    try:
        _read_preamble(reader, "")
    except ValueError:
        return None
    return reader.position


def _read_zip(content: bytes, source: str) -> object:
    """Read `<name>/data.pkl` and `<name>/data/<key>`, none of them compressed."""
    storages: dict[str, Storage] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError(
                    f"{source}: a zip with {len(pickles)} data.pkl; torch.save writes 1"
                )
            root = pickles[0].removesuffix("data.pkl")
            if sum(item.file_size for item in archive.infolist()) > len(content):
                raise ValueError(f"{source}: the parts of the zip are larger than the zip")
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                raise ValueError(
                    f"{source}: a compressed zip; torch.save stores without compression"
                )
            value = PickleReader(
                archive.read(pickles[0]),
                source=source,
                builders=_FILE_BUILDERS,
                load_persistent=_persistent_loader(storages, source),
            ).load()
            if (
                f"{root}byteorder" in archive.namelist()
                and archive.read(f"{root}byteorder") != b"little"
            ):
                raise ValueError(
                    f"{source}: written on a big-endian machine; only little-endian is read"
                )
            for key, storage in storages.items():
                storage.data = archive.read(f"{root}data/{key}")
    # RuntimeError is what zipfile raises for an encrypted member.
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{source}: not a complete file of torch.save: {error}") from error
    return value
