# SPDX-License-Identifier: Apache-2.0
"""The worked bytes of docs/formats.md, computed again from the page: a reader who does as it says gets the same."""

import json
import re
import struct
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from iap_authz.errors import BadProof, BadSignature, IapError, Malformed
from iap_authz.model.ids import WriterId
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile
from iap_authz.records.consistency_file import check_consistency_file, parse_consistency_file
from iap_authz.records.evidence import check_evidence, parse_evidence
from iap_authz.records.journal_format import FrameType, parse_header, read_frames
from iap_authz.records.log_leaves import begin_of, log_id, parse_log_leaf
from iap_authz.records.record import audit_id, parse_record, time_of
from iap_authz.records.started import possession_message, writer_id, writer_origin
from iap_authz.tlog.batch import parse_stage
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.edge import EMPTY_EDGE
from iap_authz.tlog.hashing import EMPTY_ROOT, NodeHash, as_nodes, leaf_hash, leaf_hashes, node_hash, parse_node_hash
from iap_authz.tlog.key_file import PrivateKey, parse_key_file, parse_retired, render_key_file
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.proof import check_range, prove_range
from iap_authz.tlog.proof_file import check_proof_file, parse_proof_file
from iap_authz.tlog.tiles import Tile, render_tile_path
from iap_authz.tlog.tree import CompactRange, Subtree, subtree_root
from tests.repo.pages import DOCS, block, blocks, code, rows_with
from tests.repo.tree import ROOT

PAGE = DOCS / "formats.md"
TEXT = PAGE.read_text()
GOLDEN = ROOT / "tests" / "golden" / "journal-v1"
VALUES = {row["what"]: code(row["value"]) for row in rows_with(PAGE, "what", "value")}
SEGMENTS = sorted(GOLDEN.glob("*/*.segment"))
_CALL = re.compile(r"(leaf|node)\((.*)\)")


def value_of(expression: str) -> bytes:
    """`empty`, `leaf("a")` or `node(x, y)` of such."""
    if expression == "empty":
        return EMPTY_ROOT
    found = _CALL.fullmatch(expression)
    assert found, expression
    if found[1] == "leaf":
        return leaf_hash(found[2].strip('"').encode())
    left, right = found[2].split(", ")
    return node_hash(value_of(left), value_of(right))


def record() -> bytes:
    """The worked record."""
    return bytes.fromhex(block(PAGE, "record"))


def verifier() -> VerifierKey:
    """The worked key of a writer."""
    return VerifierKey.parse(block(PAGE, "verifier-key").strip())


def log_verifier() -> VerifierKey:
    """The worked key of the log, which is that of the worked key file."""
    (key,) = parse_key_file(block(PAGE, "key-file").encode())
    assert key.verifier().render() == block(PAGE, "log-verifier-key").strip()
    return key.verifier()


@pytest.mark.parametrize("row", rows_with(PAGE, "expression", "value"), ids=lambda row: row["expression"])
def test_hashes(row: dict[str, str]) -> None:
    assert value_of(code(row["expression"])).hex() == code(row["value"])


def test_record_and_audit_id() -> None:
    (named,) = re.findall(r"Its audit id: `([0-9a-f]{64})`", TEXT)
    assert sha256(b"\0" + record()).hexdigest() == audit_id(record()) == named
    parsed = parse_record(record())
    assert (parsed.sequence, parsed.writer_stopped.cause) == (7, "sigterm")
    assert parsed.writer.hex() == VALUES["writer id"]
    assert time_of(parsed).isoformat(timespec="milliseconds").replace("+00:00", "Z") in TEXT


def test_the_fields_of_the_record_are_its_bytes() -> None:
    data, at = record(), 0
    for row in rows_with(PAGE, "field", "bytes", "value"):
        found = re.match(r"`([0-9a-f ]+)`(?: and (\d+))?", row["bytes"])
        assert found, row
        head = bytes.fromhex(found[1])
        assert data[at : at + len(head)] == head
        at += len(head) + int(found[2] or 0)
    assert at == len(data)


def test_writer() -> None:
    public_key = bytes.fromhex(VALUES["public key"])
    assert sha256(public_key).hexdigest() == VALUES["writer id"]
    message = block(PAGE, "signed").encode()
    assert message == possession_message(VALUES["log origin"], writer_id(public_key))
    signature = bytes.fromhex(VALUES["possession signature"])
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message + b"\n")


def test_checkpoint() -> None:
    note, key = block(PAGE, "checkpoint").encode(), verifier()
    assert key.public_key.hex() == VALUES["public key"]
    assert key.name == writer_origin(VALUES["log origin"], writer_id(key.public_key))
    assert open_checkpoint(note, key).size == 8
    text, _, line = note.rpartition(b"\n\n")
    signature = b64decode(line.split(b" ")[2])
    assert signature[:4] == sha256(key.name.encode() + b"\n\x01" + key.public_key).digest()[:4]
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature[4:], text + b"\n")
    with pytest.raises(BadSignature):
        open_checkpoint(note.replace(b"\n8\n", b"\n9\n"), key)


def test_segment() -> None:
    segment = SEGMENTS[2].read_bytes()
    rows = rows_with(PAGE, "byte", "length", "crc", "type")
    frames = list(read_frames(segment))
    assert len(rows) == len(frames)
    for row, frame in zip(rows, frames, strict=True):
        length, crc = struct.unpack_from(">II", segment, frame.offset)
        assert (int(row["byte"]), int(row["length"]), code(row["crc"])) == (frame.offset, length, f"{crc:08x}")
        assert row["type"] == f"{frame.type} {FrameType(frame.type).name.lower()}"
    assert len(parse_header(frames[0].payload).before.hashes) == 2
    assert SEGMENTS[2].name == f"{parse_header(frames[0].payload).first:020d}.segment"


def parse_dump(text: str) -> tuple[int, bytes]:
    """Offset and bytes of a hex dump, whose text column must say the same."""
    data = b""
    lines = text.splitlines()
    for line in lines:
        part = bytes.fromhex(line[10:58])
        assert line[60:].strip("|") == "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        assert int(line[:8], 16) == int(lines[0][:8], 16) + len(data)
        data += part
    return int(lines[0][:8], 16), data


def test_dumps() -> None:
    segment = SEGMENTS[2].read_bytes()
    dumps = [parse_dump(each.text) for each in blocks(PAGE) if each.tag == "dump"]
    assert [offset for offset, _ in dumps] == [0, 940]
    for offset, data in dumps:
        assert segment[offset : offset + len(data)] == data
    (frame,) = read_frames(dumps[1][1])
    assert frame.payload == record()


def test_evidence() -> None:
    text = block(PAGE, "evidence")
    report = check_evidence(parse_evidence(text.encode()), WriterId(bytes.fromhex(VALUES["writer id"])))
    assert (report.audit_id, report.sequence, report.logged) == (audit_id(record()), 7, None)
    members = json.loads(text)
    members["writerInclusionProof"].reverse()
    with pytest.raises(BadProof):
        check_evidence(parse_evidence(json.dumps(members).encode()))
    members["index"] = "7"
    with pytest.raises(IapError):
        check_evidence(parse_evidence(json.dumps(members).encode()))


def test_evidence_of_the_log() -> None:
    text, log = block(PAGE, "log-evidence"), log_verifier()
    report = check_evidence(parse_evidence(text.encode()), log=log)
    assert report.audit_id == audit_id(record())
    assert report.logged is not None
    assert report.registered is not None
    assert (report.logged.size, report.logged.index, report.logged.pinned) == (10, 8, True)
    assert (report.registered.index, report.registered.writer.hex()) == (0, VALUES["writer id"])
    members = json.loads(text)
    members["inclusionProof"].reverse()
    with pytest.raises(BadProof):
        check_evidence(parse_evidence(json.dumps(members).encode()), log=log)


def test_the_leaf_that_ends_a_batch() -> None:
    """It follows the registration and the golden records in the tree that the worked evidence is of."""
    leaf = bytes.fromhex(block(PAGE, "writer-checkpoint"))
    body = parse_log_leaf(leaf, origin="log.example.com/orders", index=9, body="writer_checkpoint").writer_checkpoint
    assert (begin_of(body), body.to, body.first_index, list(body.compact_range)) == (0, 8, 1, [])
    assert body.note == block(PAGE, "checkpoint").encode()
    evidence = parse_evidence(block(PAGE, "log-evidence").encode())
    leaves = leaf_hashes([evidence.registration, *golden_records(), leaf])
    assert CompactRange.empty().extend(leaves).root() == open_checkpoint(evidence.checkpoint, log_verifier()).root


def test_consistency_file() -> None:
    text, log = block(PAGE, "consistency").encode(), log_verifier()
    report = check_consistency_file(parse_consistency_file(text), log=log)
    assert (report.old.size, report.new.size, report.pinned) == (1, 10, True)
    evidence = parse_evidence(block(PAGE, "log-evidence").encode())
    assert open_checkpoint(evidence.checkpoint, log) == report.new
    assert report.old.root == leaf_hash(evidence.registration)
    with pytest.raises(Malformed):
        parse_consistency_file(text.replace(b"\n  ", b"\n   "))


def test_policy_bundle() -> None:
    (text,) = [each.text for each in blocks(PAGE) if each.language == "yaml"]
    policy = load_policy([SourceFile(name="p.yaml", content=text.encode())])
    canonical = block(PAGE, "canonical").strip().encode()
    assert policy.canonical == canonical
    assert f"with the digest `{sha256(canonical).hexdigest()}`" in TEXT
    assert policy.digest == sha256(canonical).digest()


@pytest.mark.parametrize("row", rows_with(PAGE, "level", "index", "width", "path"), ids=lambda row: row["path"])
def test_tile_paths(row: dict[str, str]) -> None:
    place = (int(row[column]) for column in ("level", "index", "width"))
    assert render_tile_path(Tile(*place)) == code(row["path"])


def test_proof_file() -> None:
    proof_file = parse_proof_file(block(PAGE, "tlog-proof").encode())
    expected = json.loads((GOLDEN / "expected.json").read_text())
    leaves = leaf_hashes(golden_records())
    assert [leaf.hex() for leaf in leaves] == expected["audit_ids"]
    assert check_proof_file(proof_file, leaves[2], verifier=verifier()).size == 8
    with pytest.raises(BadProof):
        check_proof_file(proof_file, leaves[3], verifier=verifier())


def test_range_proof() -> None:
    leaves = [leaf_hash(bytes([letter])) for letter in b"abcdefg"]
    proof = [parse_node_hash(bytes.fromhex(line)) for line in block(PAGE, "range-proof").split()]
    (root,) = (NodeHash(bytes.fromhex(text)) for text in re.findall(r"the root is `([0-9a-f]{64})`", TEXT))
    assert CompactRange.empty().extend(leaves).root() == root

    def read(subtrees: Sequence[Subtree]) -> list[NodeHash]:
        nodes = as_nodes(leaves)
        return [subtree_root(nodes[one.index << one.level : one.index + 1 << one.level]) for one in subtrees]

    assert list(prove_range(2, 3, size=7, read=read)) == proof
    check_range(leaves[2:5], 2, size=7, proof=proof, root=root)
    with pytest.raises(BadProof):
        check_range(leaves[2:5], 1, size=7, proof=proof, root=root)


def golden_records() -> list[bytes]:
    """The records of the golden journal, in order."""
    frames = [frame for path in SEGMENTS for frame in read_frames(path.read_bytes())]
    return [frame.payload for frame in frames if frame.type == FrameType.RECORD]


def test_log_id() -> None:
    assert log_id("log.example.com/orders").hex() == block(PAGE, "log-id").strip()


def test_stage() -> None:
    stage = parse_stage(bytes.fromhex(block(PAGE, "stage")))
    assert (stage.edge, stage.root, stage.entries) == (EMPTY_EDGE, EMPTY_ROOT, (b"a", b"bc"))


def test_key_file() -> None:
    content = block(PAGE, "key-file").encode()
    ((key,), (retired,)) = parse_key_file(content), parse_retired(content)
    assert (key.name, key.seed) == ("log.example.com/orders", bytes(range(32)))
    assert retired == PrivateKey(name=key.name, seed=bytes(range(32, 64))).verifier()
    assert render_key_file([key], retired=[retired]) == content
