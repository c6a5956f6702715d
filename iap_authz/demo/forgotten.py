# SPDX-License-Identifier: Apache-2.0
"""A person in the audit log: named in no file of it, read by who may, forgotten, and every proof still there.

    search of all files for the name    an investigator opens one record    an officer has the person erased
                                                                            the same record: erased, and still proved

Invariant: the name comes from the token that was sent, not from the log; what was opened is checked against the proven
record by the public client. What differs is text beside what was seen, as in `run`.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import AuditLogClient, CheckpointFile, LogChannel
from iap_authz.demo.auditor import WAIT_SECONDS, Auditor
from iap_authz.demo.live import Live
from iap_authz.errors import Unavailable
from iap_authz.model.ids import AuditId
from iap_authz.records.unsealed import Outcome, UnsealedRecord
from iap_authz.tlog.hashing import LeafHash, LeafIndex

POLL_SECONDS = 0.05
"""Between two questions how far the erasure is."""

PURPOSE, AUTHORITY = "the demonstration", "DEMO-1"
"""Why the record is read, and on whose order the person is erased."""

Stage = log_pb2.ErasureState.Stage

_GOES_ON = frozenset({Stage.COUNTING, Stage.ERASING, Stage.ERASED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What became of the person whose request is record `audit_id`.

    `named_in` are files with the name in them. `before` and `after` are what an investigator got of the record.
    """

    subject: str
    audit_id: AuditId
    named_in: tuple[str, ...]
    before: UnsealedRecord
    erasure: log_pb2.ErasureState
    after: UnsealedRecord

    @property
    def differences(self) -> Iterator[str]:
        """Where the person could be seen, could not be read by who may, or was not forgotten."""
        if self.named_in:
            yield f"personal data: got the name in {', '.join(self.named_in)}, want it in no file"
        if self.opened_subject != self.subject:
            yield f"personal data: got a record that is {self.before.outcome} and not of whose token it was"
        if self.erasure.stage != Stage.COMPLETE or not self.erasure.records:
            yield f"erasure: got {Stage.Name(self.erasure.stage)} of {self.erasure.records} records, want it complete"
        if self.after.outcome is not Outcome.ERASED:
            yield f"erasure: got a record that is {self.after.outcome}, want it erased"

    @property
    def opened_subject(self) -> str:
        """Whose record it is, as it was sealed in it."""
        return self.before.personal.decision.facts.identity.subject if self.before.personal is not None else ""


def forget(live: Live, auditor: Auditor, audit_id: AuditId, *, token: str) -> Forgotten:
    """Read the record `audit_id` of who sent `token`, erase them, and prove it again. The sidecar has ended.

    Raises Unavailable where something takes too long, NotProven where the log cannot prove itself.
    """
    subject = _subject_of(live.world.tokens[token])
    index = auditor.wait_logged(LeafHash(bytes.fromhex(audit_id)))
    named_in = _files_with(subject.encode(), live.world.journal, live.logs.honest.store)
    before = asyncio.run(_unseal(live, index))
    erasure = asyncio.run(_erase(live, subject))
    after = asyncio.run(_unseal(live, index))
    auditor.check_record(audit_id)
    return Forgotten(subject=subject, audit_id=audit_id, named_in=named_in, before=before, erasure=erasure, after=after)


def _subject_of(token: str) -> str:
    """What a token says of whose it is (RFC 7519 section 4.1.2); it is ours, and not checked."""
    claims = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"])


def _files_with(text: bytes, *folders: Path) -> tuple[str, ...]:
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return tuple(path.name for path in files if text in path.read_bytes())


def _access_token(live: Live, name: str) -> str:
    return (live.world.folder / f"{name}.token").read_text().strip()


async def _unseal(live: Live, index: LeafIndex) -> UnsealedRecord:
    place, kept = live.logs.honest, CheckpointFile(live.world.folder / "investigator.checkpoint")
    token = _access_token(live, "investigator")
    async with AuditLogClient.connect(place.address, verifier=place.verifier, checkpoints=kept, token=token) as client:
        (record,) = await client.unseal([index], purpose=PURPOSE)
    return record


async def _erase(live: Live, subject: str) -> log_pb2.ErasureState:
    """Until it is complete: the only writer has ended, so nobody is waited for."""
    request = log_pb2.EraseSubjectRequest(subject=subject, authority=AUTHORITY)
    async with LogChannel(live.logs.honest.address, token=_access_token(live, "privacy_officer")) as channel:
        asked = await channel.erase_subject(request)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await _settled(channel, asked.erasure)
        except TimeoutError:
            raise Unavailable(f"the erasure was not complete within {WAIT_SECONDS:g} s") from None


async def _settled(channel: LogChannel, erasure: bytes) -> log_pb2.ErasureState:
    while True:
        state = await channel.get_erasure(log_pb2.GetErasureRequest(erasure=erasure))
        if state.stage not in _GOES_ON:
            return state
        await asyncio.sleep(POLL_SECONDS)
