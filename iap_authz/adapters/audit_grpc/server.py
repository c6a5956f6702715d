# SPDX-License-Identifier: Apache-2.0
"""The gRPC server of the audit log: writers, proofs, records, privacy and operation, and gRPC health.

The invariant: a call takes bounded time, a stream bounded memory, and neither can take all places of the other.

    AuditWriter, AuditProofs, AuditRecords            whole
    AuditPrivacy                                      whole, if the assembly gave a PrivacyService
    AuditAdmin                                        GetLogState, ListWriters; RetireWriter with a PrivacyService

All else that `iap.audit.v1` has is UNIMPLEMENTED. Who may call AuditPrivacy and RetireWriter the service decides; it is
told whom the bearer token of the call names (`callers`). Who may call the rest is not decided here: the address is
loopback or a Unix socket (mode 0660) unless the assembly was told otherwise. Memory is bounded by places times message
size; a queue that is full is the service's to refuse.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.audit_grpc.callers import Identify, nobody
from iap_authz.adapters.audit_grpc.calls import Calls, Handler
from iap_authz.adapters.audit_grpc.socket_lock import SocketLock
from iap_authz.errors import ConfigInvalid
from iap_authz.ports import LogService, PrivacyService, TrailService

PACKAGE = "iap.audit.v1"
SERVICES = ("AuditWriter", "AuditProofs", "AuditRecords", "AuditPrivacy", "AuditAdmin")
"""The services of the package, by name; health knows those that are served as `iap.audit.v1.<name>`."""

UNIX_PREFIX = "unix:"
SOCKET_UMASK = 0o117
"""Socket mode 0660: owner and group, nobody else."""

MESSAGE_MAX_BYTES = 8 * 1024 * 1024
"""Of a request, also when it arrives compressed: room for a batch of 128 records of the largest size."""

CALLS_MAX = 1000
"""Calls at a time, streams among them; more are refused with RESOURCE_EXHAUSTED before they are read."""

STREAMS_MAX = 500
"""Streams at a time: half of the places, so that followers never shut writers out."""

UNARY_MAX_SECONDS = 10.0
"""Of a call with one answer. A round of the log takes well under a second; a caller that waits longer asks again."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # two servers on one port would share its calls
    ("grpc.max_concurrent_streams", CALLS_MAX),
    ("grpc.keepalive_time_ms", 60_000),  # a follower whose machine has gone gives its place back within 80 s
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # a peer that pings more often is sent away
    ("grpc.keepalive_permit_without_calls", 1),  # a sidecar keeps its connection between batches
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a server takes at most."""

    max_message_bytes: int = MESSAGE_MAX_BYTES
    calls_max: int = CALLS_MAX
    streams_max: int = STREAMS_MAX
    unary_max_seconds: float = UNARY_MAX_SECONDS


class AuditServer:
    """Serves one log and its trail on one address until stopped. Made and used in the event loop's thread."""

    def __init__(
        self,
        log: LogService,
        trail: TrailService,
        *,
        address: str,
        privacy: PrivacyService | None = None,
        identify: Identify = nobody,
        bounds: Bounds = Bounds(),
    ) -> None:
        """`privacy` answers AuditPrivacy and RetireWriter to callers that `identify` knows; None: nobody does."""
        self._address = address
        self._lock: SocketLock | None = None
        self._health = health.aio.HealthServicer()
        self._calls = Calls(unary_max_seconds=bounds.unary_max_seconds, streams_max=bounds.streams_max)
        options = (*_OPTIONS, ("grpc.max_receive_message_length", bounds.max_message_bytes))
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=bounds.calls_max)
        served = _handlers(self._calls, log, trail)
        if privacy is not None:
            served["AuditPrivacy"] = _privacy_handlers(self._calls, privacy, identify=identify)
            served["AuditAdmin"]["RetireWriter"] = self._calls.unary_as(
                log_pb2.RetireWriterRequest, privacy.retire_writer, identify=identify
            )
        self._services = tuple(served)
        for service, handlers in served.items():
            generic = grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", handlers)
            self._server.add_generic_rpc_handlers((generic,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> int:
        """Bind and serve, not ready yet. Returns the TCP port (0 for a Unix socket).

        Raises ConfigInvalid where the address cannot be bound or another live process has it.
        """
        unix = self._address.startswith(UNIX_PREFIX)
        if unix:
            self._lock = SocketLock(Path(self._address.removeprefix(UNIX_PREFIX)))
        await self.set_ready(ready=False)
        previous = os.umask(SOCKET_UMASK)
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            self._release()
            raise ConfigInvalid.of_file(self._address, f"cannot listen: {error}") from None
        finally:
            os.umask(previous)
        await self._server.start()
        return 0 if unix else port

    async def set_ready(self, *, ready: bool) -> None:
        """What gRPC health answers, for the server as a whole and for each service."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *(f"{PACKAGE}.{name}" for name in self._services)):
            await self._health.set(service, status)

    async def stop(self, grace_seconds: float) -> None:
        """Say "not ready", end the streams, let calls in flight end, take nothing new, release the address."""
        await self._health.enter_graceful_shutdown()
        self._calls.end_streams()
        await self._server.stop(grace_seconds)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _privacy_handlers(calls: Calls, privacy: PrivacyService, *, identify: Identify) -> dict[str, Handler]:
    """The methods of AuditPrivacy, by name; each is told who calls."""
    return {
        "Unseal": calls.unary_as(log_pb2.UnsealRequest, privacy.unseal, identify=identify),
        "EraseSubject": calls.unary_as(log_pb2.EraseSubjectRequest, privacy.erase_subject, identify=identify),
        "GetErasure": calls.unary_as(log_pb2.GetErasureRequest, privacy.get_erasure, identify=identify),
        "ListErasures": calls.unary_as(log_pb2.ListErasuresRequest, privacy.list_erasures, identify=identify),
        "PlaceLegalHold": calls.unary_as(log_pb2.PlaceLegalHoldRequest, privacy.place_hold, identify=identify),
        "ReleaseLegalHold": calls.unary_as(log_pb2.ReleaseLegalHoldRequest, privacy.release_hold, identify=identify),
        "ListLegalHolds": calls.unary_as(log_pb2.ListLegalHoldsRequest, privacy.list_holds, identify=identify),
    }


def _handlers(calls: Calls, log: LogService, trail: TrailService) -> dict[str, dict[str, Handler]]:
    """Every method that everybody may call, by service and name."""
    return {
        "AuditWriter": {
            "Register": calls.unary(log_pb2.RegisterRequest, log.register),
            "Append": calls.unary(log_pb2.AppendRequest, log.append),
            "GetReceipts": calls.unary(log_pb2.GetReceiptsRequest, log.get_receipts),
        },
        "AuditProofs": {
            "GetCheckpoint": calls.unary(log_pb2.GetCheckpointRequest, log.get_checkpoint),
            "WatchCheckpoints": calls.stream(log_pb2.WatchCheckpointsRequest, log.watch_checkpoints),
            "GetInclusionProof": calls.unary(log_pb2.GetInclusionProofRequest, log.prove_inclusion),
            "GetConsistencyProof": calls.unary(log_pb2.GetConsistencyProofRequest, log.prove_consistency),
            "GetRangeProof": calls.unary(log_pb2.GetRangeProofRequest, log.prove_range),
            "GetTile": calls.unary(log_pb2.GetTileRequest, log.get_tile),
        },
        "AuditRecords": {
            "GetRecord": calls.unary(log_pb2.GetRecordRequest, trail.get_record),
            "GetEntries": calls.stream(log_pb2.GetEntriesRequest, trail.get_entries),
            "SearchRecords": calls.unary(log_pb2.SearchRecordsRequest, trail.search_records),
            "TailRecords": calls.stream(log_pb2.TailRecordsRequest, trail.tail_records),
        },
        "AuditAdmin": {
            "GetLogState": calls.unary(log_pb2.GetLogStateRequest, log.get_state),
            "ListWriters": calls.unary(log_pb2.ListWritersRequest, log.list_writers),
        },
    }
