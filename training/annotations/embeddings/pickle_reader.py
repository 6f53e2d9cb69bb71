"""Reads pickles as data: nothing that a pickle names is imported, looked up or called.

A pickle is a program for a stack machine. This machine executes only opcodes that build plain data, and
never resolves a name: a global becomes a builder from the reader's own table of exact (module, name)
pairs, or the pickle is refused. Lengths are checked against the size of the file before anything is
allocated, byte strings stay views of the file, and what a pickle can make of few bytes is limited.

It is not a subclass of `pickle.Unpickler` whose `find_class` answers from that table, because that one cannot be
made safe from outside (Python 3.11): a tuple nested 1,000,000 deep as the key of a dict, 1 MB of pickle, ends the
process with a segmentation fault when it is hashed; one PUT opcode of index 2**31 - 1 asks for 32 GiB; BYTEARRAY8
allocates any declared length before it looks for the bytes. None of these can be caught in a subclass, and a dict
is handed over only when it is whole, so that memory would hold a file of released embeddings at once.
"""

import reprlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

Builder = Callable[..., object]
"""Takes the arguments that a pickle passes to a global, and returns plain data."""
Buffer = bytes | memoryview

_MAX_INT_BYTES = 16
_MAX_MEMO = 20_000_000
_MAX_LINE = 1_000
_MAX_KEY_PARTS = 16
_MAX_STACK = 1_000_000
_MAX_MARKS = 10_000
_MAX_CONTAINERS = 20_000_000
# Beyond what a file can hold twice, as the text and as the bytes of one string (protocol 2).
_FREE_ARGUMENT_BYTES = 4096


class PickleRefusedError(ValueError):
    """The pickle contains more than data: a global that is not on the list, or an opcode that runs code."""


class PickleReader:
    """Reads consecutive pickles from a buffer; `position` is the start of the next one."""

    def __init__(
        self,
        buffer: Buffer,
        *,
        source: str,
        builders: Mapping[tuple[str, str], Builder],
        load_persistent: Callable[[object], object] | None = None,
        position: int = 0,
    ) -> None:
        self._view = memoryview(buffer)
        self._source = source
        self._builders = builders
        self._load_persistent = load_persistent
        self.position = position
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[object] = []
        self._num_containers = 0
        self._argument_bytes = 0
        self._on_item: Callable[[object, object], None] | None = None

    @property
    def at_end(self) -> bool:
        """Whether no byte is left."""
        return self.position >= len(self._view)

    def load(self, on_item: Callable[[object, object], None] | None = None) -> object:
        """The value of the next pickle. With `on_item`, items of an outermost dict are passed to it one by one and not kept."""
        self._stack, self._marks, self._memo = [], [], []
        self._num_containers = 0
        self._on_item = on_item
        view, stack = self._view, self._stack
        while True:
            if self.position >= len(view):
                raise self._error("the file ends inside a pickle")
            opcode = view[self.position]
            self.position += 1
            if opcode == 0x2E:  # STOP
                if len(stack) != 1 or self._marks:
                    raise self._error(f"a pickle ends with {len(stack)} values on its stack, not 1")
                return stack.pop()
            operation = _OPERATIONS[opcode]
            if operation is None:
                raise self._refuse(opcode)
            try:
                operation(self)
            except IndexError as error:
                raise self._error("the pickle takes values from an empty stack") from error
            if len(stack) > _MAX_STACK:
                raise self._error(f"the pickle stacks more than {_MAX_STACK} values")

    def _error(self, what: str) -> ValueError:
        return ValueError(f"{self._source}: byte {self.position}: {what}")

    def _refuse(self, opcode: int) -> PickleRefusedError:
        return PickleRefusedError(
            f"{self._source}: byte {self.position - 1}: opcode 0x{opcode:02x} is not read; "
            "allowed are the opcodes of protocols 2 to 5 that build plain data"
        )

    def _take(self, num_bytes: int) -> memoryview:
        start = self.position
        if num_bytes > len(self._view) - start:
            raise self._error(
                f"{num_bytes} bytes are declared, but the file has {len(self._view) - start} more"
            )
        self.position = start + num_bytes
        return self._view[start : self.position]

    def _number(self, layout: struct.Struct) -> int:
        return layout.unpack(self._take(layout.size))[0]

    def _byte(self) -> int:
        self.position += 1
        return self._view[self.position - 1]

    def _line(self) -> str:
        window = bytes(self._view[self.position : self.position + _MAX_LINE])
        end = window.find(b"\n")
        if end < 0:
            raise self._error(f"a line of text does not end within {_MAX_LINE} bytes")
        self.position += end + 1
        return window[:end].decode("utf-8", "replace")

    def _builder(self, module: object, name: object) -> Builder:
        builder = (
            self._builders.get((module, name))
            if isinstance(module, str) and isinstance(name, str)
            else None
        )
        if builder is None:
            allowed = ", ".join(f"{m}.{n}" for m, n in sorted(self._builders)) or "none"
            raise PickleRefusedError(
                f"{self._source}: byte {self.position}: the pickle names the global "
                f"{reprlib.repr(module)}.{reprlib.repr(name)}, which is not allowed; nothing was run. Allowed are: {allowed}"
            )
        return builder

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _put(self, index: int) -> None:
        memo = self._memo
        if index == len(memo) and index < _MAX_MEMO:
            memo.append(self._stack[-1])
        elif index < len(memo):
            memo[index] = self._stack[-1]
        else:
            raise self._error(
                f"memo index {index} is set while {len(memo)} are in use; indices must be consecutive"
            )

    def _set_items(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise self._error("items are set on something that is not a dict")
        for place in range(0, len(pairs), 2):
            key, value = pairs[place], pairs[place + 1]
            if not _is_plain_key(key):
                raise self._error(
                    f"a dict key is {reprlib.repr(key)}; it must be text, a number or a short tuple of them"
                )
            if self._on_item is not None and len(self._stack) == 1:
                self._on_item(key, value)
            else:
                target[key] = value

    def _reduce(self) -> None:
        arguments, builder = self._stack.pop(), self._stack.pop()
        if not isinstance(arguments, tuple) or not callable(builder):
            raise self._error("a call of something that is not an allowed global")
        self._count_arguments(arguments)
        self._count_container()
        try:
            self._stack.append(builder(*arguments))
        except TypeError as error:
            raise self._error(f"an allowed global has wrong arguments: {error}") from error

    def _count_container(self) -> None:
        """A container of 48 to 72 bytes costs a pickle one byte."""
        self._num_containers += 1
        if self._num_containers > _MAX_CONTAINERS:
            raise self._error(f"the pickle makes more than {_MAX_CONTAINERS} containers")

    def _count_arguments(self, arguments: tuple[object, ...]) -> None:
        """One long string of the memo may be passed again and again, and each time be copied."""
        self._argument_bytes += sum(
            len(argument)
            for argument in arguments
            if isinstance(argument, (str, bytes, memoryview))
        )
        if self._argument_bytes > 2 * len(self._view) + _FREE_ARGUMENT_BYTES:
            raise self._error("allowed globals are called with more bytes than the file holds")

    def _mark(self) -> None:
        if len(self._marks) == _MAX_MARKS:
            raise self._error(f"the pickle has more than {_MAX_MARKS} open marks")
        self._marks.append(len(self._stack))

    def _push(self, container: list[Any] | dict[Any, Any] | tuple[Any, ...]) -> None:
        self._count_container()
        self._stack.append(container)

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        set_state = getattr(target, "set_state", None)
        if set_state is None:
            raise self._error(f"a state is set on a {type(target).__name__}, which has none")
        set_state(state)

    def _persistent(self) -> None:
        if self._load_persistent is None:
            raise self._error("a persistent id, which only torch.save writes")
        self._stack.append(self._load_persistent(self._stack.pop()))

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise self._error("values are appended to something that is not a list")
        target.extend(values)

    def _text(self, num_bytes: int) -> None:
        try:
            self._stack.append(str(self._take(num_bytes), "utf-8", "surrogatepass"))
        except UnicodeDecodeError as error:
            raise self._error(f"a text is not UTF-8: {error}") from error

    def _long(self, num_bytes: int) -> None:
        if not 0 <= num_bytes <= _MAX_INT_BYTES:
            raise self._error(f"an integer of {num_bytes} bytes; at most {_MAX_INT_BYTES} are read")
        self._stack.append(int.from_bytes(self._take(num_bytes), "little", signed=True))

    def _tuple(self, length: int) -> None:
        stack = self._stack
        if len(stack) < length:
            raise self._error("a tuple takes more values than the stack has")
        values = tuple(stack[-length:])
        del stack[-length:]
        self._push(values)

    def _get(self, index: int) -> None:
        if index >= len(self._memo):
            raise self._error(f"memo index {index} is read; {len(self._memo)} are in use")
        self._stack.append(self._memo[index])

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._builder(module, name))

    def _protocol(self) -> None:
        protocol = self._byte()
        if not 2 <= protocol <= 5:
            raise self._error(f"pickle protocol {protocol}; 2 to 5 are read")


def latin1_bytes(text: object = "", encoding: object = "latin1") -> bytes:
    """The builder for `_codecs.encode`, which writes bytes in pickles of protocol 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes are not written as latin1 text")
    return text.encode("latin1")


def _is_plain_key(key: object) -> bool:
    """Whether hashing the key is cheap: nested tuples are refused, because their hash can recurse without end."""
    if isinstance(key, tuple):
        return len(key) <= _MAX_KEY_PARTS and all(isinstance(part, (str, int)) for part in key)
    return isinstance(key, (str, int))


_U16, _U32, _U64 = (struct.Struct(layout) for layout in ("<H", "<I", "<Q"))
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")

_BY_OPCODE: dict[int, Callable[[PickleReader], object]] = {
    0x80: lambda r: r._protocol(),
    0x95: lambda r: r._take(8),  # FRAME: only a hint for buffered readers
    0x28: lambda r: r._mark(),
    0x30: lambda r: r._stack.pop(),
    0x32: lambda r: r._stack.append(r._stack[-1]),
    0x4E: lambda r: r._stack.append(None),
    0x88: lambda r: r._stack.append(True),
    0x89: lambda r: r._stack.append(False),
    0x4B: lambda r: r._stack.append(r._byte()),
    0x4D: lambda r: r._stack.append(r._number(_U16)),
    0x4A: lambda r: r._stack.append(r._number(_I32)),
    0x47: lambda r: r._stack.append(r._number(_F64)),
    0x8A: lambda r: r._long(r._byte()),
    0x8B: lambda r: r._long(r._number(_I32)),
    0x8C: lambda r: r._text(r._byte()),
    0x58: lambda r: r._text(r._number(_U32)),
    0x8D: lambda r: r._text(r._number(_U64)),
    0x43: lambda r: r._stack.append(r._take(r._byte())),
    0x42: lambda r: r._stack.append(r._take(r._number(_U32))),
    0x8E: lambda r: r._stack.append(r._take(r._number(_U64))),
    0x96: lambda r: r._stack.append(r._take(r._number(_U64))),  # BYTEARRAY8
    0x29: lambda r: r._stack.append(()),
    0x85: lambda r: r._tuple(1),
    0x86: lambda r: r._tuple(2),
    0x87: lambda r: r._tuple(3),
    0x74: lambda r: r._push(tuple(r._pop_mark())),
    0x5D: lambda r: r._push([]),
    0x61: lambda r: r._append([r._stack.pop()]),
    0x65: lambda r: r._append(r._pop_mark()),
    0x7D: lambda r: r._push({}),
    0x73: lambda r: r._set_items([r._stack.pop(-2), r._stack.pop()]),
    0x75: lambda r: r._set_items(r._pop_mark()),
    0x71: lambda r: r._put(r._byte()),
    0x72: lambda r: r._put(r._number(_U32)),
    0x94: lambda r: r._put(len(r._memo)),
    0x68: lambda r: r._get(r._byte()),
    0x6A: lambda r: r._get(r._number(_U32)),
    0x63: lambda r: r._stack.append(r._builder(r._line(), r._line())),
    0x93: lambda r: r._stack_global(),
    0x52: lambda r: r._reduce(),
    0x62: lambda r: r._build(),
    0x51: lambda r: r._persistent(),
}
_OPERATIONS = [_BY_OPCODE.get(opcode) for opcode in range(256)]
