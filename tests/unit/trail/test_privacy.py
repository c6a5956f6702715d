# SPDX-License-Identifier: Apache-2.0
"""`Privacy`: nothing is opened for whoever may not, and nothing is answered that the log has no record of."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import (
    Conflict,
    Corrupt,
    IapError,
    LogFrozen,
    LogUnavailable,
    Malformed,
    NotFound,
    QueueFull,
    Refused,
    SourceUnavailable,
)
from iap_authz.model.roles import Role
from iap_authz.ports import PrivacyService
from iap_authz.records.record import parse_record
from iap_authz.records.seal import (
    OPENING_BYTES,
    PART_MAX_BYTES,
    derive_opening,
    open_part,
    parse_beside,
    seal_context,
    subject_key_info,
)
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.trail.access import Caller
from iap_authz.trail.privacy import (
    INDICES_MAX,
    PURPOSE_MAX_CHARS,
    Privacy,
    SealedTrail,
    render_indices,
)
from iap_authz.trail.worker import Worker
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import VAULT, SealingWriter
from tests.fakes.trail import NO_RECORD, FakeLeaves, heartbeat_leaf

IVY = Caller(name="ivy", roles=frozenset({Role.INVESTIGATOR}), address="192.0.2.1")
PAUL = Caller(name="paul", roles=frozenset({Role.PRIVACY_OFFICER}), address="unix")
ADA = Caller(name="ada", roles=frozenset({Role.ADMIN}), address="unix")

Outcome = log_pb2.Unsealed
PEOPLE = ("alice", "bob", "alice", "carol", "bob", "dora")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """As `trail.opener` says it."""

    outcome: log_pb2.Unsealed.Outcome
    opening: bytes = b""


class VaultOpener:
    """Opens with the vault what it has a companion of; `said` are outcomes instead, by leaf."""

    def __init__(self, besides: dict[int, bytes]) -> None:
        self.besides = besides
        self.said: dict[int, log_pb2.Unsealed.Outcome] = {}
        self.error: Exception | None = None
        self.asked: list[list[int]] = []

    def open_all(self, leaves: Many[tuple[LeafIndex, record_pb2.Record]]) -> list[Opened]:
        self.asked.append([index for index, _ in leaves])
        if self.error is not None:
            raise self.error
        return [self._open(index, record) for index, record in leaves]

    def _open(self, index: int, record: record_pb2.Record) -> Opened:
        if index in self.said:
            return Opened(outcome=self.said[index], opening=b"never to be given out")
        if record.WhichOneof("personal") != "sealed":
            return Opened(outcome=Outcome.NOT_SEALED)
        companion = parse_beside(self.besides[index])
        info = subject_key_info(ORIGIN, record.writer, companion.key_id)
        secret = VAULT.open(companion.sealed_subject_key, epoch=companion.vault_epoch, info=info)
        return Opened(outcome=Outcome.OPENED, opening=derive_opening(secret, seal_context(ORIGIN, record)))


class FakeErasures:
    def __init__(self) -> None:
        self.asked: list[tuple[str, Message, Caller]] = []

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest, caller: Caller) -> log_pb2.ErasureState:
        self.asked.append(("EraseSubject", request, caller))
        return log_pb2.ErasureState(stage=log_pb2.ErasureState.COUNTING)

    async def get_erasure(self, request: log_pb2.GetErasureRequest, caller: Caller) -> log_pb2.ErasureState:
        self.asked.append(("GetErasure", request, caller))
        return log_pb2.ErasureState(stage=log_pb2.ErasureState.COMPLETE)

    async def list_erasures(self, request: log_pb2.ListErasuresRequest, caller: Caller) -> log_pb2.ListErasuresResponse:
        self.asked.append(("ListErasures", request, caller))
        return log_pb2.ListErasuresResponse(erasures=[log_pb2.ErasureState(records=3)])


class FakeHolds:
    def __init__(self) -> None:
        self.asked: list[tuple[str, Message, Caller]] = []

    async def place_hold(
        self, request: log_pb2.PlaceLegalHoldRequest, caller: Caller
    ) -> log_pb2.PlaceLegalHoldResponse:
        self.asked.append(("PlaceLegalHold", request, caller))
        return log_pb2.PlaceLegalHoldResponse(index=4)

    async def release_hold(
        self, request: log_pb2.ReleaseLegalHoldRequest, caller: Caller
    ) -> log_pb2.ReleaseLegalHoldResponse:
        self.asked.append(("ReleaseLegalHold", request, caller))
        return log_pb2.ReleaseLegalHoldResponse(index=5)

    async def list_holds(
        self, request: log_pb2.ListLegalHoldsRequest, caller: Caller
    ) -> log_pb2.ListLegalHoldsResponse:
        self.asked.append(("ListLegalHolds", request, caller))
        return log_pb2.ListLegalHoldsResponse(holds=[log_pb2.HoldState(matter="m")])


class World:
    """A trail of a heartbeat and six sealed decisions, whoever may ask for them, and what the log then records."""

    def __init__(self, leaves: Many[bytes] | None = None) -> None:
        writer = SealingWriter()
        for name in PEOPLE:
            writer.add_sealed(name)
        self.stored = [heartbeat_leaf(0), *writer.leaves] if leaves is None else list(leaves)
        self.leaves = FakeLeaves(self.stored)
        self.opener = VaultOpener({sequence + 1: beside for sequence, beside in writer.besides.items()})
        self.kept = len(self.stored)
        self.covered: set[int] = set()
        self.appended: list[tuple[Message, Message]] = []
        self.append_error: Exception | None = None
        self.appending = asyncio.Event()
        self.committed = asyncio.Event()
        self.committed.set()
        self.erasures, self.holds = FakeErasures(), FakeHolds()
        self.retired: list[log_pb2.RetireWriterRequest] = []
        self.worker = Worker()
        self.privacy = self.make(with_vault=True)

    def make(self, *, with_vault: bool) -> Privacy:
        sealed = SealedTrail(
            opener=self.opener,
            kept=lambda: self.kept,
            covered=self._covered,
            append_own=self._append_own,
            erasures=self.erasures,
            holds=self.holds,
        )
        return Privacy(self, self.leaves, run=self.worker.run, sealed=sealed if with_vault else None)

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        self.retired.append(request)
        return log_pb2.RetireWriterResponse(index=12)

    async def _covered(self, leaves: Mapping[LeafIndex, bytes]) -> frozenset[LeafIndex]:
        assert all(leaf == self.leaves.leaves[index] for index, leaf in leaves.items())
        return frozenset(leaves.keys() & self.covered)

    async def _append_own(self, body: Message, personal: Message) -> LeafIndex:
        self.appending.set()
        await self.committed.wait()
        if self.append_error is not None:
            raise self.append_error
        self.appended.append((body, personal))
        return LeafIndex(40 + len(self.appended))

    async def unseal(
        self, *indices: int, purpose: str = "case 7", caller: Caller | None = IVY
    ) -> log_pb2.UnsealResponse:
        return await self.privacy.unseal(log_pb2.UnsealRequest(indices=indices, purpose=purpose), caller)


def trying(test: Callable[[World], Awaitable[None]], leaves: Many[bytes] | None = None) -> None:
    async def run() -> None:
        world = World(leaves)
        try:
            await test(world)
        finally:
            world.worker.close()

    asyncio.run(run())


def outcomes(answer: log_pb2.UnsealResponse) -> list[tuple[int, int]]:
    return [(one.index, one.outcome) for one in answer.records]


def test_what_is_answered_opens_the_leaves() -> None:
    async def test(world: World) -> None:
        service: PrivacyService = world.privacy
        request = log_pb2.UnsealRequest(indices=[6, 1, 0, 3], purpose="case 7")
        answer = await service.unseal(request, IVY)
        assert outcomes(answer) == [
            (6, Outcome.OPENED),
            (1, Outcome.OPENED),
            (0, Outcome.NOT_SEALED),
            (3, Outcome.OPENED),
        ]
        for one in answer.records:
            if one.outcome == Outcome.OPENED:
                part = open_part(parse_record(world.stored[one.index]), one.opening, origin=ORIGIN)
                assert part.decision.facts.identity.subject == PEOPLE[one.index - 1]
                assert len(one.opening) == OPENING_BYTES
            else:
                assert one.opening == b""

    trying(test)


def test_the_reading_is_in_the_log_with_who_why_and_what() -> None:
    async def test(world: World) -> None:
        answer = await world.unseal(6, 1, 2, 0, purpose="  fraud case 7, asked by J. Doe ")
        assert answer.log_read == 41
        ((body, personal),) = world.appended
        assert body == record_pb2.LogRead(
            method="Unseal", from_index=0, to_index=7, records=4, unsealed=3, role="investigator"
        )
        assert personal == record_pb2.LogReadPersonal(
            reader="ivy", address="192.0.2.1", query="0-2,6", purpose="  fraud case 7, asked by J. Doe "
        )

    trying(test)


def test_nothing_is_answered_before_its_record_is_committed() -> None:
    async def test(world: World) -> None:
        world.committed.clear()
        asking = asyncio.ensure_future(world.unseal(1))
        await world.appending.wait()
        assert not asking.done()
        world.committed.set()
        assert (await asking).log_read == 41

    trying(test)


@pytest.mark.parametrize(
    "error", [LogFrozen("frozen"), QueueFull("full", 1.0), LogUnavailable("stopping"), OSError("disk")]
)
def test_no_reading_without_its_record(error: Exception) -> None:
    async def test(world: World) -> None:
        world.append_error = error
        with pytest.raises(type(error)) as caught:
            await world.unseal(1)
        assert caught.value is error
        assert world.appended == []

    trying(test)


@pytest.mark.parametrize("caller", [None, PAUL, ADA, replace(IVY, roles=frozenset())])
def test_nothing_is_opened_for_whoever_may_not(caller: Caller | None) -> None:
    async def test(world: World) -> None:
        with pytest.raises(Refused, match="the role investigator"):
            await world.unseal(1, caller=caller)
        with pytest.raises(Refused):  # also before anything is said about the question
            await world.unseal(caller=caller)
        assert world.opener.asked == []
        assert world.appended == []

    trying(test)


@pytest.mark.parametrize(
    ("indices", "purpose", "error", "said"),
    [
        ([], "why", Malformed, "got 0 indices to unseal, want 1 to 1000"),
        (list(range(INDICES_MAX + 1)), "why", Malformed, "got 1001 indices"),
        ([1, 2, 1], "why", Malformed, "got 1 indices to unseal twice"),
        ([7], "why", NotFound, "got leaf index 7, want one below 7"),
        ([0, 2**63 - 1], "why", NotFound, "want one below 7"),
        ([2**63], "why", Malformed, "want 0 to 2\\^63 - 1"),
        ([2**64 - 1], "why", Malformed, "want 0 to 2\\^63 - 1"),
        ([1], "", Malformed, "got no purpose, want the reason for this reading"),
        ([1], " \t\n\u2003", Malformed, "got no purpose"),
        ([1], "x" * (PURPOSE_MAX_CHARS + 1), Malformed, "got a purpose of 1025 characters, want at most 1024"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(
    indices: list[int], purpose: str, error: type[IapError], said: str
) -> None:
    async def test(world: World) -> None:
        with pytest.raises(error, match=said):
            await world.unseal(*indices, purpose=purpose)
        assert world.opener.asked == []
        assert world.appended == []

    trying(test)


def test_the_longest_reading_fits_into_a_record() -> None:
    async def test(world: World) -> None:
        answer = await world.unseal(*range(0, 2 * INDICES_MAX, 2), purpose="\U0001f600" * PURPOSE_MAX_CHARS)
        assert len(answer.records) == INDICES_MAX
        assert [len(slice_) for slice_ in world.opener.asked] == [256, 256, 256, 232]

    trying(test, [heartbeat_leaf(number) for number in range(2 * INDICES_MAX)])
    widest = record_pb2.LogReadPersonal(
        reader="r" * 256,
        address="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        query=render_indices(range(2**63 - 1, 2**63 - 1 - 2 * INDICES_MAX, -2)),
        purpose="\U0001f600" * PURPOSE_MAX_CHARS,
    )
    assert record_pb2.PersonalPart(log_read=widest).ByteSize() < PART_MAX_BYTES


def test_s8_erased_is_what_an_erasure_record_covers(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        world.opener.said = {1: Outcome.ERASED, 2: Outcome.ERASED, 3: Outcome.TAMPERED}
        world.covered = {1, 3}
        answer = await world.unseal(1, 2, 3, 4)
        assert outcomes(answer) == [
            (1, Outcome.ERASED),
            (2, Outcome.TAMPERED),
            (3, Outcome.TAMPERED),
            (4, Outcome.OPENED),
        ]
        assert [one.opening == b"" for one in answer.records] == [True, True, True, False]
        assert world.appended[0][0] == record_pb2.LogRead(
            method="Unseal", from_index=1, to_index=5, records=4, unsealed=1, role="investigator"
        )

    trying(test)
    assert [(one.levelno, vars(one)["leaf"]) for one in caplog.records] == [(logging.ERROR, 2), (logging.ERROR, 3)]


def test_what_is_on_its_way_into_the_database_is_not_missing() -> None:
    async def test(world: World) -> None:
        world.kept = 3
        with pytest.raises(LogUnavailable, match="got leaf index 3, want one below 3"):
            await world.unseal(1, 3)
        assert world.opener.asked == []
        assert outcomes(await world.unseal(1, 2)) == [(1, Outcome.OPENED), (2, Outcome.OPENED)]

    trying(test)


def test_a_vault_that_does_not_answer_is_no_tampering() -> None:
    async def test(world: World) -> None:
        world.opener.error = SourceUnavailable("the vault does not answer")
        with pytest.raises(SourceUnavailable):
            await world.unseal(1)
        assert world.appended == []

    trying(test)


def test_a_leaf_that_is_no_record_is_corrupt() -> None:
    async def test(world: World) -> None:
        with pytest.raises(Corrupt, match="leaf 1: got 25 bytes that are no record"):
            await world.unseal(0, 1)

    trying(test, [heartbeat_leaf(0), NO_RECORD])


DELEGATED: list[tuple[str, str, Message]] = [
    ("EraseSubject", "erase_subject", log_pb2.EraseSubjectRequest(subject="alice")),
    ("GetErasure", "get_erasure", log_pb2.GetErasureRequest(erasure=b"e")),
    ("ListErasures", "list_erasures", log_pb2.ListErasuresRequest()),
    ("PlaceLegalHold", "place_hold", log_pb2.PlaceLegalHoldRequest(matter="m")),
    ("ReleaseLegalHold", "release_hold", log_pb2.ReleaseLegalHoldRequest(hold=b"h")),
    ("ListLegalHolds", "list_holds", log_pb2.ListLegalHoldsRequest()),
]


@pytest.mark.parametrize(("name", "method", "request_"), DELEGATED, ids=[name for name, _, _ in DELEGATED])
def test_privacy_officers_reach_erasures_and_holds(name: str, method: str, request_: Message) -> None:
    async def test(world: World) -> None:
        call: Callable[..., Awaitable[Any]] = getattr(world.privacy, method)
        for caller in (None, IVY, ADA):
            with pytest.raises(Refused, match="the role privacy_officer"):
                await call(request_, caller)
        assert world.erasures.asked + world.holds.asked == []
        assert (await call(request_, PAUL)).ByteSize()
        assert world.erasures.asked + world.holds.asked == [(name, request_, PAUL)]

    trying(test)


def test_admins_retire_writers_and_who_did_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        request = log_pb2.RetireWriterRequest(writer=b"\x01" * 32, cause="the pod is gone")
        for caller in (None, IVY, PAUL):
            with pytest.raises(Refused, match="the role admin"):
                await world.privacy.retire_writer(request, caller)
        assert world.retired == []
        assert (await world.privacy.retire_writer(request, ADA)).index == 12
        assert (await world.make(with_vault=False).retire_writer(request, ADA)).index == 12
        assert world.retired == [request, request]

    trying(test)
    assert {(vars(one)["writer"], vars(one)["by"]) for one in caplog.records} == {("01" * 32, "ada")}


@pytest.mark.parametrize(
    ("method", "request_", "caller"),
    [("unseal", log_pb2.UnsealRequest(indices=[1], purpose="why"), IVY)]
    + [(method, request, PAUL) for _, method, request in DELEGATED],
)
def test_a_log_without_a_vault_has_nothing_to_unseal(method: str, request_: Message, caller: Caller) -> None:
    async def test(world: World) -> None:
        call: Callable[..., Awaitable[Message]] = getattr(world.make(with_vault=False), method)
        with pytest.raises(Refused):
            await call(request_, None)
        with pytest.raises(Conflict, match="this log has no vault"):
            await call(request_, caller)

    trying(test)


@given(st.sets(st.integers(min_value=0, max_value=60), min_size=1))
def test_a_list_of_indices_says_each_once_and_shortest(indices: set[int]) -> None:
    text = render_indices(indices)
    runs = [tuple(map(int, run.split("-"))) for run in text.split(",")]
    assert [index for run in runs for index in range(run[0], run[-1] + 1)] == sorted(indices)
    assert all(after[0] > before[-1] + 1 for before, after in pairwise(runs))
