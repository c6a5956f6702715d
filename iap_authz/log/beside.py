# SPDX-License-Identifier: Apache-2.0
"""What stands beside the leaves of a round (rule S2), as its stage holds it until it is discarded (rule S6).

The invariant: what is parsed is what was rendered, in the order of the leaves, each leaf at most once. A companion
stands once, however many leaves it is beside: a person's records of a round share theirs, and only salts differ.

    beside    = u32 count || count x (u16 length || companion) || u32 count || count x place
    place     = u32 offset of its entry in the stage || u32 number of its companion || salt (32)

Numbers are big-endian and count from 0. A round with nothing beside its leaves has no bytes of it. What a companion
says is not looked at here: it was checked against its leaf when it was taken in.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - its name says nothing

from iap_authz.errors import Malformed
from iap_authz.records.seal import SALT_BYTES
from iap_authz.tlog.hashing import LeafIndex

Beside = tuple[int, bytes]
"""The offset of a leaf in what it came with, and what stands beside it: salt || companion."""

_U16, _U32, _PLACE = Struct(">H"), Struct(">I"), Struct(f">II{SALT_BYTES}s")


def render_besides(besides: Sequence[Beside]) -> bytes:
    """The bytes of what stands beside entries, whose offsets rise."""
    if not besides:
        return b""
    numbers: dict[bytes, int] = {}
    places = [
        _PLACE.pack(offset, numbers.setdefault(beside[SALT_BYTES:], len(numbers)), beside[:SALT_BYTES])
        for offset, beside in besides
    ]
    companions = [_U16.pack(len(one)) + one for one in numbers]
    return b"".join([_U32.pack(len(numbers)), *companions, _U32.pack(len(places)), *places])


def parse_besides(data: bytes, *, entries: int) -> tuple[Beside, ...]:
    """What stands beside the `entries` of a stage. Raises Malformed."""
    if not data:
        return ()
    try:
        companions, at = _parse_companions(data)
        (count,) = _U32.unpack_from(data, at)
        places = data[at + _U32.size :]
        if len(places) != count * _PLACE.size:
            raise Malformed(f"got {len(places)} bytes of what is beside entries, want {count} of {_PLACE.size}")
        besides = tuple((offset, salt + companions[number]) for offset, number, salt in _PLACE.iter_unpack(places))
    except (StructError, IndexError):
        raise Malformed(f"got {len(data)} bytes of what is beside entries, which end too early") from None
    offsets = [offset for offset, _ in besides]
    if offsets != sorted(set(offsets)) or not offsets or offsets[-1] >= entries:
        raise Malformed(f"got {count} places beside {entries} entries, want rising ones below that")
    return besides


def _parse_companions(data: bytes) -> tuple[list[bytes], int]:
    """The companions, and where what follows them starts."""
    companions, (count,), at = [], _U32.unpack_from(data, 0), _U32.size
    for _ in range(count):
        (length,) = _U16.unpack_from(data, at)
        at += _U16.size + length
        companions.append(data[at - length : at])
    if at > len(data):
        raise IndexError(at)
    return companions, at


def shifted(besides: Iterable[Beside], by: int) -> Iterator[Beside]:
    """The same, of leaves that begin at `by` in what they are put into."""
    return ((by + offset, beside) for offset, beside in besides)


def at_leaves(besides: Iterable[Beside], first: int) -> Iterator[tuple[LeafIndex, bytes]]:
    """The same, by leaf index; the first entry is leaf `first`."""
    return ((LeafIndex(first + offset), beside) for offset, beside in besides)
