# SPDX-License-Identifier: Apache-2.0
"""The assembly of an audit log: from a configuration to running parts. Beside `wiring`, it alone names adapters."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Generic, TypeVar

from iap_authz.adapters.audit_grpc.server import AuditServer
from iap_authz.adapters.clock import SystemClock
from iap_authz.adapters.facts.files import FileSource
from iap_authz.adapters.http.server import TileServer
from iap_authz.adapters.keys.file import load_retired, load_signers
from iap_authz.adapters.stores.head_sqlite import SqliteHeadStore
from iap_authz.adapters.stores.posix import PosixTileStore
from iap_authz.adapters.telemetry.jsonlog import start_logging
from iap_authz.adapters.trail.companions import SqlCompanions
from iap_authz.adapters.trail.index import SqlIndex
from iap_authz.adapters.trail.key_marks import INDEX, SqlKeyMarks
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.seal_epochs import SqlSealEpochs
from iap_authz.adapters.trail.store import open_trail
from iap_authz.adapters.trail.trail_lock import SharedTrail
from iap_authz.errors import ConfigInvalid, IapError
from iap_authz.log.own_records import OwnRecords
from iap_authz.log.recover import Recovered, recover_log
from iap_authz.log.restart import restart_writers
from iap_authz.log.sealing import Sealing
from iap_authz.log.sequencer import Sequencer
from iap_authz.log.service import AuditLog
from iap_authz.log.writers import Writers
from iap_authz.log_config import LogConfig, is_local, parse_enrolment
from iap_authz.ports import Caller
from iap_authz.privacy_wiring import (
    LogParts,
    caller_of,
    check_key_marks,
    load_keys,
    make_privacy,
    make_unsealing,
    open_access,
)
from iap_authz.tlog.note import NoteSigner
from iap_authz.trail.indexer import Indexer
from iap_authz.trail.opener import Unsealing
from iap_authz.trail.privacy import Privacy
from iap_authz.trail.reader import TrailReader
from iap_authz.trail.records import Trail
from iap_authz.trail.worker import Worker

STOP_GRACE_SECONDS = 5.0
"""For calls that are under way when the process is asked to end."""

T = TypeVar("T")

_log = logging.getLogger("iap_authz.serve")


def log_to_stderr(level: str) -> None:
    """Operational logs of this process go to standard error as JSON Lines, from `level` on."""
    start_logging(level)


class TokenTable(Generic[T]):
    """A file of tokens, read again when it has changed; a broken one leaves what was known in force."""

    def __init__(self, source: FileSource[Mapping[str, T]]) -> None:
        """Raises ConfigInvalid or SourceUnavailable."""
        self._source = source
        self._version = source.version()
        self._known = source.load()

    def known(self) -> Mapping[str, T]:
        """What is said of each token, by its SHA-256."""
        version = self._source.version()
        if version != self._version:
            try:
                self._known, self._version = self._source.load(), version
            except IapError as error:
                message = f"the {self._source.name} file cannot be used"
                _log.error(message, extra={"problem": str(error)})
        return self._known


class LogProcess:
    """Everything of one audit log in one process, in the order it starts; it ends backwards."""

    def __init__(self, config: LogConfig, *, insecure_public: bool = False, reindex: bool = False) -> None:
        """Recover the log. Call from the running loop. Raises Invalid, NotProven, OSError."""
        _check_addresses(config, insecure_public=insecure_public)
        signers, retired = _load_signers(config), load_retired(config.key_file)
        self._config = config
        self._keys = load_keys(config)
        self._enrolment = TokenTable(FileSource("enrolment", config.enrolment_file, parse_enrolment))
        access_file = config.privacy.access_file
        self._access = None if access_file is None else TokenTable(open_access(access_file))
        self._tiles = PosixTileStore(config.directory)
        self._heads = SqliteHeadStore(config.head_file)
        self._trail = SharedTrail(config.trail_file)
        self._engine = open_trail(config.trail_file)
        ledger, self._index = SqlLedger(self._engine, origin=config.origin), SqlIndex(self._engine)
        self._check_index(reindex=reindex)
        self._clock = SystemClock()
        recovered = recover_log(self._tiles, self._heads, signers=signers, clock=self._clock, retired=retired)
        self._sequencer = self._make_sequencer(recovered, signers, ledger)
        states = restart_writers(recovered, ledger, self._sequencer.reader, signers=signers)
        self._sealing = Sealing(
            None if self._keys is None else self._keys.vault,
            SqlSealEpochs(self._engine),
            signers=signers,
            in_thread=self._sequencer.in_thread,
        )
        self._log = AuditLog(
            self._sequencer,
            Writers(config.origin, states),
            ledger=ledger,
            index=self._index,
            companions=SqlCompanions(self._engine),
            sealing=self._sealing,
            verifiers=[signer.verifier() for signer in signers],
            enrolled=self._enrolment.known,
            retired=retired,
        )
        self._worker, self._stopping = Worker(), asyncio.Event()

    def _check_index(self, *, reindex: bool) -> None:
        marks = SqlKeyMarks(self._engine)
        if reindex:
            self._index.clear()
            marks.forget(INDEX)
        if self._keys is not None:
            check_key_marks(self._keys, marks)

    def _make_sequencer(self, recovered: Recovered, signers: Sequence[NoteSigner], ledger: SqlLedger) -> Sequencer:
        return Sequencer(
            recovered,
            signers=signers,
            tiles=self._tiles,
            heads=self._heads,
            ledger=ledger,
            clock=self._clock,
            round_seconds=self._config.round_interval.total_seconds(),
            publish_seconds=self._config.publish_interval.total_seconds(),
        )

    def stop(self) -> None:
        """End `serve`: what was taken is committed and published."""
        self._stopping.set()

    async def serve(self, started: Callable[[int, int], None] = lambda _grpc, _http: None) -> None:
        """Run until `stop`. `started` gets the ports (0 for a socket, or where HTTP is not served).

        Raises HeadMoved, OSError or Unavailable when a commit fails: the process must end (rule C3).
        """
        loop, frozen = asyncio.get_running_loop(), self._sequencer.frozen
        if frozen is not None:
            _log.critical("the log is frozen: it proves and takes nothing", extra={"problem": frozen.because})
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        unsealing = make_unsealing(self._keys, SqlCompanions(self._engine), origin=self._config.origin)
        server, privacy = self._make_server(unsealing)
        tiles = self._tile_server()
        indexer = Indexer(self._sequencer.reader, self._index, self._worker.run, unsealing=unsealing)
        works: list[asyncio.Task[object]] = [
            loop.create_task(self._sequencer.run()),
            loop.create_task(indexer.run()),
            loop.create_task(self._stopping.wait()),
            *(loop.create_task(work) for work in privacy),
        ]
        try:
            ports = await server.start(), 0 if tiles is None else await tiles.start()
            started(*ports)
            await server.set_ready(ready=True)
            gc.collect()
            gc.freeze()
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            await server.stop(STOP_GRACE_SECONDS)
            if tiles is not None:
                await tiles.stop()
            await self._finish(works)

    def _make_server(
        self, unsealing: Unsealing | None
    ) -> tuple[AuditServer, tuple[Coroutine[object, object, None], ...]]:
        """The server, and the tasks that go on behind what it is asked."""
        leaves, run, origin = self._sequencer.reader, self._worker.run, self._config.origin
        trail = Trail(
            leaves=leaves,
            index=self._index,
            ledger=SqlLedger(self._engine),
            evidence=self._log.evidence,
            run=run,
            unsealing=unsealing,
        )
        parts = None
        if self._keys is not None and unsealing is not None:
            log = LogParts(
                reader=TrailReader(origin=origin, leaves=leaves, index=self._index, run=run),
                unsealing=unsealing,
                sealing=self._sealing,
                own=OwnRecords(self._sequencer, self._sealing, origin=origin),
                engine=self._engine,
                clock=self._clock,
            )
            parts = make_privacy(self._config, self._keys, log)
        privacy = Privacy(self._log, leaves, run=run, sealed=None if parts is None else parts.sealed)
        server = AuditServer(self._log, trail, address=self._config.listen, privacy=privacy, identify=self._identify)
        return server, () if parts is None else parts.works

    def _identify(self, token: str) -> Caller | None:
        return None if self._access is None else caller_of(token, self._access.known())

    async def _finish(self, works: "Sequence[asyncio.Task[object]]") -> None:
        """The sequencer ends by itself, after its last round; all else is cancelled."""
        sequencing, *others = works
        self._sequencer.stop()
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await sequencing
        self._worker.close()
        self._heads.close()
        self._engine.dispose()
        self._trail.release()

    def _tile_server(self) -> TileServer | None:
        if not self._config.listen_http:
            return None
        return TileServer(self._tiles, address=self._config.listen_http, serve_entries=self._config.serve_entries)


def _load_signers(config: LogConfig) -> tuple[NoteSigner, ...]:
    """The log's keys, which are named like its origin."""
    signers = load_signers(config.key_file)
    if signers[0].name != config.origin:
        message = f"got a key named {signers[0].name}, want {config.origin}: a log's key is named like its origin"
        raise ConfigInvalid.of_file(config.key_file, message)
    return signers


def _check_addresses(config: LogConfig, *, insecure_public: bool) -> None:
    """Who can reach the log can read every record in this version: only this machine, unless that is said out loud."""
    for address in (config.listen, config.listen_http):
        if not is_local(address) and not insecure_public:
            message = f"got the address {address}, want loopback or a socket; --insecure-public lets everybody read"
            raise ConfigInvalid.of_file("listen", message)


async def serve_log(
    config: LogConfig,
    *,
    insecure_public: bool = False,
    reindex: bool = False,
    started: Callable[[int, int], None] = lambda _grpc, _http: None,
) -> None:
    """Serve `config` until SIGTERM or SIGINT. Raises like LogProcess."""
    await LogProcess(config, insecure_public=insecure_public, reindex=reindex).serve(started)
