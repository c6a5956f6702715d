# SPDX-License-Identifier: Apache-2.0
"""Writes `tests/golden/journal-v1/`: a small journal with fixed keys, ids and times, and what it must be read as.

**Never to be run again over the files that are there.** They are bytes that a version of this package has written, and
every later version must read them: a reader that fails on them is wrong, whatever it thinks of the format. So the
script refuses to overwrite. A new format gets a new directory beside the old one.

    python -m tools.make_golden_journal tests/golden/journal-v1

One writer with its predecessor's note, three segments of a few KiB: decisions, service records with and without a
personal part, a companion frame and a frame of an ignorable type. It was checked by `iap_authz.records.inspect`, and
roots and signatures independently in `tests/golden/test_golden_journal.py`, which has a tree and a checksum of its own.
"""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.model.decision import Decision, Shadow
from iap_authz.model.ids import PolicyDigest, Sequence
from iap_authz.model.reason import Reason, Verdict
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import FrameType, SegmentHeader, render_frame, render_header, segment_name
from iap_authz.records.record import audit_id, decision_record, service_record
from iap_authz.records.started import Predecessor
from iap_authz.records.writerlog import start_writer_log
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, FixedSigner, record_id, start_record

SIGNER, BEFORE = FixedSigner("golden"), FixedSigner("golden, the one before")
UNUSED_BYTES = 64
IGNORABLE_TYPE = 200


def facts(subject: str) -> facts_pb2.Facts:
    """What was known of one request."""
    known = facts_pb2.Facts()
    known.identity.state = facts_pb2.PRESENT
    known.identity.subject = subject
    known.identity.groups.extend(["eng", "oncall"])
    known.identity.claims["team"] = "orders"
    known.device.state = facts_pb2.PRESENT
    known.device.managed = True
    known.location.state = facts_pb2.PRESENT
    known.location.country = "DE"
    known.request.state = facts_pb2.PRESENT
    known.request.method, known.request.host, known.request.path = "GET", "orders.example.com", "/api/orders/1"
    known.now.seconds = int(START.timestamp())
    return known


def decided(sequence: int, verdict: Verdict, reason: Reason) -> bytes:
    """One decision."""
    decision = Decision(
        verdict=verdict,
        reason=reason,
        rule="engineers",
        route="orders",
        shadow=(Shadow(rule="tighter", verdict=Verdict.DENY),),
        policy_digest=PolicyDigest(bytes(range(32))),
    )
    return decision_record(
        decision,
        facts(f"user-{sequence}"),
        writer=SIGNER.writer,
        sequence=Sequence(sequence),
        record_id=record_id(sequence),
        time=START + timedelta(milliseconds=sequence),
        spent=timedelta(microseconds=310),
        http_status=200 if verdict is Verdict.ALLOW else 403,
        seal=None,
    )


def said(sequence: int, body: object, personal: object = None) -> bytes:
    """One record of the service."""
    return service_record(
        body,  # type: ignore[arg-type]
        writer=SIGNER.writer,
        sequence=Sequence(sequence),
        record_id=record_id(sequence),
        time=START + timedelta(milliseconds=sequence),
        personal=None if personal is None else (personal, None),  # type: ignore[arg-type]
    )


def segments_of_leaves() -> list[list[list[bytes]]]:
    """Leaves by group by segment."""
    note = start_writer_log(ORIGIN, BEFORE.public_key, sign=BEFORE.sign).commit([leaf_hash(b"the last")])[1]
    start = start_record(SIGNER, predecessor=Predecessor(writer=BEFORE.writer, checkpoint=note))
    loaded = record_pb2.PolicyLoaded(digest=bytes(range(32)), name="orders", source="orders.yaml", routes=1)
    outcome = record_pb2.Outcome(kind=record_pb2.Outcome.REQUEST_FINISHED, http_status=200, decision=bytes(32))
    return [
        [[start, said(1, loaded)], [decided(2, Verdict.ALLOW, Reason.ALLOWED)]],
        [
            [
                decided(3, Verdict.DENY, Reason.DENIED_BY_RULE),
                said(4, outcome, record_pb2.OutcomePersonal(upstream_address="192.0.2.7:443")),
                decided(5, Verdict.UNDECIDED, Reason.SOURCE_STALE),
            ]
        ],
        [[said(6, record_pb2.Heartbeat(journal_bytes=4096))], [said(7, record_pb2.WriterStopped(cause="sigterm"))]],
    ]


def build(segments: list[list[list[bytes]]], write: Callable[[str, bytes], object]) -> None:
    """Write the segments, byte for byte as the format says."""
    log, note = start_writer_log(ORIGIN, SIGNER.public_key, sign=SIGNER.sign), b""
    for number, groups in enumerate(segments):
        header = SegmentHeader(public_key=SIGNER.public_key, number=number, before=log.tree, checkpoint=note)
        name, frames = segment_name(log.size), [render_frame(FrameType.HEADER, render_header(header))]
        for leaves in groups:
            log, note = log.commit([leaf_hash(leaf) for leaf in leaves])
            frames += [render_frame(FrameType.RECORD, leaf) for leaf in leaves]
            if number == 1:
                frames.append(render_frame(FrameType.COMPANION, b"a companion"))
                frames.append(render_frame(IGNORABLE_TYPE, b"of a later version"))  # type: ignore[arg-type]
            frames.append(render_frame(FrameType.CHECKPOINT, note))
        write(name, b"".join(frames) + bytes(UNUSED_BYTES))


def main() -> None:
    """Make the directory that the argument names; it must not be there."""
    directory = Path(sys.argv[1])
    folder = directory / SIGNER.writer.hex()
    folder.mkdir(parents=True, exist_ok=False)
    leaves = segments_of_leaves()
    build(leaves, lambda name, segment: (folder / name).write_bytes(segment))
    found = inspect_writer(((path.name, path.read_bytes()) for path in sorted(folder.iterdir())), ORIGIN)
    if found.findings:
        raise SystemExit(f"not whole: {found.findings[0]}")
    expected = {
        "origin": ORIGIN,
        "writer": SIGNER.writer.hex(),
        "checkpoint": found.checkpoint.decode(),
        "audit_ids": [audit_id(leaf) for segment in leaves for group in segment for leaf in group],
    }
    (directory / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
    print(f"{found.size} records in {folder}")


if __name__ == "__main__":
    main()
