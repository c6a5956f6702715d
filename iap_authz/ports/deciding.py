# SPDX-License-Identifier: Apache-2.0
"""What a check stands on, and what may be asked of the one who checks."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from iap_authz.model.decision import Decision
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.model.request import Request
from iap_authz.records.room import Room

SOURCES_SERVICE = "iap.authz.v1.Sources"
"""What gRPC health is asked for by whoever sends traffic: serving while all that proves an identity can be used.

Not what Envoy asks for: a sidecar without keys refuses, and records that it does; taken out, it would record nothing.
"""

T_co = TypeVar("T_co", covariant=True)


class Clock(Protocol):
    """Time. Owned by the assembly; one per process."""

    def now(self) -> datetime:
        """Wall time in UTC, never earlier than any value returned before (PROTOCOL rule T1)."""

    def monotonic(self) -> float:
        """Seconds that only grow, for ages and deadlines."""


class Signer(Protocol):
    """One Ed25519 key. The private key never leaves the implementation."""

    @property
    def public_key(self) -> bytes:
        """32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`. Deterministic: the same message gives the same signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A record that has its place in the writer's log.

    `durable` is done when the record and a signed checkpoint over it have been fsynced; it fails with OSError only
    after a write or fsync error, right before the process ends. Whoever waits for it must not cancel it.
    """

    audit_id: AuditId
    sequence: Sequence
    durable: "asyncio.Future[None]"


class Journal(Protocol):
    """The writer's log on stable storage: append-only, one per process, owned by the event loop thread.

    Records of one writer get sequences 0, 1, 2, ... in the order of `append_nowait`. Each group commit is one write of
    its records and a signed checkpoint, then one fdatasync (W3). After any write or fsync error nothing more is
    accepted and `failed` is done (W4): the process must end.
    """

    @property
    def writer(self) -> WriterId:
        """Who writes."""

    @property
    def failed(self) -> "asyncio.Future[None]":
        """Done with the error after the first write or fsync error."""

    def append_nowait(
        self, build: Callable[[WriterId, Sequence], bytes], *, room: Room, beside: bytes = b""
    ) -> Appended:
        """Give the record that `build` makes the next sequence and queue it for the next group commit.

        `beside` is what stands outside a sealed leaf: its salt and companion (rule S2), written in the same group.
        Raises JournalFull when `room` has none left (`build` is not called then). Never blocks.
        """

    def begin_segment(self) -> Sequence:
        """Have the next record begin a new file, so that what was written before can be removed; its sequence."""

    async def close(self) -> None:
        """Commit what is queued, write the last checkpoint, release the lock. Idempotent."""


class FactSource(Protocol[T_co]):
    """A file, database or feed that facts come from. Read whole, swapped whole; never read by a request."""

    @property
    def name(self) -> str:
        """For messages, facts (`source`) and metrics; no path, no secret."""

    def load(self) -> T_co:
        """Read and parse the whole source. Blocking; called from a thread.

        Raises Invalid or Malformed for bad content and SourceUnavailable where there is none: the caller keeps what
        it had until that is older than its age limit.
        """

    def version(self) -> object:
        """A value that changes when the source may have; cheap (for a file: inode, size and change time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What was at a URL; `etag` names it for the next time, empty if the server did not."""

    content: bytes
    etag: str


class Endpoint(Protocol):
    """What others publish on the web. Owned by the event loop; never asked while a request waits."""

    async def fetch(self, url: str, *, etag: str = "") -> Fetched | None:
        """The whole content of an https URL; None if it is still what `etag` names.

        Ends within a bounded time, and reads a bounded size. Raises SourceUnavailable for everything else: no answer, a
        redirect, another status than 200 and 304, a name that leads where it must not.
        """


class Checker(Protocol):
    """Answers checks. Every call ends in exactly one record, or in one count of a later Refusals record."""

    async def check(self, request: Request, deadline: float) -> "Answer":
        """Decide, record, and answer before `deadline` (monotonic seconds). Never raises but CancelledError."""

    def withhold(self, answer: "Answer") -> None:
        """Say that `answer`, an ALLOW, was not given after all (PROTOCOL rule R1). Never raises, never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Envoy is told. `audit_id` is empty only where no record could be kept (the refusal was counted).

    `assertion` is for the application; it is there if, and only if, the decision promises one.
    """

    decision: Decision
    audit_id: str
    assertion: str = field(default="", repr=False)
