"""Pickles as data: what plain pickles hold comes back; what would run code is refused and does not run."""

import builtins
import collections
import os
import pickle  # noqa: TID251
import struct
import tracemalloc

import pytest

from training.annotations.embeddings import pickle_reader
from training.annotations.embeddings.pickle_reader import (
    PickleReader,
    PickleRefusedError,
    latin1_bytes,
)

TAINTED = []


def taint(*_):
    TAINTED.append("ran")


class Calls:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def load(content, **options):
    return PickleReader(content, source="file.pkl", builders=options.pop("builders", {})).load(
        **options
    )


def plain(value):
    """Byte strings come as views of the file."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return type(value)(plain(part) for part in value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


VALUES = [
    {"a": [1, 2.5, None, True, False, -7, 300, 70_000, -(2**40), 2**100]},
    ("x", (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ()),
    {("video_1", 4): {"bytes": b"abc" * 200, "text": "\u00e9" * 300}, 5: []},
    [["shared"] * 3] * 4,
    {str(number): number for number in range(3000)},
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_plain_values_come_back(value, protocol):
    content = pickle.dumps(value, protocol)
    assert plain(load(content, builders={("_codecs", "encode"): latin1_bytes})) == value


def test_pickles_follow_each_other():
    content = pickle.dumps([1]) + pickle.dumps({"b": 2})
    reader = PickleReader(content, source="file.pkl", builders={})
    assert reader.load() == [1]
    assert reader.load() == {"b": 2}
    assert reader.at_end


def test_items_of_the_outermost_dict_are_given_away_as_they_come():
    inner = {"k": 1}
    seen = []
    rest = load(pickle.dumps({"a": inner, "b": 2}), on_item=lambda *item: seen.append(item))
    assert seen == [("a", inner), ("b", 2)]
    assert rest == {}


def test_an_allowed_global_is_our_builder_and_not_the_named_thing():
    content = pickle.dumps(Calls(os.getpid))
    assert load(content, builders={(os.getpid.__module__, "getpid"): lambda: "ours"}) == "ours"


EVIL = {
    "os.system": Calls(os.system, "touch /tmp/never"),
    "builtins.eval": Calls(builtins.eval, "TAINTED.append(1)"),
    "builtins.exec": Calls(builtins.exec, "TAINTED.append(1)"),
    "builtins.getattr": Calls(getattr, "", "format"),
    "a function of this module": Calls(taint),
    "a class": collections.Counter("ab"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", EVIL)
def test_other_globals_are_refused_by_name(name, protocol):
    with pytest.raises(PickleRefusedError, match="is not allowed; nothing was run") as refused:
        load(pickle.dumps({"v": EVIL[name]}, protocol), builders={("torch", "FloatStorage"): dict})
    assert TAINTED == []
    assert "torch.FloatStorage" in str(refused.value)
    if "." in name:
        assert name.split(".")[1] in str(refused.value)


BROKEN = {
    "extension registry": (b"\x80\x02\x82\x01.", "opcode 0x82"),
    "old instance": (b"\x80\x02(ios\nsystem\n.", "opcode 0x69"),
    "text protocol": (b"I1\n.", "opcode 0x49"),
    "new protocol": (b"\x80\x09N.", "protocol 9"),
    "huge bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.", "the file has 2 more"),
    "huge text": (b"\x80\x04X\xff\xff\xff\xffx.", "bytes are declared"),
    "huge integer": (b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b".", "at most 16"),
    "negative integer length": (b"\x80\x02\x8b" + struct.pack("<i", -1) + b".", "at most 16"),
    "huge memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo index 2147483647"),
    "memo never set": (b"\x80\x02h\x05.", "memo index 5"),
    "empty stack": (b"\x80\x02R.", "values from an empty stack"),
    "no mark": (b"\x80\x02Nt.", "values from an empty stack"),
    "short tuple": (b"\x80\x02N\x87.", "more values than the stack has"),
    "two values": (b"\x80\x02NN.", "ends with 2 values"),
    "no stop": (b"\x80\x02N", "ends inside a pickle"),
    "a call of text": (b"\x80\x02X\x01\x00\x00\x00x)R.", "not an allowed global"),
    "a state on text": (b"\x80\x02X\x01\x00\x00\x00xNb.", "which has none"),
    "a list as key": (b"\x80\x02}]Ns.", "a dict key is"),
    "a deep tuple as key": (b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.", "a dict key is"),
    "items on a list": (b"\x80\x02](NNu.", "not a dict"),
    "append to a dict": (b"\x80\x02}Na.", "not a list"),
    "persistent id": (b"\x80\x02NQ.", "only torch.save"),
    "no utf-8": (b"\x80\x04\x8c\x01\xff.", "not UTF-8"),
    "endless name": (b"\x80\x02c" + b"x" * 5000, "does not end"),
    "empty": (b"", "ends inside"),
    "open marks": (b"\x80\x02" + b"(" * 20_000 + b".", "more than 10000 open marks"),
    "a high stack": (b"\x80\x02" + b"N" * 1_000_002 + b".", "stacks more than 1000000 values"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles_end_in_one_clear_error(name):
    content, message = BROKEN[name]
    with pytest.raises(ValueError, match=message) as error:
        load(content)
    assert str(error.value).startswith("file.pkl: byte ")


ENCODE = b"c_codecs\nencode\n"


def test_one_string_is_not_copied_again_and_again():
    """Of 1 MB in the file, calls would make 1 MB each."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20)
    content = (
        b"\x80\x02("
        + ENCODE
        + b"q\x00"
        + text
        + b"q\x01\x85R"
        + b"h\x00h\x01\x85R" * 10_000
        + b"t."
    )
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more bytes than the file holds"):
            load(content, builders={("_codecs", "encode"): latin1_bytes})
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "made", [b"]" * 60, b"}" * 60, b"N" + b"\x85" * 60, b"(t" * 60], ids=["lists", "dicts", "nested tuples", "tuples"]
)  # fmt: skip
def test_containers_of_one_byte_are_counted(monkeypatch, made):
    monkeypatch.setattr(pickle_reader, "_MAX_CONTAINERS", 50)
    with pytest.raises(ValueError, match="more than 50 containers"):
        load(b"\x80\x02" + made + b".")
    for _ in range(3):  # counted anew in each pickle
        reader = PickleReader(pickle.dumps([[]] * 40) * 3, source="file.pkl", builders={})
        reader.load()


def test_a_deep_tuple_that_would_crash_the_standard_unpickler_is_an_error():
    content = b"\x80\x02})" + b"\x85" * 200_000 + b"Ns."
    with pytest.raises(ValueError, match="a dict key is"):
        load(content)
    nested = (
        b"\x80\x02)" + b"\x85" * 200_000 + b"."
    )  # as a value it is data, and goes without recursion
    assert len(load(nested)) == 1
