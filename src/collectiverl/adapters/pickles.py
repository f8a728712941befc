"""Arrays in pickles, read as data: nothing that a pickle names is imported or called.

A pickle is a program. It names functions and calls them, which is why loading one may do anything on this machine. The
readers here know what the pickles of PyTorch and SBX look like, and stand in for the functions that these name:

- `state_dict` reads what `torch.save` wrote for a `state_dict`. It knows the three kinds of names that such a file has,
  and refuses all others.
- `recorded` reads any pickle into `Recorded` objects: what was to be made, with which arguments. It runs none of it.
"""

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

MOST_BYTES = 2**30  # of one part of an archive, unpacked
FLOATS = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2"}
INTEGERS = {
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
STORAGES = {name: np.dtype(code) for name, code in (FLOATS | INTEGERS).items()}
# the one in Python: that in C takes as much memory as a few bytes of a pickle ask for
_Unpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class NotData(ValueError):
    """A file cannot be read as data: it is broken, or holds something that is no array."""


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of an archive.

    Raises:
        NotData: it is not there, or too large.
    """
    try:
        info = archive.getinfo(name)
        if info.file_size > MOST_BYTES:
            raise NotData(f"its {name} is larger than {MOST_BYTES:,} bytes")
        return archive.read(info)
    except KeyError:
        raise NotData(f"it has no {name}") from None
    except NotData:
        raise
    except Exception as error:  # there is no list of what a broken archive may raise
        raise NotData(f"its {name} cannot be unpacked ({error})") from error


def setting(about: Mapping[str, Any], name: str, default: float, most: float) -> float:
    """A number among the settings of a file, from 0 to `most`; the default if it is not there.

    Raises:
        NotData: it is something else.
    """
    found = about.get(name, default)
    if type(found) not in (int, float) or not 0 <= found <= most:
        raise NotData(f"its {name} is {found!r:.60}, and a number from 0 to {most} is read")
    return found


# -- PyTorch -----------------------------------------------------------------------------------------------


def state_dict(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a `state_dict`, by name, from the bytes that `torch.save` wrote.

    The file is a zip archive: `<root>/data.pkl` names the tensors and `<root>/data/<key>` holds their numbers, raw.

    Raises:
        NotData: it is no such file, or holds something else beside tensors.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        [described] = [name for name in archive.namelist() if name.endswith("data.pkl")]
        root = described.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and member(archive, f"{root}byteorder") != b"little":
            raise NotData("its numbers are not little-endian")
        found = _TensorReader(archive, root, member(archive, described)).load()
    except NotData:
        raise
    except Exception as error:
        raise NotData(f"it holds no state_dict ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict) or not all(isinstance(array, np.ndarray) for array in found.values()):
        raise NotData("it holds no state_dict, but something else")
    if sum(array.nbytes for array in found.values()) > MOST_BYTES:  # many may be views of the same numbers
        raise NotData(f"its arrays have more than {MOST_BYTES:,} bytes")
    return {str(name): array for name, array in found.items()}


class _Named(dict):
    """In place of an `OrderedDict`, whose attributes (versions of modules) are of no use here."""

    def __setstate__(self, state: Any) -> None:
        pass


class _TensorReader(_Unpickler):
    """Knows what a `state_dict` is made from, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, root: str, data: bytes):
        super().__init__(io.BytesIO(data))
        self.archive, self.root = archive, root
        self.storages: dict[tuple[str, str], np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Named
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if module == "torch" and name in STORAGES:
            return name
        raise NotData(f"it names {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, name, key, _, count = pid
        if kind != "storage" or name not in STORAGES:
            raise NotData("it has a tensor without numbers")
        if (name, key) not in self.storages:  # several tensors may share it
            raw = np.frombuffer(member(self.archive, f"{self.root}data/{key}"), STORAGES[name])
            if raw.nbytes + sum(other.nbytes for other in self.storages.values()) > MOST_BYTES:
                raise NotData(f"its numbers have more than {MOST_BYTES:,} bytes")
            self.storages[name, key] = raw
        raw = self.storages[name, key]
        if len(raw) != count:
            raise NotData(f"a tensor has {len(raw)} numbers and says that they are {count}")
        return raw


class _Rebuild:
    """In place of PyTorch's function; a pickle can call it, and can change nothing in it."""

    __slots__ = ()

    def __call__(self, *args: Any) -> np.ndarray:
        return _tensor(*args)


def _tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    """The tensor of this shape as a view of a storage; strides and offset count numbers, as in PyTorch."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise NotData("a tensor has an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.zeros(size, storage.dtype)
    if last >= len(storage) or np.prod(size, dtype=object) > max(len(storage), 1):
        raise NotData("a tensor is larger than its numbers")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


# -- any pickle --------------------------------------------------------------------------------------------


class Recorded:
    """What a pickle wanted to make, and was not made: `name` is the class or function, `args` its arguments.

    `state` is what the object was to be filled with, `entries` what was put or appended into it.
    """

    name = ""
    args: tuple[Any, ...]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Recorded":
        one = super().__new__(cls)
        one.args = args
        one.state, one.entries = None, []
        return one

    def __init__(self, *args: Any, **kwargs: Any):
        self.state: Any
        self.entries: list[Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries.append((key, value))

    def append(self, value: Any) -> None:
        self.entries.append(value)

    def extend(self, values: Any) -> None:
        self.entries.extend(values)

    def __call__(self, *args: Any, **kwargs: Any) -> "Recorded":
        """A function that would have been made by the pickle, and is called by it."""
        return _called("", args)


def _kind(name: str) -> type[Recorded]:
    return type("Recorded", (Recorded,), {"name": name})


def _called(name: str, args: tuple[Any, ...]) -> Recorded:
    return _kind(name)(*args)


class _Recorder(_Unpickler):
    def find_class(self, module: str, name: str) -> type[Recorded]:
        return _kind(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Recorded:
        return _called("persistent", (pid,))


def recorded(data: bytes) -> Any:
    """What a pickle describes: plain containers and numbers, and `Recorded` in place of all else.

    Raises:
        NotData: it is no whole pickle.
    """
    try:
        return _Recorder(io.BytesIO(data)).load()
    except Exception as error:
        raise NotData(f"it holds no readable pickle ({type(error).__name__}: {error})") from error


def fields_of(found: Any) -> Mapping[str, Any]:
    """The attributes that a recorded object was to get; {} if it was to get none."""
    state = found.state if isinstance(found, Recorded) else None
    if isinstance(state, tuple):  # of an object with slots: (attributes, slots)
        merged: dict[str, Any] = {}
        for part in state:
            merged |= part if isinstance(part, dict) else {}
        return merged
    return state if isinstance(state, dict) else {}


def array_of(found: Any) -> np.ndarray:
    """The array of floats that a recorded NumPy or JAX array was to become.

    Raises:
        NotData: it is none.
    """
    if isinstance(found, Recorded) and found.name.endswith("array._reconstruct_array"):  # of JAX
        function, args, state, *_ = found.args
        inner = _called(function.name if isinstance(function, type) else "", tuple(args))
        inner.state = state
        return array_of(inner)
    name = found.name if isinstance(found, Recorded) else ""
    try:
        if name.endswith("multiarray._reconstruct"):
            _, shape, dtype, fortran, raw = found.state
        elif name.endswith("numeric._frombuffer"):
            raw, dtype, shape, order = found.args
            fortran = order == "F"
        else:
            raise NotData("it has something else where an array should be")
        big = dtype.state is not None and dtype.state[1] == ">"
        flat = np.frombuffer(raw, {"f4": "<f4", "f8": "<f8", "f2": "<f2"}[dtype.args[0]])
        return (flat.byteswap() if big else flat).reshape(shape, order="F" if fortran else "C").copy()
    except NotData:
        raise
    except Exception as error:
        raise NotData(f"it has an array that is not of plain floats ({error})") from error
