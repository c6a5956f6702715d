# SPDX-License-Identifier: Apache-2.0
"""A writer's whole way into an audit log that may lie: a journal on disk, its backlog, a shipper in its own time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.adapters.journal.backlog import FileBacklog
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.client.view import LogView
from iap_authz.errors import NotFound
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.ports import Appended, CheckpointStore
from iap_authz.records.record import parse_record, service_record
from iap_authz.records.room import MIB, JournalBounds, Room
from iap_authz.records.seal_settings import SealSettings, VaultKey, sign_settings
from iap_authz.sidecar.log_alarms import Alarm
from iap_authz.sidecar.sealing import SettingsInForce, UnsafeNoSeals, load_settings
from iap_authz.sidecar.shipper import Shipper, ShipperSettings
from iap_authz.sidecar.subject_keys import SubjectKeys
from iap_authz.tlog.cosign import Cosigner, CosignerKey, cosign
from iap_authz.tlog.note import KeyType, add_signatures, parse_note, render_note
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, FixedSigner, counted, record_id, start_record
from tests.fakes.lying_log import LyingLog
from tests.fakes.senders import MemoryCheckpoints
from tests.fakes.timers import Timers, until

BOUNDS = JournalBounds(bound_bytes=8 * MIB, reserve_bytes=MIB // 4, segment_bytes=MIB)
TOKEN = "let me in"


class Witness:
    """Cosigns whatever it is shown, at a time that a test knows."""

    def __init__(self, name: str) -> None:
        key = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))
        public = key.public_key().public_bytes_raw()
        self.key = CosignerKey(name=name, key_type=KeyType.COSIGNATURE_ED25519, public_key=public)
        self._cosigner = Cosigner(key=self.key, sign=key.sign)

    def cosign(self, note: bytes) -> bytes:
        parsed = parse_note(note)
        line = cosign(parsed.text, self._cosigner, time_seconds=int(START.timestamp()))
        return render_note(add_signatures(parsed, [line]))


class PublishingLog(LyingLog):
    """Publishes what a test says (a note), or with `publishes_all` the newest. `seal_settings` is what it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.published: bytes | None = None
        self.publishes_all = False
        self.seal_settings = b""

    def seal(self, seal_epoch: int, vault: VaultKey) -> bytes:
        """From now on writers shall seal like this."""
        settings = SealSettings(origin=self.origin, seal_epoch=seal_epoch, vault=vault)
        self.seal_settings = sign_settings(settings, [self.signer])
        return self.seal_settings

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        answer = await super().register(request)
        answer.seal_settings = self.seal_settings
        return answer

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        answer = await super().append(request)
        answer.seal_settings = self.seal_settings
        return answer

    def publish(self, size: int | None = None, *witnesses: Witness) -> None:
        note = self.notes[max(self.notes) if size is None else size]
        for witness in witnesses:
            note = witness.cosign(note)
        self.published = note

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        if not request.published or self.publishes_all:
            return await super().get_checkpoint(request)
        await self._enter("get_checkpoint", request)
        if self.published is None:
            raise NotFound("nothing is published yet")
        return log_pb2.GetCheckpointResponse(checkpoint=self.published)

    def requests(self, name: str) -> list[object]:
        """The requests of one method, in order."""
        return [request for method, request in self.calls if method == name]

    def appended(self, writer: WriterId) -> list[tuple[int, int]]:
        """The boundaries of what a writer offered, each time it did."""
        return [
            (getattr(request, "from"), request.to)
            for request in self.requests("append")
            if isinstance(request, log_pb2.AppendRequest) and request.writer == writer
        ]

    def holds(self, writer: WriterId) -> int:
        """How many records of a writer are in it."""
        return int(self.writers[writer].tree.end) if writer in self.writers else 0


@dataclass(frozen=True, kw_only=True)
class SealedTo:
    """A process that seals: the vault's key of its configuration, and where it keeps what the log says."""

    vault: VaultKey
    store: CheckpointStore


class World:
    """One process: a journal in `directory` by the key of `seed`, and its shipper. It seals if it is told how."""

    def __init__(
        self,
        directory: Path,
        log: PublishingLog,
        *,
        seed: str,
        checkpoints: CheckpointStore,
        settings: ShipperSettings,
        sealed_to: SealedTo | None = None,
    ) -> None:
        self.clock = Timers()
        self.signer = FixedSigner(seed)
        self.directory = directory
        self.log = log
        self.journal = FileJournal.open(
            directory, origin=ORIGIN, signer=self.signer, bounds=BOUNDS, monotonic=self.clock.monotonic
        )
        self.backlog = FileBacklog(self.journal)
        self.view = LogView(LyingLog().verifier, checkpoints)
        self.sealing: SettingsInForce | UnsafeNoSeals = UnsafeNoSeals()
        if sealed_to is not None:
            start = load_settings(sealed_to.store, self.view.verifier, vault=sealed_to.vault)
            self.keys = SubjectKeys(start.settings, writer=self.journal.writer, monotonic=self.clock.monotonic)
            self.sealing = SettingsInForce(
                self.keys, self.journal, verifier=self.view.verifier, store=sealed_to.store, start=start
            )
        self.shipper = Shipper(
            self.backlog,
            log,
            self.view,
            journal=self.journal,
            clock=self.clock,
            sealing=self.sealing,
            settings=settings,
            draw=lambda: 1.0,
            pause=self.clock.pause,
        )
        self.running: asyncio.Task[None] | None = None

    @property
    def writer(self) -> WriterId:
        return self.signer.writer

    def start_journal(self) -> Appended:
        time = max(START, self.journal.predecessor_time or START)
        return self.journal.append_nowait(
            lambda _writer, _sequence: start_record(self.signer, time=time), room=Room.ALLOW
        )

    async def append(self, count: int = 1, *, large: bool = False) -> None:
        """So many more records, in one group if they are few, durable."""
        build = large_record if large else counted
        given = [self.journal.append_nowait(build, room=Room.ALLOW) for _ in range(count)]
        await asyncio.wait([one.durable for one in given])

    def run(self) -> None:
        self.running = asyncio.get_running_loop().create_task(self.shipper.run())

    async def end(self) -> None:
        """As a process that is killed: nothing is drained."""
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
            self.running = None

    async def shipped(self, position: int, *, seconds: float = 0.0) -> None:
        """Wait for the position of this process; time goes on by `seconds` now and then."""
        await until(lambda: self.shipper.position >= position, self._step(seconds))

    async def ready(self) -> None:
        """Wait until record 0 is shipped, and the chores that follow it are done: the next ones come in a second."""
        await self.shipped(1)
        await until(lambda: bool(self.log.requests("get_checkpoint")))

    async def looked(self, times: int) -> None:
        """Let time go on until the shipper has asked that often what is published."""
        before = len(self.log.requests("get_checkpoint"))
        await until(lambda: len(self.log.requests("get_checkpoint")) >= before + times, self._step(0.3))

    async def alarmed(self, *alarms: Alarm, seconds: float = 0.0) -> None:
        await until(lambda: self.shipper.alarms == frozenset(alarms), self._step(seconds))

    async def alerts(self) -> list[record_pb2.Alert]:
        """The Alerts in the own journal, in order, once all that was appended is durable."""
        await until(lambda: self.backlog.size(self.writer) == self.journal._next)  # noqa: SLF001 -- nothing else says it
        found: list[record_pb2.Alert] = []
        at, size = 0, self.backlog.size(self.writer)
        while at < size:
            batch = await FileBacklog(self.journal).read(self.writer, at)
            records = [parse_record(leaf) for leaf in batch.records]
            found += [record.alert for record in records if record.HasField("alert")]
            at = batch.end
        return found

    def _step(self, seconds: float) -> "_Steps":
        return _Steps(self.clock, seconds)


class _Steps:
    def __init__(self, clock: Timers, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def __call__(self) -> None:
        self._clock.advance(self._seconds)


def large_record(writer: WriterId, sequence: Sequence) -> bytes:
    body = record_pb2.PolicyChunk(bytes=bytes(60_000))
    return service_record(body, writer=writer, sequence=sequence, record_id=record_id(sequence), time=START)


@asynccontextmanager
async def process(
    directory: Path,
    log: PublishingLog,
    *,
    seed: str = "writer",
    checkpoints: CheckpointStore | None = None,
    settings: ShipperSettings | None = None,
    sealed_to: SealedTo | None = None,
    runs: bool = True,
) -> AsyncIterator[World]:
    """A process from its start to its end, with record 0 durable and the shipper running."""
    world = World(
        directory,
        log,
        seed=seed,
        checkpoints=checkpoints or MemoryCheckpoints(),
        settings=settings or ShipperSettings(enrolment_token=TOKEN),
        sealed_to=sealed_to,
    )
    try:
        await asyncio.shield(world.start_journal().durable)
        if runs:
            world.run()
        yield world
    finally:
        await world.end()
        await world.journal.close()
