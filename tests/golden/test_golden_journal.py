# SPDX-License-Identifier: Apache-2.0
"""A journal of format 1, written once by `tools/make_golden_journal.py` and never again, is read as it was meant.

It is older than sealed records. In the place of a companion it holds the words "a companion", beside a record that has
none: no writer has ever written that, and since companions have a meaning a reader says so, and reads all the rest.

The second half reads it without a line of this package's format, tree or note code: the bytes are what the
documentation says they are, and not only what the reader happens to accept.
"""

import base64
import json
import struct
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from iap_authz.adapters.journal.reading import load_place, load_segments
from iap_authz.records.evidence import check_evidence, parse_evidence, prove_record, render_evidence
from iap_authz.records.findings import Finding, Kind
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.record import parse_record
from tools.make_golden_journal import build, segments_of_leaves

GOLDEN = Path(__file__).resolve().parent / "journal-v1"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
FOLDER = GOLDEN / EXPECTED["writer"]

WRITER = "2d70204d1a412912a9dfbaf6d11eb1de21b6813d43353ffebcfe1d37188cdc21"
ROOT = "0beaa7eb0d4cbd5703f574c5909c0caf3912b8ea2a60c4cf83085f449ab13d91"
SEGMENTS_SHA256 = "fdfcd6cdbed2411470e85970584a7828ab505ec4db488f29d73eb8e0648b1222"
"""Pinned here as well: the files beside this one cannot be replaced together with what is expected of them."""

NO_COMPANION = Finding(
    kind=Kind.INVALID,
    segment="00000000000000000003.segment",
    offset=1245,
    message="record 5: got a companion of a record without a sealed part, want none",
)

BODIES = [
    "writer_started",
    "policy_loaded",
    "decision",
    "decision",
    "outcome",
    "decision",
    "heartbeat",
    "writer_stopped",
]


def test_the_files_are_those_that_were_written() -> None:
    digest = sha256()
    for name, segment in load_segments(FOLDER):
        digest.update(name.encode() + segment)
    assert digest.hexdigest() == SEGMENTS_SHA256
    assert EXPECTED["writer"] == WRITER


def test_what_is_written_today_is_byte_for_byte_what_was_written_then() -> None:
    """Without sealed records the format has not changed, and neither have the records."""
    made: dict[str, bytes] = {}
    build(segments_of_leaves(), made.__setitem__)
    assert made == dict(load_segments(FOLDER))


def test_the_journal_is_read_as_it_was_meant() -> None:
    found = inspect_writer(load_segments(FOLDER), EXPECTED["origin"])
    assert found.findings == (NO_COMPANION,)
    assert dict(load_segments(FOLDER))[NO_COMPANION.segment][NO_COMPANION.offset + 9 :].startswith(b"a companion")
    assert found.writer is not None
    assert (found.writer.hex(), found.checkpoint.decode()) == (WRITER, EXPECTED["checkpoint"])
    assert [leaf.hex() for leaf in found.hashes] == EXPECTED["audit_ids"]
    records = [parse_record(load_place(FOLDER, place)) for place in found.places]
    assert [record.WhichOneof("body") for record in records] == BODIES
    assert records[2].open.decision.facts.identity.subject == "user-2"
    assert records[0].writer_started.predecessor_checkpoint.startswith(EXPECTED["origin"].encode())


def test_each_record_of_it_can_be_proven() -> None:
    found = inspect_writer(load_segments(FOLDER), EXPECTED["origin"])
    for audit_id in EXPECTED["audit_ids"]:
        evidence = prove_record(found, audit_id, read=lambda place: load_place(FOLDER, place))
        assert check_evidence(parse_evidence(render_evidence(evidence)), found.writer).audit_id == audit_id


# ---- without this package


def crc32c(data: bytes) -> int:
    """Bit by bit, from RFC 3720 section 12.1."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + tree_root(leaves[:split]) + tree_root(leaves[split:])).digest()


def test_the_bytes_are_what_the_format_says() -> None:
    leaves: list[bytes] = []
    sizes = []
    key = b""
    for path in sorted(FOLDER.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data) and (length := struct.unpack_from(">I", data, at)[0]):
            crc, kind = struct.unpack_from(">IB", data, at + 4)
            payload = data[at + 9 : at + 9 + length]
            assert crc32c(bytes([kind]) + payload) == crc
            at += 9 + length
            if kind == 1:
                assert payload.startswith(b"iap-authz journal v1\n" + bytes.fromhex(WRITER))
                key = payload[53:85]
                assert sha256(key).hexdigest() == WRITER
            elif kind == 2:
                leaves.append(payload)
            elif kind == 4:
                text, _, signature = payload.rpartition(b"\n\n")
                origin, size, root = text.decode().split("\n")
                assert origin == f"log.example.com/orders/writers/{WRITER}"
                assert int(size) == len(leaves)
                assert base64.b64decode(root) == tree_root(leaves)
                raw = base64.b64decode(signature.split(b" ")[2])
                Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], text + b"\n")
                sizes.append(len(leaves))
        assert data[at:] == bytes(64)
    assert sizes == [2, 3, 6, 7, 8]
    assert tree_root(leaves).hex() == ROOT
