# SPDX-License-Identifier: Apache-2.0
"""What the audit log's part of the report looks like. As in `show`, nothing is computed here."""

from collections.abc import Iterator, Mapping

from iap_authz.demo.forgotten import AUTHORITY, Forgotten
from iap_authz.demo.logged import LogReport
from iap_authz.demo.tampered import Fork, StoreFlip
from iap_authz.tlog.checkpoint import SignedCheckpoint

PREFIX_CHARS = 12
"""Enough to tell hashes apart."""


def log_lines(report: LogReport) -> Iterator[str]:
    """The log as it grew, and what was proved of it."""
    shipped, restart, ended, proven = report.shipped, report.restart, report.ended, report.proven
    last = proven.last.checkpoint
    yield f"{last.origin}: {last.size} leaves, root {last.root.hex()}"
    yield f"all {shipped.journaled} records of the journal in it by leaf {shipped.tree_size}"
    yield (
        f"killed at {restart.size_before} leaves; a request meanwhile: {restart.seen.reply.status} after "
        f"{restart.seconds * 1000:.0f} ms; started again, its record is leaf {restart.index}"
    )
    yield (
        f"the sidecar ended: all {ended.journaled} records of its journal are in the log, once and in order; "
        f"its end: {proven.tail.value}"
    )
    yield (
        f"{proven.records} records proved by audit id, both logged and made by their writer; {proven.receipts} receipts"
        f" verified; {proven.leaves} leaves proved in their place"
    )
    yield (
        f"from {proven.first.checkpoint.size} leaves to {last.size} nothing was changed or forgotten: a consistency"
        f" proof of {proven.consistency_hashes} hashes"
    )


def forgotten_lines(forgotten: Forgotten) -> Iterator[str]:
    """The person that an investigator could read, and nobody can any more."""
    yield f"{forgotten.subject}: this name is in no file of journal and log"
    yield (
        f"  an investigator opened record {forgotten.audit_id[:PREFIX_CHARS]}: it is of {forgotten.opened_subject};"
        f" leaf {forgotten.before.log_read} says that it was read"
    )
    yield (
        f"  erased: {forgotten.erasure.records} records under {AUTHORITY}, leaf {forgotten.erasure.erasure_index};"
        f" the same record is {forgotten.after.outcome} now, and still proved"
    )


def flip_lines(flip: StoreFlip) -> Iterator[str]:
    """The store, and the copy with the wrong bit."""
    yield f"{flip.before.size} leaves recomputed from the log's files, {len(flip.before.findings)} faults."
    change = f"0x{flip.was:02x} to 0x{flip.became:02x}"
    yield f"One bit changed in a copy: byte {flip.offset} of {flip.path}, {change}."


def fork_lines(fork: Fork) -> Iterator[str]:
    """What came of the log whose past was thrown away."""
    yield "The log's history thrown away, the same name and key in its place:"
    yield f"  the log froze: {fork.because}" if fork.because else "  the log did not freeze"
    kinds = ", ".join(fork.alerts) or "nothing"
    yield f"  sidecar {fork.writer[:PREFIX_CHARS]} recorded: {kinds}"


def log_document(report: LogReport, *, forgotten: Forgotten, flip: StoreFlip, fork: Fork) -> Mapping[str, object]:
    """The same as one JSON object."""
    restart, proven = report.restart, report.proven
    return {
        "shipped": {"journaled": report.shipped.journaled, "missing": len(report.shipped.missing)},
        "restart": {
            "size_before": restart.size_before,
            "status_meanwhile": restart.seen.reply.status,
            "audit_id": restart.seen.audit_id,
            "index": restart.index,
            "size_after": restart.size_after,
        },
        "ended": {
            "journaled": report.ended.journaled,
            "missing": len(report.ended.missing),
            "in_log": proven.writer_records,
            "tail": proven.tail.value,
        },
        "first": _checkpoint_document(proven.first),
        "last": _checkpoint_document(proven.last),
        "proofs": {
            "records": proven.records,
            "receipts": proven.receipts,
            "leaves": proven.leaves,
            "consistency_hashes": proven.consistency_hashes,
        },
        "forgotten": _forgotten_document(forgotten),
        "flipped": {
            "path": flip.path,
            "offset": flip.offset,
            "was": flip.was,
            "became": flip.became,
            "found": [str(finding) for finding in flip.findings],
        },
        "forked": {"frozen_because": fork.because, "writer": fork.writer, "alerts": list(fork.alerts)},
    }


def _forgotten_document(forgotten: Forgotten) -> Mapping[str, object]:
    return {
        "audit_id": forgotten.audit_id,
        "subject": forgotten.subject,
        "named_in": list(forgotten.named_in),
        "opened": forgotten.opened_subject,
        "erased_records": forgotten.erasure.records,
        "erasure_index": forgotten.erasure.erasure_index,
        "after": str(forgotten.after.outcome),
    }


def _checkpoint_document(signed: SignedCheckpoint) -> Mapping[str, object]:
    checkpoint = signed.checkpoint
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "note": signed.note.decode(),
    }
