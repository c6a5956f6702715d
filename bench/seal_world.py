# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of sealing work with: a log process, with a vault or without, and honest writers that seal to it.

The invariant: what is sealed is sealed by the sidecar's own `SubjectKeys`, and a writer takes new seal settings only
from the log's signed note; a heartbeat of it never says a later epoch than the one that all its later records are of.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import uvloop

from bench.log import ORIGIN, TOKEN
from bench.world import make_world
from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.envoy.request import parse_check
from iap_authz.adapters.keys.file import create_key_file
from iap_authz.adapters.keys.index_key import create_index_key
from iap_authz.adapters.keys.memory import MemorySigner
from iap_authz.adapters.keys.vault_file import create_vault_file
from iap_authz.client import LogChannel
from iap_authz.config import load_config
from iap_authz.errors import LogUnavailable
from iap_authz.model.decision import Decision
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.model.roles import Role
from iap_authz.policy.evaluate import evaluate
from iap_authz.records.record import decision_record, new_record_id, service_record
from iap_authz.records.seal import SALT_BYTES, Seal
from iap_authz.records.seal_settings import VaultKey, open_settings
from iap_authz.records.started import render_started
from iap_authz.records.writerlog import WriterLog, start_writer_log
from iap_authz.sidecar.sealing import configured_settings
from iap_authz.sidecar.subject_keys import SubjectKeys
from iap_authz.tlog.hashing import leaf_hashes
from iap_authz.tlog.note import VerifierKey
from iap_authz.wiring import build_snapshot, load_slots, make_slots

DAY_SECONDS = 86_400.0
POLL_SECONDS = 0.05
LOOK_SECONDS = 0.5
"""Between two looks at the state of a log, which counts all subject keys each time: looking shall not be the load."""
START_SECONDS = 60.0

Asked = tuple[int, str]
"""The number of a record, which its path has, and whom it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """A log's folder and keys; `vault_key` is None where personal data stays open."""

    folder: Path
    verifier: VerifierKey
    vault_key: VaultKey | None

    @property
    def address(self) -> str:
        """For clients."""
        return f"unix:{self.folder / 'log.sock'}"

    @property
    def trail(self) -> Path:
        """The database of companions, ledger and index."""
        return self.folder / "store" / "trail.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A decision of the measured sidecar and the facts behind it, which all records are made of."""

    decision: Decision
    facts: facts_pb2.Facts

    @classmethod
    def establish(cls, folder: Path) -> "Known":
        """As `bench.stages` measures it: a verified token, a device of the inventory, a network."""
        world = make_world(folder)
        settings = load_config(world.config)
        slots = make_slots(settings)
        load_slots(slots, 0.0)
        snapshot = build_snapshot(settings, slots)
        facts = snapshot.establish(parse_check(world.check), datetime.now(UTC))
        return cls(decision=evaluate(snapshot.policy, facts), facts=facts)

    def facts_of(self, asked: Asked) -> facts_pb2.Facts:
        """The same facts about somebody who asked for something else."""
        number, subject = asked
        facts = facts_pb2.Facts()
        facts.CopyFrom(self.facts)
        facts.identity.subject, facts.request.path = subject, path_of(number)
        return facts


def path_of(number: int) -> str:
    """What record `number` is about, so that no other text can be taken for its own."""
    return f"/api/3/orders/{number}"


def make_log(folder: Path, *, sealed: bool) -> LogPlace:
    """The files of a log in a new folder. Its access tokens are the names of the roles."""
    folder.mkdir(parents=True)
    verifier = create_key_file(folder / "log.key", ORIGIN)
    vault, vault_key = "none", None
    if sealed:
        vault_key = create_vault_file(folder / "vault.key")
        create_index_key(folder / "index.key")
        vault = "{key_file: vault.key, index_key_file: index.key}"
    roles = "".join(f"- {{name: {one}, roles: [{one}], sha256: {_hex(one)}}}\n" for one in Role)
    (folder / "access.yaml").write_text(f"tokens:\n{roles}")
    (folder / "enrolment.yaml").write_text(f"tokens:\n- {{name: bench, sha256: {_hex(TOKEN)}}}\n")
    (folder / "log.yaml").write_text(
        f"kind: Log\norigin: {ORIGIN}\nkey_file: log.key\ndirectory: store\nlisten: unix:log.sock\n"
        f"enrolment_file: enrolment.yaml\nvault: {vault}\nprivacy: {{access_file: access.yaml}}\n"
    )
    return LogPlace(folder=folder, verifier=verifier, vault_key=vault_key)


def _hex(token: str) -> str:
    return sha256(token.encode()).hexdigest()


@contextmanager
def serving(place: LogPlace) -> Iterator[int]:
    """The log's process, from its first answer on; its id."""
    config = str(place.folder / "log.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "iap_authz", "serve", "log", "-c", config, "--log-level", "error"]
    )
    try:
        uvloop.run(_wait_ready(place))
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


async def _wait_ready(place: LogPlace) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with LogChannel(place.address, timeout_seconds=1) as channel:
        while True:
            try:
                await channel.get_state(log_pb2.GetLogStateRequest())
            except LogUnavailable:
                assert time.monotonic() < deadline, "the log did not start"
                await asyncio.sleep(POLL_SECONDS)
            else:
                return


async def sizes(channel: LogChannel) -> tuple[int, int]:
    """Leaves in the log, and in its index."""
    state = await channel.get_state(log_pb2.GetLogStateRequest())
    size = int(state.head_checkpoint.split(b"\n")[1]) if state.head_checkpoint else 0
    return size, state.indexed_size


async def wait_indexed(channel: LogChannel) -> int:
    """Until the index has all leaves; how many these are."""
    while True:
        size, indexed = await sizes(channel)
        if size == indexed:
            return size
        await asyncio.sleep(LOOK_SECONDS)


class Writer:
    """One writer. `day` moves its clock: the next records have fresh subject keys, as a day later in production.

    Batches are shipped in the order they were made; several tasks of one writer take `turn` for making and shipping.
    """

    def __init__(self, place: LogPlace, known: Known) -> None:
        self.signer = MemorySigner()
        self.log: WriterLog = start_writer_log(ORIGIN, self.signer.public_key, sign=self.signer.sign)
        self.day = 0
        self.turn = asyncio.Lock()
        self._known = known
        self._verifier = place.verifier
        self.keys: SubjectKeys | None = None
        if place.vault_key is not None:
            settings = configured_settings(ORIGIN, place.vault_key)
            self.keys = SubjectKeys(settings, writer=self.log.writer, monotonic=lambda: self.day * DAY_SECONDS)
        started = render_started(
            ORIGIN, self.signer.public_key, sign=self.signer.sign, workload="bench", instance="bench", version="0"
        )
        self._started = self._service(started)
        self._first = self._request([(self._started, None)])

    async def register(self, channel: LogChannel) -> None:
        """Become known, and ship record 0."""
        registration = log_pb2.RegisterRequest(
            public_key=self.signer.public_key,
            started=self._started,
            checkpoint=self._first.checkpoint,
            enrolment_token=TOKEN,
        )
        await channel.register(registration)
        await self.ship(channel, self._first)

    def batch(self, asked: Iterable[Asked]) -> log_pb2.AppendRequest:
        """The next records, a decision each, and the companions of those that are sealed."""
        if self.keys is not None:
            self.keys.fill()
        return self._request([self._decision(self.log.size + at, one) for at, one in enumerate(asked)])

    async def ship(self, channel: LogChannel, request: log_pb2.AppendRequest) -> log_pb2.Receipt:
        """Append a batch, and seal from now on as the answer says."""
        answer = await channel.append(request)
        assert (answer.receipt.to, answer.receipt.leaves) == (request.to, len(request.records) + 1)
        if self.keys is not None:
            said = open_settings(answer.seal_settings, [self._verifier])
            if said.seal_epoch > self.keys.settings.seal_epoch:
                self.keys.use(said)
        return answer.receipt

    async def declare(self, channel: LogChannel) -> None:
        """Say which seal epoch everything from here on is of, after having heard which one is in force."""
        assert self.keys is not None, "a writer that does not seal has nothing to declare"
        async with self.turn:
            for _ in range(2):
                heartbeat = self._service(record_pb2.Heartbeat(oldest_seal_epoch=self.keys.settings.seal_epoch))
                await self.ship(channel, self._request([(heartbeat, None)]))

    def _decision(self, sequence: int, asked: Asked) -> tuple[bytes, Seal | None]:
        facts = self._known.facts_of(asked)
        seal = None if self.keys is None else self.keys.seal_for(facts)
        record = decision_record(
            self._known.decision,
            facts,
            writer=self.log.writer,
            sequence=RecordSequence(sequence),
            record_id=new_record_id(),
            time=datetime.now(UTC),
            spent=timedelta(milliseconds=1),
            http_status=200,
            seal=seal,
        )
        return record, seal

    def _service(self, body: record_pb2.WriterStarted | record_pb2.Heartbeat) -> bytes:
        return service_record(
            body,
            writer=self.log.writer,
            sequence=RecordSequence(self.log.size),
            record_id=new_record_id(),
            time=datetime.now(UTC),
        )

    def _request(self, made: Sequence[tuple[bytes, Seal | None]]) -> log_pb2.AppendRequest:
        begin, records = self.log.size, [record for record, _ in made]
        self.log, note = self.log.commit(leaf_hashes(records))
        request = log_pb2.AppendRequest(writer=self.log.writer, to=self.log.size, records=records, checkpoint=note)
        setattr(request, "from", begin)
        for sequence, (_, seal) in enumerate(made, begin):
            if seal is not None:
                request.companions.add(sequence=sequence, salt=seal.salt, companion=seal.beside[SALT_BYTES:])
        return request
