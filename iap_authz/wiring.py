# SPDX-License-Identifier: Apache-2.0
"""From a configuration to running parts: the only file, with its own parts, that names concrete adapters."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.internal import api_implementation

from iap_authz import __version__
from iap_authz.adapters.clock import SystemClock
from iap_authz.adapters.envoy.server import CheckServer
from iap_authz.adapters.facts.inventory_file import inventory_source
from iap_authz.adapters.facts.maxmind import MaxmindSource
from iap_authz.adapters.facts.network_lists import network_lists_source
from iap_authz.adapters.journal.backlog import FileBacklog
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.keys.memory import MemorySigner
from iap_authz.adapters.telemetry.jsonlog import start_logging
from iap_authz.assertion_wiring import make_asserting
from iap_authz.client.channel import LogChannel
from iap_authz.config import SidecarConfig
from iap_authz.credential_wiring import (
    CredentialSlots,
    api_key_access,
    make_credential_slots,
    revocations_in_force,
    served_api_keys,
)
from iap_authz.errors import ConfigInvalid, SourceUnavailable
from iap_authz.facts.authorities import Authorities
from iap_authz.facts.device import Inventory, check_succession
from iap_authz.facts.keyset import KeySet
from iap_authz.facts.location import Geography, Networks
from iap_authz.identity_wiring import authorities_slot, keys_slot, make_forwarding, make_issuer, make_issuer_keys
from iap_authz.key_use_wiring import make_key_use_notes
from iap_authz.policy.compiled import Policy
from iap_authz.policy_wiring import make_policy_slot, policy_in_force
from iap_authz.ports import FactSource
from iap_authz.records.room import JournalBounds
from iap_authz.records.started import render_started
from iap_authz.seal_wiring import make_sealing
from iap_authz.shipping_wiring import load_token, make_shipper
from iap_authz.sidecar.check import Check
from iap_authz.sidecar.issuer_keys import IssuerKeys
from iap_authz.sidecar.key_uses import KeyUseNotes
from iap_authz.sidecar.refresh import Refresher, Slot
from iap_authz.sidecar.refusals import RefusalCounter
from iap_authz.sidecar.service import Measures, Sidecar, nothing_to_drain
from iap_authz.sidecar.shipper import Shipper
from iap_authz.sidecar.snapshot import DeviceSettings, LocationSettings, Snapshot, TokenCache
from iap_authz.sidecar.tasks import run_together

STOP_GRACE_SECONDS = 5.0
"""Time for checks in flight when the process is asked to end; each has a deadline far below it."""

FILE_MAX_STALE_SECONDS = 3_600.0
"""How long the last good inventory, network list or database is used after its file is gone or broken."""

T = TypeVar("T")

_log = logging.getLogger("iap_authz.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The sources of one sidecar. None: not configured."""

    policy: Slot[Policy]
    keys: Mapping[str, Slot[KeySet]]
    trust_domains: Mapping[str, Slot[Authorities]]
    device_authorities: Slot[Authorities] | None
    inventory: Slot[Inventory] | None
    networks: Slot[Networks] | None
    geography: Slot[Geography] | None
    credentials: CredentialSlots

    def all(self) -> list[Slot[object]]:
        """Every slot."""
        return [slot for slots in self.apart() for slot in slots]

    def apart(self) -> list[list[Slot[object]]]:
        """Every slot, by who is not to wait for whom. The policy is the last: its rules meet facts that are there."""
        optional = (self.device_authorities, self.inventory, self.networks, self.geography)
        others: list[Any] = [*self.keys.values(), *self.trust_domains.values()]
        others += [slot for slot in optional if slot is not None]
        return [*self.credentials.apart(), [*others, self.policy]]


def make_slots(config: SidecarConfig, fetched: Mapping[str, IssuerKeys] | None = None) -> Slots:
    """The sources that `config` names, nothing loaded yet; `fetched` are those of issuers that are asked themselves."""
    location = config.location
    return Slots(
        policy=make_policy_slot(config),
        keys={
            issuer.name: keys_slot(issuer, None if fetched is None else fetched.get(issuer.name))
            for issuer in config.issuers
        },
        trust_domains={
            domain.name: authorities_slot(f"trust-domain:{domain.name}", domain.bundle_file)
            for domain in config.trust_domains
        },
        device_authorities=authorities_slot("device-authorities", config.device.authorities_file)
        if config.device is not None and config.device.authorities_file is not None
        else None,
        inventory=_inventory_slot(config.device.inventory_file) if config.device is not None else None,
        networks=_file_slot(network_lists_source, "networks", location.networks_file),
        geography=_file_slot(MaxmindSource, "geography", location.geography_file),
        credentials=make_credential_slots(config),
    )


def _inventory_slot(path: Path) -> Slot[Inventory]:
    return Slot(
        inventory_source("inventory", path),
        max_stale_seconds=FILE_MAX_STALE_SECONDS,
        check_succession=check_succession,
    )


def _file_slot(make: Callable[[str, Path], FactSource[T]], name: str, path: Path | None) -> Slot[T] | None:
    return Slot(make(name, path), max_stale_seconds=FILE_MAX_STALE_SECONDS) if path is not None else None


def load_slots(slots: Slots, monotonic: float) -> None:
    """Load everything once. Raises Invalid or Malformed for a bad file; a missing one, but the policy, stays empty."""
    for slot in slots.all():
        try:
            slot.load(monotonic)
        except SourceUnavailable as error:
            if slot is slots.policy:
                raise
            _log.error("a source is missing; facts of it are errors until it is there", extra={"problem": str(error)})


def _served(slot: Slot[T] | None) -> T | None:
    return slot.served if slot is not None else None


def _device_settings(config: SidecarConfig, slots: Slots) -> DeviceSettings | None:
    if config.device is None:
        return None
    return DeviceSettings(
        max_inventory_age=config.device.max_inventory_age,
        max_posture_age=config.device.max_posture_age,
        authorities_configured=slots.device_authorities is not None,
    )


def build_snapshot(
    config: SidecarConfig,
    slots: Slots,
    *,
    previous: Snapshot | None = None,
    want_keys: Callable[[str], None] = lambda _issuer: None,
    notes: KeyUseNotes | None = None,
) -> Snapshot:
    """One generation from what the slots hold now. Verified credentials are kept while issuers and API keys are."""
    policy = slots.policy.served
    if policy is None:
        raise SourceUnavailable("got no policy, want one before the first check")
    issuers = tuple(make_issuer(issuer, slots.keys[issuer.name].served) for issuer in config.issuers)
    api_keys = api_key_access(config, slots.credentials)
    same = previous is not None and previous.issuers == issuers and previous.api_keys == api_keys
    location = config.location
    networks = slots.networks.served if slots.networks is not None else Networks()
    return Snapshot(
        policy=policy_in_force(policy, config),
        issuers=issuers,
        token_sources=config.token_sources,
        trust_domains={name: slot.served for name, slot in slots.trust_domains.items()},
        device=_device_settings(config, slots),
        inventory=_served(slots.inventory),
        device_authorities=_served(slots.device_authorities),
        location=LocationSettings(
            client_address=location.client_address,
            geography_configured=location.geography_file is not None or networks is None,
            max_build_age=location.max_build_age,
            country_field=location.country_field,
        ),
        networks=networks if networks is not None else Networks(),
        geography=_served(slots.geography) if networks is not None else None,
        want_keys=want_keys,
        revocations=revocations_in_force(slots.credentials),
        api_keys=api_keys,
        forwarding=make_forwarding(config),
        note_use=notes.note if notes is not None else None,
        tokens=previous.tokens if previous is not None and same else TokenCache(),
    )


def log_to_stderr(level: str) -> None:
    """Operational logs of this process go to standard error as JSON Lines, from `level` on."""
    start_logging(level)


def check_runtime() -> None:
    """Refuse to run on protobuf's pure-Python implementation: it is slow enough to miss every deadline."""
    if api_implementation.Type() != "upb":
        raise ConfigInvalid.of_file("protobuf", f"got the {api_implementation.Type()} implementation, want upb")


class SidecarProcess:
    """Everything of one sidecar in one process, in the order it starts; it ends backwards."""

    def __init__(self, config: SidecarConfig) -> None:
        """Load every source and open the journal. Raises Invalid, Malformed, SourceUnavailable or OSError."""
        check_runtime()
        self._config = config
        self._signer = MemorySigner()
        self._issuer_keys = make_issuer_keys(config, SystemClock())
        self._slots = make_slots(config, self._issuer_keys)
        monotonic = SystemClock().monotonic
        load_slots(self._slots, monotonic())
        token = load_token(config.log.enrolment_token_file) if config.log is not None else ""
        self._bounds = JournalBounds.within(config.journal.bound_bytes)
        self._journal = FileJournal.open(
            config.journal.directory, origin=config.log_origin, signer=self._signer, bounds=self._bounds
        )
        self._clock = SystemClock(floor=self._journal.predecessor_time)
        self._refusals = RefusalCounter(self._journal, self._clock)
        credentials = self._slots.credentials
        self._key_uses = make_key_use_notes(config, lambda: served_api_keys(credentials), clock=self._clock)
        self._sealing = make_sealing(config, self._journal, directory=self._journal.directory, monotonic=monotonic)
        self._asserting = make_asserting(config.assertion, self._clock)
        self._backlog = FileBacklog(self._journal)
        self._channel: LogChannel | None = None
        self._shipper: Shipper | None = None
        if config.log is not None:
            self._channel = LogChannel(config.log.address)
            self._shipper = make_shipper(
                config.log,
                self._channel,
                self._backlog,
                journal=self._journal,
                sealing=self._sealing.taker,
                clock=self._clock,
                token=token,
            )
        self._sidecar = self._make_sidecar()
        self._stopping = asyncio.Event()
        self._renewed = asyncio.Event()
        self._cause = "stopped"

    def stop(self, cause: str) -> None:
        """End `serve`: checks in flight are answered, what is left is recorded."""
        self._cause = cause
        self._stopping.set()

    async def serve(self, started: Callable[[int], None] = lambda _: None) -> None:
        """Run until `stop`. `started` gets the TCP port (0 for a socket) once checks are answered.

        Raises OSError when the journal fails: the process must end then (PROTOCOL rule W4).
        """
        if self._channel is None or self._shipper is None:
            await self._serve_checks(started)
            return
        try:
            await run_together(self._serve_checks(started), self._shipper.run())
        finally:
            await self._channel.close()

    async def _serve_checks(self, started: Callable[[int], None]) -> None:
        """The life of the writer; whoever ships it outlives it, so that its last record can be shipped too."""
        server = self._make_server()
        refreshers = [self._make_refresher(slots) for slots in self._slots.apart()]
        self._take_signals(refreshers)
        try:
            await self._sidecar.start()
            await self._asserting.start()
            started(await server.start())
            await server.set_ready(ready=True)
            gc.collect()
            gc.freeze()
            keys = self._sealing.keys
            works = [self._sidecar.run(), self._tell_sources(server), *(each.run() for each in refreshers)]
            works += [] if keys is None else [keys.run()]
            works += [] if self._key_uses is None else [self._key_uses.run()]
            works += [fetched.run(refreshers[-1].wake) for fetched in self._issuer_keys.values()]
            await run_together(self._stopping.wait(), *works, *self._asserting.works())
        finally:
            await server.stop(STOP_GRACE_SECONDS)
            await self._asserting.stop()
            if self._key_uses is not None:
                await self._key_uses.flush()
            await self._sidecar.stop(self._cause)
            self._slots.credentials.close()

    def _renew(self) -> None:
        self._sidecar.renew()
        self._renewed.set()

    async def _tell_sources(self, server: CheckServer) -> None:
        """Keep gRPC health in step with the snapshot in force, until cancelled."""
        told: tuple[str, ...] | None = None
        while True:
            self._renewed.clear()
            missing = self._sidecar.snapshot().missing
            if missing != told:
                await server.set_sources(usable=not missing)
                if missing or told:
                    said = "what proves identities is missing" if missing else "what proves identities is all there"
                    _log.warning(said, extra={"missing": ", ".join(missing)})
            told = missing
            await self._renewed.wait()

    def _want_keys(self, issuer: str) -> None:
        for config in self._config.issuers:
            if config.issuer == issuer and config.name in self._issuer_keys:
                self._issuer_keys[config.name].want()

    def _make_refresher(self, slots: Sequence[Slot[object]]) -> Refresher:
        return Refresher(
            slots,
            interval_seconds=self._config.refresh_interval.total_seconds(),
            monotonic=self._clock.monotonic,
            changed=self._renew,
        )

    def _take_signals(self, refreshers: Sequence[Refresher]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, "sigterm")
        loop.add_signal_handler(signal.SIGINT, self.stop, "sigint")
        loop.add_signal_handler(signal.SIGHUP, _wake_all, refreshers)

    def _make_server(self) -> CheckServer:
        check = Check(
            snapshot=self._sidecar.snapshot,
            journal=self._journal,
            clock=self._clock,
            refusals=self._refusals,
            seals=self._sealing.seals,
            max_in_flight=self._config.max_in_flight,
            shipping=self._shipper,
            asserter=self._asserting.asserter,
        )
        return CheckServer(
            check,
            address=self._config.listen,
            monotonic=self._clock.monotonic,
            deadline_seconds=self._config.deadline.total_seconds(),
        )

    def _make_sidecar(self) -> Sidecar:
        body = render_started(
            self._config.log_origin,
            self._signer.public_key,
            sign=self._signer.sign,
            workload=self._config.workload,
            instance=self._config.instance,
            version=__version__,
            predecessor=self._journal.predecessor,
        )
        shipper = self._shipper
        if shipper is not None:
            body.log_checkpoint = shipper.log_checkpoint
        return Sidecar(
            journal=self._journal,
            clock=self._clock,
            refusals=self._refusals,
            started=body,
            build=lambda previous: build_snapshot(
                self._config, self._slots, previous=previous, want_keys=self._want_keys, notes=self._key_uses
            ),
            measure=self._measure,
            drain=shipper.drain if shipper is not None else nothing_to_drain,
        )

    def _measure(self) -> Measures:
        now = self._clock.monotonic()
        return Measures(
            journal_bytes=self._journal.used_bytes,
            journal_bound_bytes=self._bounds.bound_bytes,
            source_ages={slot.name: slot.age_seconds(now) for slot in self._slots.all()},
            log_checkpoint=self._shipper.log_checkpoint if self._shipper is not None else b"",
            shipped_sequence=self._shipper.position if self._shipper is not None else 0,
            oldest_seal_epoch=self._sealing.oldest_epoch(self._backlog),
        )


def _wake_all(refreshers: Sequence[Refresher]) -> None:
    for refresher in refreshers:
        refresher.wake()


async def serve_sidecar(config: SidecarConfig, started: Callable[[int], None] = lambda _: None) -> None:
    """Serve `config` until SIGTERM or SIGINT. Raises like SidecarProcess."""
    await SidecarProcess(config).serve(started)
