# SPDX-License-Identifier: Apache-2.0
r"""Which byte of a bundle is wrong, where the tree says what its entries hash to.

The invariant: a change that `mend_bundle` names makes the entry it is in hash to its leaf. It is the byte that was
written: another one with that hash would be a collision of SHA-256.

    bundle   u16 length | entry | u16 length | entry | ...        leaves  h0 h1 ...    from the tile of level 0

    an entry does not hash to its leaf
        1  another length does: each of the 2 * 255 values that one wrong byte may have had
        2  another byte does: each of the length * 255 changes; about 0.1 s for 700 bytes
        3  nothing does: the entry is damaged; go on behind it if the entry there hashes to its leaf, else stop

Entries over 4 KiB are searched for a single wrong bit only, which is what disks and memory do; all bytes of the largest
one would take minutes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from iap_authz.records.log_inspect_findings import LogFinding, damaged, flipped
from iap_authz.tlog.hashing import LeafHash, leaf_hash

ALL_BYTES_MAX_BYTES = 4_096
"""Up to here every value of every byte is tried: about two seconds, and the work grows with the square."""

_LENGTH_BYTES = 2
_BITS = tuple(1 << bit for bit in range(8))
_BYTES = tuple(range(1, 256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A bundle against its leaves. `entries` are as they were written; None where that is not known.

    `content` are the bytes that were written, if all of them are known.
    """

    entries: tuple[bytes | None, ...]
    content: bytes | None
    findings: tuple[LogFinding, ...]


def mend_bundle(path: str, content: bytes, *, leaves: Sequence[LeafHash]) -> Mended:
    """Compare the bundle at `path` with the leaves it must hash to, entry by entry, and find what is wrong."""
    mender = _Mender(path, content)
    entries: list[bytes | None] = []
    at, whole = 0, True
    for position, want in enumerate(leaves):
        entry = _entry_at(mender.content, at)
        if entry is None or leaf_hash(entry) != want:
            entry = mender.mend(at, position=position, want=want)
        entries.append(entry)
        if entry is not None:
            at += _LENGTH_BYTES + len(entry)
            continue
        whole = False
        at = _next_good(mender.content, at, leaves[position + 1 : position + 2])
        if at < 0:
            entries += [None] * (len(leaves) - position - 1)
            break
    if whole and at != len(content):
        mender.findings.append(damaged(path, at, f"got {len(content) - at} bytes after the last entry, want none"))
    return Mended(
        entries=tuple(entries),
        content=mender.content[:at] if whole else None,
        findings=tuple(mender.findings),
    )


def _entry_at(content: bytes, at: int) -> bytes | None:
    """The entry whose length stands at `at`; None if it is not all there."""
    start = at + _LENGTH_BYTES
    end = start + int.from_bytes(content[at:start])
    return content[start:end] if start < end <= len(content) else None


def _next_good(content: bytes, at: int, leaves: Sequence[LeafHash]) -> int:
    """Where the entry after a damaged one starts, if its length can be believed; -1 if not."""
    end = at + _LENGTH_BYTES + int.from_bytes(content[at : at + _LENGTH_BYTES])
    after = _entry_at(content, end)
    if not leaves:
        return end
    return end if after is not None and leaf_hash(after) == leaves[0] else -1


class _Mender:
    """The bytes of a bundle, corrected as far as it was read."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path = path
        self.content = content
        self.findings: list[LogFinding] = []

    def mend(self, at: int, *, position: int, want: LeafHash) -> bytes | None:
        """The entry at `at` as it was written, if one byte explains what it is now."""
        for offset, value in self._changes(at, want):
            self.findings.append(flipped(self.path, offset, got=self.content[offset], want=value))
            self.content = self.content[:offset] + bytes([value]) + self.content[offset + 1 :]
            return _entry_at(self.content, at)
        end = at + _LENGTH_BYTES + int.from_bytes(self.content[at : at + _LENGTH_BYTES])
        cut = ", cut by the end of the file" if end > len(self.content) else ""
        message = f"entry {position}, to byte {end}{cut}, does not hash to its leaf {want.hex()}"
        self.findings.append(damaged(self.path, at, message))
        return None

    def _changes(self, at: int, want: LeafHash) -> Iterator[tuple[int, int]]:
        """Each change of one byte after which the entry at `at` hashes to `want`: offset and value."""
        length = self.content[at : at + _LENGTH_BYTES]
        for position in range(len(length)):
            for flip in _BYTES:
                value = length[position] ^ flip
                other = int.from_bytes(length[:position] + bytes([value]) + length[position + 1 :])
                start = at + _LENGTH_BYTES
                entry = self.content[start : start + other]
                if len(entry) == other and leaf_hash(entry) == want:
                    yield at + position, value
        entry = _entry_at(self.content, at) or b""
        for position, value in find_change(entry, want):
            yield at + _LENGTH_BYTES + position, value


def find_change(entry: bytes, want: LeafHash) -> Iterator[tuple[int, int]]:
    """Each change of one byte of `entry` after which it hashes to `want`: position and value."""
    flips = _BYTES if len(entry) <= ALL_BYTES_MAX_BYTES else _BITS
    before = sha256(b"\x00")
    for position, byte in enumerate(entry):
        rest = entry[position + 1 :]
        for flip in flips:
            hasher = before.copy()
            hasher.update(bytes([byte ^ flip]) + rest)
            if hasher.digest() == want:
                yield position, byte ^ flip
        before.update(entry[position : position + 1])
