"""Reads the plainest form of HDF5, in which shards of episodes are written, from files that nobody trusts.

HDF5's own library follows what a file says, to other files (external links and storage, virtual datasets) and to
objects in memory; some damaged files it reads for ever. Here a file is bytes: whatever is
not a dataset of plain numbers in the file itself, or a text as an attribute, is refused, in bounded time.

This is the part of the specification (version 3.0 of the file format) that `h5py.File(…, libver="earliest")` writes:
superblock 0, object headers 1, one group with a symbol table, contiguous datasets, texts in the global heap.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from collectiverl.artifacts.files import check_regular

MAGIC = (
    b"\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08"  # and versions 0, and addresses and lengths of 8 bytes
)
NOWHERE = 2**64 - 1  # the address of what has none
MOST_OBJECTS, MOST_MESSAGES, MOST_AXES = 32, 64, 4
# kinds of messages in an object header
NIL, SPACE, TYPE, OLD_FILL, FILL, LAYOUT, COMMENT, ATTRIBUTE, MORE, GROUP, TIME = (
    *(0x00, 0x01, 0x03, 0x04, 0x05, 0x08, 0x0D, 0x0C, 0x10, 0x11, 0x12),
)
WITHOUT_EFFECT = (NIL, OLD_FILL, FILL, COMMENT, TIME)
CONTIGUOUS = 1  # class of a layout
# class, bits that say signedness and places, size, and properties, of a datatype: these are all
NUMBERS = {
    (1, 0x001F20, 4, struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)): np.dtype("<f4"),
    (1, 0x003F20, 8, struct.pack("<HHBBBBI", 0, 64, 52, 11, 0, 52, 1023)): np.dtype("<f8"),
    (0, 0x000008, 8, struct.pack("<HH", 0, 64)): np.dtype("<i8"),
}
ENUM, BOOL_MEMBERS, BYTE = 8, (b"FALSE", b"TRUE"), struct.pack("<I", 1)  # the size of its numbers


class Place(NamedTuple):
    """Where in the file a dataset lies."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int | None  # None: it is empty, and lies nowhere


class NotPlain(ValueError):
    """A file is damaged, or no plain HDF5."""


def read(path: Path) -> tuple[dict[str, Place], dict[str, str]]:
    """The datasets and the attributes of a file, by name.

    Raises:
        NotPlain: it has something else, or what it says makes no sense.
        OSError: it cannot be read.
    """
    if not check_regular(path):
        raise NotPlain("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _File(data).read()


class _File:
    def __init__(self, data: mmap.mmap):
        self.data, self.size = data, len(data)

    def read(self) -> tuple[dict[str, Place], dict[str, str]]:
        if self.take(0, len(MAGIC)) != MAGIC:
            raise NotPlain("it does not begin as such a file")
        base, _, end, _, _, header, cached = self.unpack("<QQQQQQI", 24)
        if base or end != self.size or cached not in (0, 1):
            raise NotPlain("it is shorter or longer than it says")
        group, attributes = None, {}
        for kind, body in self.messages(header):
            if kind == GROUP:
                group = body
            elif kind == ATTRIBUTE:
                name, text = self.attribute(body)
                attributes[name] = text
            elif kind not in WITHOUT_EFFECT:
                raise NotPlain("its group is of another form")
        if group is None or len(group) != 16:
            raise NotPlain("it has no group")
        tree, heap = struct.unpack("<QQ", group)
        return {name: self.dataset(at) for name, at in self.links(tree, heap)}, attributes

    # -- bytes ---------------------------------------------------------------------------------------------

    def take(self, at: int, length: int) -> bytes:
        if at < 0 or length < 0 or at + length > self.size:
            raise NotPlain("it leads out of itself")
        return self.data[at : at + length]

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(at, struct.calcsize(form)))

    def signed(self, at: int, signature: bytes, version: int) -> None:
        if self.take(at, 5) != signature + bytes([version]):
            raise NotPlain(f"it has no {signature.decode()} where it should")

    # -- objects -------------------------------------------------------------------------------------------

    def messages(self, header: int) -> Iterator[tuple[int, bytes]]:
        """The messages of an object header, without those that only say where it goes on."""
        version, count, length = self.unpack("<BxHxxxxI", header)
        if version != 1 or count > MOST_MESSAGES:
            raise NotPlain("an object is of another form")
        blocks, seen = [(header + 16, length)], 0
        while blocks:
            at, left = blocks.pop(0)
            while left >= 8 and seen < count:
                kind, size, flags = self.unpack("<HHB", at)
                if size > left - 8 or flags & 2:  # a message that is shared lies elsewhere
                    raise NotPlain("a message is longer than its object, or lies elsewhere")
                body = self.take(at + 8, size)
                at, left, seen = at + 8 + size, left - 8 - size, seen + 1
                if kind == MORE:
                    blocks.append(struct.unpack("<QQ", body[:16].ljust(16, b"\0")))
                else:
                    yield kind, body

    def links(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Names of all objects of the group, and the addresses of their headers."""
        self.signed(tree, b"TREE", 0)  # of a group
        level, used = self.unpack("<BH", tree + 5)
        self.signed(heap, b"HEAP", 0)
        size, _, names = self.unpack("<QQQ", heap + 8)
        if level or used > MOST_OBJECTS:
            raise NotPlain("it has too many objects")
        for i in range(used):
            [node] = self.unpack("<Q", tree + 24 + 8 + 16 * i)
            self.signed(node, b"SNOD", 1)
            [count] = self.unpack("<H", node + 6)
            if count > MOST_OBJECTS:
                raise NotPlain("it has too many objects")
            for j in range(count):
                name, at, kind = self.unpack("<QQI", node + 8 + 40 * j)
                if kind:
                    raise NotPlain("it has a link, or a group in its group")
                yield self.name(names, size, name), at

    def name(self, names: int, size: int, at: int) -> str:
        if at >= size:
            raise NotPlain("an object has no name")
        found, end, _ = self.take(names + at, min(size - at, 64)).partition(b"\0")
        if not end or not found.isascii():
            raise NotPlain("an object has no name that can be read")
        return found.decode()

    def dataset(self, header: int) -> Place:
        found: dict[int, bytes] = {}
        for kind, body in self.messages(header):
            if kind in found or kind not in (SPACE, TYPE, LAYOUT, *WITHOUT_EFFECT):
                raise NotPlain("a dataset is of another form: filters, links and external files are not read")
            if kind not in WITHOUT_EFFECT:
                found[kind] = body
        if len(found) != 3:
            raise NotPlain("an object is no dataset")
        shape, dtype = _shape(found[SPACE]), _dtype(found[TYPE])
        if found[LAYOUT][:2] not in (bytes([3, CONTIGUOUS]), bytes([4, CONTIGUOUS])):
            raise NotPlain("a dataset does not lie in one piece")
        offset, length = struct.unpack("<QQ", found[LAYOUT][2:18].ljust(16, b"\0"))
        if length != math.prod(shape) * dtype.itemsize:
            raise NotPlain("the size of a dataset does not fit its shape")
        if not length:
            return Place(dtype, shape, None)
        if offset == NOWHERE or offset + length > self.size:
            raise NotPlain("a dataset does not lie in the file")
        return Place(dtype, shape, offset)

    # -- attributes ----------------------------------------------------------------------------------------

    def attribute(self, body: bytes) -> tuple[str, str]:
        """Name and text of an attribute."""
        version, _, *sizes = struct.unpack("<BBHHH", body[:8].ljust(8, b"\0"))
        if version not in (1, 3):
            raise NotPlain("an attribute is of another form")
        at, parts = 8 + (version == 3), []  # which has a byte for the alphabet
        for size in sizes:
            parts.append(body[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size
        name, kind, space = parts
        if kind[:2] not in (b"\x19\x01", b"\x39\x01", b"\x49\x01") or _shape(space) != ():
            raise NotPlain("an attribute is no text")
        length, collection, index = struct.unpack("<IQI", body[at : at + 16].ljust(16, b"\0"))
        return name.partition(b"\0")[0].decode(), self.text(length, collection, index).decode()

    def text(self, length: int, collection: int, index: int) -> bytes:
        """An object of a collection of the global heap."""
        if not length:
            return b""
        self.signed(collection, b"GCOL", 1)
        [size] = self.unpack("<Q", collection + 8)
        at, end = collection + 16, collection + size
        for _ in range(MOST_OBJECTS):
            number, found = self.unpack("<HxxxxxxQ", at)
            if at + 16 + found > end or not number:
                break
            if number == index and found >= length:
                return self.take(at + 16, length)
            at += 16 + -(-found // 8) * 8
        raise NotPlain("an attribute has no text")


def _shape(message: bytes) -> tuple[int, ...]:
    """Of a dataspace."""
    version, axes, flags = message[:3].ljust(3, b"\0")
    first = {1: 8, 2: 4}.get(version, 0)
    if not first or axes > MOST_AXES or flags & ~1 or len(message) < first + 8 * axes:
        raise NotPlain("a dataset has another kind of shape")
    return struct.unpack(f"<{axes}Q", message[first : first + 8 * axes])


def _dtype(message: bytes) -> np.dtype:
    """Of a datatype: float32, float64, int64 or bool."""
    if len(message) < 8:
        raise NotPlain("a dataset has no type")
    kind, bits, size = (
        message[0] & 0x0F,
        int.from_bytes(message[1:4], "little"),
        int.from_bytes(message[4:8], "little"),
    )
    members = [name for name in message[20:].split(b"\0") if name][:2]
    if (kind, bits, size) == (ENUM, 2, 1) and message[12:16] == BYTE and members == [*BOOL_MEMBERS]:
        return np.dtype(bool)  # as h5py writes it
    for (a_kind, a_bits, a_size, properties), dtype in NUMBERS.items():
        if (kind, bits, size) == (a_kind, a_bits, a_size) and message[8 : 8 + len(properties)] == properties:
            return dtype
    raise NotPlain("a dataset is not of plain numbers")
