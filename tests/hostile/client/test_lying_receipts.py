# SPDX-License-Identifier: Apache-2.0
"""A log that lies about a batch: each lie is found out, and nothing that came with it is believed or stored.

CORPUS rows 234, 235, 240, 241, 242, 248, 250, 255 and 260, as a writer meets them.
"""

import asyncio
from collections.abc import Callable

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import asks
from iap_authz.client.view import LogView
from iap_authz.errors import BadProof, BadSignature, Fork, IapError, Malformed, NotProven
from iap_authz.tlog.hashing import LeafHash
from tests.fakes.lies import EARLIER, LIES
from tests.fakes.lying_log import JUNK, LyingLog, Twist
from tests.fakes.senders import MemoryCheckpoints, Sender


class Victim:
    """A writer with a registration and a batch in the log, who has seen both there."""

    def __init__(self) -> None:
        self.log, self.sender, self.store = LyingLog(), Sender(), MemoryCheckpoints()
        self.view = LogView(self.log.verifier, self.store)

    async def start(self) -> "Victim":
        await asks.register(self.log, self.view, self.sender.registration())
        await asks.append(self.log, self.view, self.sender.batch())
        return self

    async def finds_out(self, request: log_pb2.AppendRequest, ends_in: type[IapError]) -> None:
        last, stored = self.view.last, list(self.store.notes)
        with pytest.raises(ends_in) as caught:
            await asks.append(self.log, self.view, request)
        assert type(caught.value) is ends_in or ends_in is Malformed
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
        assert self.view.last == last
        assert self.store.notes == stored


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_a_batch_is_found_out(name: str) -> None:
    async def test() -> None:
        victim = await Victim().start()
        LIES[name].tell(victim.log)
        await victim.finds_out(victim.sender.batch(), LIES[name].ends_in)

    asyncio.run(test())


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_found_out_by_whoever_has_seen_nothing_before(name: str) -> None:
    """Nothing to be consistent with: signature, range and leaf must do."""

    async def test() -> None:
        victim = await Victim().start()
        victim.view = LogView(victim.log.verifier, victim.store)
        victim.store.notes.clear()
        LIES[name].tell(victim.log)
        await victim.finds_out(victim.sender.batch(), LIES[name].ends_in)

    asyncio.run(test())


@pytest.mark.parametrize("name", EARLIER)
def test_the_truth_after_a_lie_is_believed(name: str) -> None:
    async def test() -> None:
        victim = await Victim().start()
        EARLIER[name].tell(victim.log)
        request = victim.sender.batch()
        await victim.finds_out(request, EARLIER[name].ends_in)
        victim.log.be_honest()
        await asks.append(victim.log, victim.view, request)
        assert victim.view.last.checkpoint.size == len(victim.log.leaves)

    asyncio.run(test())


@pytest.mark.parametrize("name", EARLIER)
def test_a_lie_about_an_older_batch_is_found_out(name: str) -> None:
    """A stored receipt, at a size below the last: it proves nothing more than a new one, and is not held to less."""

    async def test() -> None:
        victim = await Victim().start()
        await asks.append(victim.log, victim.view, victim.sender.batch())
        await asks.append(victim.log, victim.view, victim.sender.batch())
        EARLIER[name].tell(victim.log)
        await victim.finds_out(victim.sender.request(4, 7), EARLIER[name].ends_in)

    asyncio.run(test())


def test_a_consistency_proof_is_not_left_out() -> None:
    async def test() -> None:
        victim = await Victim().start()
        victim.log.twist_receipt = lambda receipt: receipt.ClearField("consistency_proof")
        await victim.finds_out(victim.sender.batch(), BadProof)

    asyncio.run(test())


@pytest.mark.parametrize("number", range(3))
def test_a_consistency_proof_of_another_history_is_refused(number: int) -> None:
    def flip(receipt: log_pb2.Receipt) -> None:
        proof = receipt.consistency_proof
        proof[number % len(proof)] = JUNK

    async def test() -> None:
        victim = await Victim().start()
        victim.log.twist_receipt = flip
        await victim.finds_out(victim.sender.batch(), BadProof)

    asyncio.run(test())


def test_the_receipt_of_an_older_batch_is_no_answer() -> None:
    async def test() -> None:
        victim = await Victim().start()
        old = (await asks.append(victim.log, victim.view, victim.sender.request(0, 4))).receipt
        victim.log.twist_receipt = lambda receipt: receipt.CopyFrom(old)
        await victim.finds_out(victim.sender.batch(), BadProof)

    asyncio.run(test())


def test_the_receipt_of_another_writer_is_no_answer() -> None:
    async def test() -> None:
        victim, other = await Victim().start(), Sender("other")
        await asks.register(victim.log, victim.view, other.registration())
        answer = await asks.append(victim.log, victim.view, other.batch())
        victim.log.twist_receipt = lambda receipt: receipt.CopyFrom(answer.receipt)
        await victim.finds_out(victim.sender.batch(), BadProof)

    asyncio.run(test())


def test_the_receipt_of_another_writer_is_none_under_our_name() -> None:
    """Same numbers, other records: the P1 leaf holds the other's note."""

    def rename(receipt: log_pb2.Receipt) -> None:
        receipt.CopyFrom(stolen)
        receipt.writer = ours

    stolen, ours = log_pb2.Receipt(), b""

    async def test() -> None:
        nonlocal ours
        log, mine, other = LyingLog(), Sender(), Sender("other")
        ours = mine.writer
        view = LogView(log.verifier, store := MemoryCheckpoints())
        await asks.register(log, view, mine.registration())
        await asks.register(log, view, other.registration())
        stolen.CopyFrom((await asks.append(log, view, other.batch())).receipt)
        stored = list(store.notes)
        log.twist_receipt = rename
        with pytest.raises(BadProof, match="want the one that was sent"):
            await asks.append(log, view, mine.batch())
        assert store.notes == stored

    asyncio.run(test())


def test_a_fork_at_the_same_size_keeps_both_notes() -> None:
    async def test() -> None:
        victim = await Victim().start()
        last = victim.view.last
        victim.log.fork(at=1)
        with pytest.raises(Fork) as caught:
            await asks.append(victim.log, victim.view, victim.sender.request(0, 4))
        assert caught.value.evidence == (last.note, victim.log.notes[6])
        assert caught.value.evidence[0] != caught.value.evidence[1]
        assert (victim.view.last, victim.store.notes[-1]) == (last, last.note)

    asyncio.run(test())


def test_a_split_view_is_found_out_by_the_next_batch() -> None:
    """Two writers are shown two trees; each continues in its own, and neither can be led into the other's."""

    async def test() -> None:
        victim = await Victim().start()
        victim.log.fork(at=0)
        await victim.finds_out(victim.sender.batch(), BadProof)

    asyncio.run(test())


REGISTRATION_LIES: dict[str, tuple[Twist, type[IapError]]] = {
    "other writer": (lambda receipt: setattr(receipt, "writer", JUNK), BadProof),
    "some records": (lambda receipt: setattr(receipt, "to", 1), BadProof),
    "two leaves": (lambda receipt: setattr(receipt, "leaves", 2), BadProof),
    "no leaves": (lambda receipt: setattr(receipt, "leaves", 0), BadProof),
    "shifted": (lambda receipt: setattr(receipt, "first_index", receipt.first_index - 1), BadProof),
    "no leaf": (lambda receipt: setattr(receipt, "writer_checkpoint_leaf", b""), Malformed),
    "no note": (lambda receipt: setattr(receipt, "checkpoint", b""), Malformed),
    "dropped hash": (lambda receipt: receipt.range_proof.pop(), BadProof),
    "extra hash": (lambda receipt: receipt.range_proof.append(JUNK), BadProof),
    "nothing": (lambda receipt: receipt.Clear(), NotProven),
}


@pytest.mark.parametrize("name", REGISTRATION_LIES)
def test_a_lie_about_a_registration_is_found_out(name: str) -> None:
    twist, ends_in = REGISTRATION_LIES[name]

    async def test() -> None:
        victim = await Victim().start()
        last, stored = victim.view.last, list(victim.store.notes)
        victim.log.twist_receipt = twist
        with pytest.raises(ends_in):
            await asks.register(victim.log, victim.view, Sender("second").registration())
        assert (victim.view.last, victim.store.notes) == (last, stored)

    asyncio.run(test())


@pytest.mark.parametrize("field", ["writer", "public_key"])
def test_a_registration_of_somebody_else_is_found_out(field: str) -> None:
    async def test() -> None:
        victim = await Victim().start()
        victim.log.twist_body = lambda body: setattr(body, field, JUNK)
        with pytest.raises(BadProof, match="got a WriterRegistered of"):
            await asks.register(victim.log, victim.view, Sender("second").registration())

    asyncio.run(test())


def test_a_registration_is_consistent_with_the_last_checkpoint() -> None:
    """Its receipt has no consistency proof, so one is asked for; a fork has none to give."""

    async def test() -> None:
        victim = await Victim().start()
        victim.log.fork(at=1)
        with pytest.raises(BadProof):
            await asks.register(victim.log, victim.view, Sender("second").registration())
        assert victim.view.last.checkpoint.size == 6

    asyncio.run(test())


RECEIPT_LISTS: dict[str, Callable[[list[log_pb2.Receipt]], list[log_pb2.Receipt]]] = {
    "one left out": lambda receipts: [receipts[0], receipts[2]],
    "one twice": lambda receipts: [receipts[0], receipts[0]],
    "backward": lambda receipts: receipts[::-1],
    "from later": lambda receipts: receipts[1:],
    "an empty batch": lambda receipts: [*receipts[:1], numbered(receipts[1], begin=4, end=4)],
    "a batch that ends before it begins": lambda receipts: [numbered(receipts[0], begin=3, end=2)],
    "a batch without end": lambda receipts: [numbered(receipts[0], begin=0, end=2**64 - 1)],
    "more than was asked for": lambda receipts: [*receipts, numbered(receipts[0], begin=10, end=11)],
}


def numbered(receipt: log_pb2.Receipt, *, begin: int, end: int) -> log_pb2.Receipt:
    changed = log_pb2.Receipt()
    changed.CopyFrom(receipt)
    setattr(changed, "from", begin)
    changed.to = end
    return changed


@pytest.mark.parametrize("name", RECEIPT_LISTS)
def test_a2_a_list_of_receipts_has_no_gap_and_no_surprise(name: str) -> None:
    class Listing(LyingLog):
        async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
            answer = await super().get_receipts(request)
            return log_pb2.GetReceiptsResponse(receipts=RECEIPT_LISTS[name](list(answer.receipts)))

    async def test() -> None:
        log, sender = Listing(), Sender()
        view = LogView(log.verifier, MemoryCheckpoints())
        await asks.register(log, view, sender.registration())
        for _ in range(3):
            await asks.append(log, view, sender.batch())

        def held(begin: int, end: int) -> tuple[list[LeafHash], bytes]:
            assert (begin, end) in {(0, 4), (4, 7), (7, 10)}, "no number that cannot be is asked for"
            return sender.held(begin, end)

        request = log_pb2.GetReceiptsRequest(writer=sender.writer, to=10)
        with pytest.raises(BadProof, match="want the batch of record"):
            await asks.receipts(log, view, request, sent=held)

    asyncio.run(test())


def test_a_note_of_the_log_under_a_larger_size_is_not_believed() -> None:
    """A checkpoint whose root is real and whose size is not, signed by the log itself (CORPUS 235)."""

    async def test() -> None:
        victim = await Victim().start()
        LIES["another size"].tell(victim.log)
        await victim.finds_out(victim.sender.batch(), BadProof)

    asyncio.run(test())


def test_a_checkpoint_by_another_key_is_refused_as_the_newest() -> None:
    async def test() -> None:
        victim = await Victim().start()
        impostor = LyingLog(seed="impostor")
        impostor.leaves, impostor.hashes = victim.log.leaves, victim.log.hashes
        impostor.notes = {6: b""}
        impostor.fork(at=0, leaf=victim.log.leaves[0])
        with pytest.raises(BadSignature):
            await asks.newest_checkpoint(impostor, victim.view)
        assert victim.view.last.checkpoint.size == 6

    asyncio.run(test())
