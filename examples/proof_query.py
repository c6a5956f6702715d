# SPDX-License-Identifier: Apache-2.0
"""Check an audit log with nothing of ours: python examples/proof_query.py ADDRESS VERIFIER_KEY AUDIT_ID OLD_SIZE."""

import base64
import hashlib
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from grpc_tools import protoc


def ask(name: str, **fields: int | bytes) -> Any:
    call: Any = channel.unary_unary(f"/iap.audit.v1.AuditProofs/Get{name}", None, pb[f"Get{name}Response"].FromString)
    return call(pb[f"Get{name}Request"](**fields).SerializeToString(), timeout=10)


def open_note(note: bytes) -> tuple[int, bytes]:  # C2SP signed-note, tlog-checkpoint: the size and root that are signed
    text, lines = note.decode().rsplit("\n\n", 1)
    name, key_id, key = sys.argv[2].split("+", 2)
    (line,) = [base64.b64decode(line.split(" ")[2]) for line in lines.splitlines() if line.startswith(f"— {name} ")]
    Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(line[4:], f"{text}\n".encode())
    origin, size, root = text.split("\n")
    return (int(size), base64.b64decode(root)) if (origin, line[:4].hex()) == (name, key_id) else sys.exit("bad note")


def climb(at: int, last: int, proof: list[bytes], roots: list[bytes]) -> list[bytes]:  # RFC 9162, 2.1.3.2 and 2.1.4.2
    for node in proof:
        if last == 0 or len(node) != hashlib.sha256().digest_size:
            return []
        left = at & 1 or at == last  # of us; the old tree of a consistency proof grows with such nodes only
        pairs = [(node, root) for root in roots] if left else [(roots[-1], node)]
        roots = roots[: -len(pairs)] + [hashlib.sha256(b"\1" + one + two).digest() for one, two in pairs]
        levels = max((at & -at).bit_length(), 1) if left else 1
        at, last = at >> levels, last >> levels
    return roots if last == 0 else []


proto, well_known = Path(__file__).parents[1] / "proto", Path(protoc.__file__).parent / "_proto"
with tempfile.TemporaryDirectory() as folder, grpc.insecure_channel(sys.argv[1]) as channel:
    protoc.main(["", f"-I{proto}", f"-I{well_known}", f"--python_out={folder}", *map(str, proto.rglob("*.proto"))])
    sys.path.insert(0, folder)
    pb = vars(importlib.import_module("iap.audit.v1.log_pb2"))
    leaf, old = bytes.fromhex(sys.argv[3]), int(sys.argv[4])
    size, root = open_note(ask("Checkpoint").checkpoint)
    found = ask("InclusionProof", leaf_hash=leaf, tree_size=size)
    if found.index >= size or climb(found.index, size - 1, found.proof, [leaf]) != [root]:
        sys.exit("the inclusion proof does not hold")
    print(f"included at index {found.index} of {size}")
    old_size, old_root = open_note(ask("ConsistencyProof", old_size=old, new_size=old).checkpoint)
    path = [old_root] * (old & (old - 1) == 0) + list(ask("ConsistencyProof", old_size=old, new_size=size).proof)
    low = (old & -old).bit_length() - 1
    roots = climb(old - 1 >> low, size - 1 >> low, path[1:], path[:1] * 2) if old < size else [root, old_root]
    if old_size != old or roots != [old_root, root]:
        sys.exit("the consistency proof does not hold")
    print(f"{size} is consistent with {old}")
