# SPDX-License-Identifier: Apache-2.0
"""`iap-authz prove`: make a file that proves a statement to someone who trusts nobody here.

What comes out of the log was verified before it is written. `iap-authz verify` checks each of these files offline.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.cli.journals import find_writers, inspect_folder, read_leaf
from iap_authz.cli.log_options import (
    Address,
    AsJson,
    Journal,
    Kept,
    Key,
    LogOptions,
    ask,
    fetch_evidence,
    log_options,
    open_channel,
    open_log,
    parse_which,
)
from iap_authz.errors import BadProof, NotFound, shown
from iap_authz.model.ids import AuditId
from iap_authz.records.consistency_file import ConsistencyFile, check_consistency_file, render_consistency_file
from iap_authz.records.evidence import prove_record, render_evidence
from iap_authz.records.findings import NoSuchRecord
from iap_authz.tlog.checkpoint import SignedCheckpoint, open_checkpoint
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, LeafHash, NodeHash, parse_node_hash
from iap_authz.tlog.note import NOTE_MAX_BYTES
from iap_authz.tlog.proof_file import ProofFile, render_proof_file

app = typer.Typer(no_args_is_help=True)

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to; standard output without.")]


@app.callback()
def _prove() -> None:
    pass


@app.command("record")
def record(
    audit: Annotated[str, typer.Argument(metavar="AUDIT_ID", help="64 hex digits; from a log also INDEX, WRITER:SEQ.")],
    journal: Journal = None,
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    output: Output = None,
) -> None:
    """Prove who made a record; from a log, also that it is logged. From a journal, the writer's half alone."""
    if journal is not None:
        evidence = _prove_from_journal(audit, journal)
    else:
        evidence = ask(fetch_evidence(log_options(log, key, checkpoint=checkpoint), parse_which(audit)))
    _write(render_evidence(evidence), output)


def _prove_from_journal(audit: str, journal: Path) -> log_pb2.Evidence:
    for writer in find_writers(journal):
        inspection = inspect_folder(writer)
        positions = {place: position for position, place in enumerate(inspection.places)}
        try:
            return prove_record(
                inspection,
                AuditId(audit),
                read=lambda place: read_leaf(writer, inspection, positions[place]),  # noqa: B023 -- called at once
            )
        except NoSuchRecord:
            continue
    raise NoSuchRecord(f"got audit id {shown(audit)}, which no verified record of {journal} has")


@app.command("inclusion")
def inclusion(
    leaf: Annotated[str, typer.Argument(metavar="AUDIT_ID|INDEX", help="The record, by its audit id or its index.")],
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Prove that a record is in the log: a C2SP .tlog-proof file, which any tool for such files can check."""
    which, options = parse_which(leaf), log_options(log, key, checkpoint=checkpoint)
    if isinstance(which, tuple):
        raise typer.BadParameter("want an audit id or an index: `prove record` takes WRITER:SEQUENCE")

    async def prove() -> tuple[ProofFile, str]:
        async with open_log(options) as client:
            wanted = LeafHash(bytes.fromhex(which)) if isinstance(which, str) else which
            found = await client.prove_inclusion(wanted)
        parts = ProofFile(index=found.index, proof=tuple(found.proof), checkpoint_note=found.checkpoint.note)
        return parts, found.leaf_hash.hex()

    proof_file, audit_id = ask(prove())
    content = render_proof_file(proof_file)
    if as_json:
        size = open_checkpoint(proof_file.checkpoint_note, options.verifier).size
        report = {"origin": options.verifier.name, "index": proof_file.index, "audit_id": audit_id, "tree_size": size}
        typer.echo(json.dumps({**report, "tlog_proof": content.decode()}))
    if output is not None or not as_json:
        _write(content, output, more=f" --record {audit_id} --log-key KEY")


@app.command("consistency")
def consistency(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A tree size, or a file with a checkpoint.")],
    new: Annotated[str | None, typer.Argument(metavar="[NEW]", help="The same; the newest without.")] = None,
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    output: Output = None,
) -> None:
    """Prove that the log at OLD is a prefix of the log at NEW: what was there is still there, in its place."""
    content = ask(_prove_consistency(old, new, options=log_options(log, key, checkpoint=checkpoint)))
    _write(content, output, more=" --log-key KEY")


async def _prove_consistency(old: str, new: str | None, *, options: LogOptions) -> bytes:
    """The file, checked. Both checkpoints are also proven to be prefixes of the newest one, or are it."""
    async with open_log(options) as client:
        before = await _signed(old, options)
        newest = await client.prove_consistency(before)
        if new is None:
            after, proof = newest.new, tuple(newest.proof)
        else:
            after = await _signed(new, options)
            await client.prove_consistency(after)
            proof = await _consistency_between(before, after, options=options)
    file = ConsistencyFile(old_note=before.note, new_note=after.note, proof=proof)
    check_consistency_file(file, log=options.verifier)
    return render_consistency_file(file.old_note, file.new_note, proof=proof)


async def _signed(text: str, options: LogOptions) -> SignedCheckpoint:
    """The checkpoint that the user means: the one in a file, or the one that the log signed at a size."""
    if text.isdecimal():
        note = await _note_at(int(text), options)
    else:
        note = _read_note(Path(text))
    return SignedCheckpoint(checkpoint=open_checkpoint(note, options.verifier), note=note)


async def _note_at(size: int, options: LogOptions) -> bytes:
    if not 0 < size < SIZE_LIMIT_LEAVES:
        raise typer.BadParameter(f"got size {shown(size)}, want at least 1: nothing can be proven of an empty tree")
    request = log_pb2.GetConsistencyProofRequest(old_size=size, new_size=size)
    async with open_channel(options) as channel:
        note = (await channel.prove_consistency(request)).checkpoint
    if not note:
        raise NotFound(f"got size {size}, at which the log signed no checkpoint: give a file with one of another size")
    if open_checkpoint(note, options.verifier).size != size:
        raise BadProof(f"got a checkpoint of another size from the log, want {size}")
    return note


def _read_note(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(NOTE_MAX_BYTES + 1)
    except OSError as error:
        message = f"{path}: {error.strerror}, want a tree size or a file with a checkpoint"
        raise typer.BadParameter(message) from None


async def _consistency_between(
    old: SignedCheckpoint, new: SignedCheckpoint, *, options: LogOptions
) -> tuple[NodeHash, ...]:
    """What the log says; `check_consistency_file` checks it."""
    low, high = old.checkpoint.size, new.checkpoint.size
    if low > high:
        raise typer.BadParameter(f"got OLD at size {low}, want it at most NEW's {high}")
    if low == high:
        return ()
    async with open_channel(options) as channel:
        answer = await channel.prove_consistency(log_pb2.GetConsistencyProofRequest(old_size=low, new_size=high))
    return tuple(parse_node_hash(value) for value in answer.proof)


def _write(content: bytes, output: Path | None, *, more: str = "") -> None:
    if output is None:
        sys.stdout.write(content.decode())
    else:
        output.write_bytes(content)
        typer.echo(f"wrote {output}: check it anywhere with `iap-authz verify {output}{more}`", err=True)
