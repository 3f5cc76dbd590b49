"""What a pickle of ``torch.save`` describes, read as plain data: nothing in it is imported, called or built.

The opcodes are decoded by the standard library's ``pickletools``; here they only fill lists, dicts and records of
where a tensor's numbers lie. Work and memory are bounded, whatever the pickle says. No torch here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from ilvrctl.models.files.described import SIZES, Inert, Storage, Stored, item_size

MOST_OPCODES = 500_000
MOST_COPIED = 4_000_000
_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32",
}  # fmt: skip
_INERT = (
    "config.", "tensorfn.config.", "argparse.Namespace", "types.SimpleNamespace", "pathlib.", "omegaconf.",
    "easydict.", "yacs.config.", "ml_collections.", "addict.", "numpy.",
)  # fmt: skip
"""Settings that trainers leave beside the weights: kept as :class:`Inert`, names and values."""


class NotPlainError(Exception):
    """The pickle asks for the function or class that is the argument, and it was not given."""


class NotPickleError(Exception):
    """The pickle is damaged, or larger than any file of weights."""


@dataclass(frozen=True)
class _Global:
    name: str


_Mark = object()
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_KEYS = (str, int, float, bytes, type(None), _Global)


def read_pickle(file: IO[bytes]) -> Any:
    """The content of the pickle at the place of ``file``, which is left behind its end.

    dicts, lists, tuples, sets, numbers, texts, :class:`Stored` and :class:`Inert`. Raises NotPlainError for a
    pickle that asks for anything else, NotPickleError for a damaged one.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_OPCODES:
                raise NotPickleError(f"more than {MOST_OPCODES:,} objects and keys")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.run(opcode.name, argument)
    except (NotPlainError, NotPickleError):
        raise
    except Exception as error:  # damaged bytes can mean anything
        raise NotPickleError(f"{error or type(error).__name__}".splitlines()[0]) from error
    raise NotPickleError("its end is missing")


class _Machine:
    """The stack and the memory of a pickle, and what each opcode does to them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _MAKERS:
            self.stack.append(_MAKERS[name]())
        elif name in _VALUES:
            self.stack.append(argument)
        elif name in _SKIPPED:
            pass
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif (act := getattr(self, f"_{name.lower()}", None)) is not None:
            act(argument)
        else:
            raise NotPlainError(f"the opcode {name}")

    def _marked(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _Mark:
            at -= 1
            if at < 0:
                raise NotPickleError("a mark is missing")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _tuple3(self, _: Any) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _list(self, _: Any) -> None:
        self.stack.append(self._marked())

    def _dict(self, _: Any) -> None:
        found = self._marked()
        self.stack.append({})
        self._set(found)

    def _frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(map(_key, self._marked())))

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _additems(self, _: Any) -> None:
        found = self._marked()
        self.stack[-1].update(map(_key, found))

    def _setitem(self, _: Any) -> None:
        pair = self.stack[-2:]
        del self.stack[-2:]
        self._set(pair)

    def _setitems(self, _: Any) -> None:
        self._set(self._marked())

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _global(self, argument: str) -> None:
        self.stack.append(_known_global(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_known_global(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.copied += sum(len(part) for part in arguments if isinstance(part, _SIZED))
        if self.copied > MOST_COPIED:
            raise NotPickleError("more data in it than any file of weights has")
        self.stack.append(_made(function, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()  # arguments by name: only of classes that are kept inert
        self._reduce(None)

    def _build(self, _: Any) -> None:
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, Inert):
            thing.state = state
        elif not isinstance(
            thing, (dict, Stored)
        ):  # what a dict or a tensor has beside its content is left out
            raise NotPickleError("attributes of something that has none")

    def _binpersid(self, _: Any) -> None:
        self.stack[-1] = _storage(self.stack[-1])

    def _extend(self, values: list[Any]) -> None:
        thing = self.stack[-1]
        (thing.elements if isinstance(thing, Inert) else thing).extend(values)

    def _set(self, values: list[Any]) -> None:
        thing = self.stack[-1]
        items = thing.items if isinstance(thing, Inert) else thing
        for at in range(0, len(values), 2):
            items[_key(values[at])] = values[at + 1]


_CONSTANTS: Mapping[str, Any] = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": _Mark,
}  # fmt: skip
_MAKERS: Mapping[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_SKIPPED = frozenset({"PROTO", "FRAME"})
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
     "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES",
     "BINBYTES8", "BYTEARRAY8"}
)  # fmt: skip


def _key(value: Any) -> Any:
    """``value`` if hashing it is quick: a tuple of tuples of tuples could take for ever."""
    if isinstance(value, _KEYS) or (
        isinstance(value, tuple) and all(isinstance(part, _KEYS) for part in value)
    ):
        return value
    raise NotPickleError(f"a {type(value).__name__} as a key")


def _known_global(name: str) -> _Global:
    bare = name.replace("__builtin__.", "builtins.")
    dtype = bare.startswith("torch.") and bare.removeprefix("torch.") in SIZES
    known = bare in _FUNCTIONS or bare in _ODD or _storage_dtype(bare) or dtype
    if not known and not bare.startswith((*_INERT, "torch.float8", "torch.per_")):
        raise NotPlainError(name)
    return _Global(bare)


def _made(function: Any, arguments: Any) -> Any:
    """What the known ``function`` would give, as plain data."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise NotPickleError("a call of something that is no function")
    if function.name in _FUNCTIONS:
        return _FUNCTIONS[function.name](*arguments)
    if function.name in _ODD:
        return _odd(_ODD[function.name])
    if function.name.startswith(_INERT):
        return Inert(function.name, arguments)
    raise NotPlainError(function.name)


def _storage_dtype(name: str) -> str:
    """The kind of number of a storage class; "" for another class."""
    if name in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
        return "uint8"
    if name.startswith("torch.") and name.endswith("Storage"):
        return _STORAGES.get(name.removeprefix("torch.").removesuffix("Storage"), "")
    return ""


def _storage(identity: Any) -> Storage:
    """The storage that a persistent id means: ("storage", class, key, device, numbers, view or None)."""
    kind, cls, key, _, numel = identity[:5]
    if any(view is not None for view in identity[5:]):
        raise NotPickleError("a view of a storage, as only very old files have")
    dtype = _storage_dtype(cls.name) if isinstance(cls, _Global) else ""
    if kind != "storage" or not dtype or not isinstance(key, str) or type(numel) is not int or numel < 0:
        raise NotPickleError("an unknown kind of persistent id")
    return Storage(key, dtype, numel)


def _odd(what: str, dtype: str = "float32") -> Stored:
    return Stored((), dtype, Storage("", dtype, 0), odd=what)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any, dtype: str = "") -> Stored:
    """A tensor in ``storage``; one that reaches beyond it, or has more numbers than it, is odd."""
    if not isinstance(storage, Storage):
        raise NotPickleError("a tensor without a storage")
    if dtype:  # the storage counts bytes
        storage = Storage(storage.key, dtype, storage.numel // item_size(dtype))
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise NotPickleError("a tensor of an impossible shape")
    found = Stored(tuple(shape), storage.dtype, storage, offset, tuple(stride))
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    why = ""
    if found.numel and last >= storage.numel:
        why = "larger than the storage that holds it"
    elif found.numel > storage.numel:
        why = "expanded: its numbers are not stored one by one"
    elif storage.dtype not in SIZES or storage.dtype.startswith("q"):
        why = f"of {storage.dtype}, no numbers of a usable precision"
    return Stored(found.shape, found.dtype, storage, offset, found.stride, why)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> Stored:
    return _tensor(storage, offset, shape, stride, dtype=dtype.name.removeprefix("torch."))


def _from_type(function: Any, _: Any, arguments: Any, __: Any) -> Any:
    return _made(function, arguments)


def _pairs(pairs: Any = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}


def _set_of(values: Any = ()) -> set[Any]:
    return set(map(_key, values))


def _bytes(value: Any = b"", encoding: Any = "latin1") -> bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str) and encoding in ("latin1", "latin-1", "utf-8", "utf8"):
        return value.encode(encoding)
    raise NotPickleError("bytes of an unknown kind")


def _size(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values)


def _first(value: Any, *_: Any) -> Any:
    return value


_ODD = {
    "torch._utils._rebuild_sparse_tensor": "sparse, and only dense weights can be read",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse, and only dense weights can be read",
    "torch._utils._rebuild_qtensor": "quantized, no numbers of a usable precision",
    "torch._utils._rebuild_nested_tensor": "nested, and only dense weights can be read",
    "torch._utils._rebuild_meta_tensor_no_storage": "on the meta device: its numbers were not saved",
    "torch._utils._rebuild_wrapper_subclass": "of a special kind, and only plain weights can be read",
    "torch._utils._rebuild_xla_tensor": "of a special kind, and only plain weights can be read",
    "torch._utils._rebuild_device_tensor_from_numpy": "of a special kind, and only plain weights can be read",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of a special kind, and only plain weights can be read",
}  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.nn.parameter.Parameter": _first,
    "torch.serialization._get_layout": _first,
    "torch.Tensor": lambda *_: _odd("of a special kind, and only plain weights can be read"),
    "torch.Size": _size,
    "torch.device": lambda *parts: ":".join(map(str, parts)),
    "collections.OrderedDict": _pairs,
    "collections.Counter": _pairs,
    "collections.defaultdict": lambda *_: {},
    "builtins.set": _set_of,
    "builtins.bytearray": _bytes,
    "builtins.complex": lambda *parts: complex(*parts),
    "builtins.dict": _pairs,
    "builtins.list": lambda *_: [],
    "_codecs.encode": _bytes,
}
