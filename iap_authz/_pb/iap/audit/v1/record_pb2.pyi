import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2 as _facts_pb2
from iap_authz._pb.iap.facts.v1 import reason_pb2 as _reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    ALLOW: _ClassVar[Verdict]
    DENY: _ClassVar[Verdict]
    CHALLENGE: _ClassVar[Verdict]
    UNDECIDED: _ClassVar[Verdict]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    JOURNAL: _ClassVar[Durability]
    LOG: _ClassVar[Durability]
VERDICT_UNSPECIFIED: Verdict
ALLOW: Verdict
DENY: Verdict
CHALLENGE: Verdict
UNDECIDED: Verdict
DURABILITY_UNSPECIFIED: Durability
JOURNAL: Durability
LOG: Durability

class Record(_message.Message):
    __slots__ = ("id", "writer", "sequence", "time", "open", "sealed", "decision", "outcome", "refusals", "policy_chunk", "policy_loaded", "writer_started", "writer_stopped", "heartbeat", "writer_registered", "writer_retired", "writer_checkpoint", "log_read", "erasure", "legal_hold", "setting_changed", "alert", "external")
    ID_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    POLICY_CHUNK_FIELD_NUMBER: _ClassVar[int]
    POLICY_LOADED_FIELD_NUMBER: _ClassVar[int]
    WRITER_STARTED_FIELD_NUMBER: _ClassVar[int]
    WRITER_STOPPED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    WRITER_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    WRITER_RETIRED_FIELD_NUMBER: _ClassVar[int]
    WRITER_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LOG_READ_FIELD_NUMBER: _ClassVar[int]
    ERASURE_FIELD_NUMBER: _ClassVar[int]
    LEGAL_HOLD_FIELD_NUMBER: _ClassVar[int]
    SETTING_CHANGED_FIELD_NUMBER: _ClassVar[int]
    ALERT_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    writer: bytes
    sequence: int
    time: _timestamp_pb2.Timestamp
    open: PersonalPart
    sealed: SealedPart
    decision: Decision
    outcome: Outcome
    refusals: Refusals
    policy_chunk: PolicyChunk
    policy_loaded: PolicyLoaded
    writer_started: WriterStarted
    writer_stopped: WriterStopped
    heartbeat: Heartbeat
    writer_registered: WriterRegistered
    writer_retired: WriterRetired
    writer_checkpoint: WriterCheckpoint
    log_read: LogRead
    erasure: Erasure
    legal_hold: LegalHold
    setting_changed: SettingChanged
    alert: Alert
    external: External
    def __init__(self, id: _Optional[bytes] = ..., writer: _Optional[bytes] = ..., sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., open: _Optional[_Union[PersonalPart, _Mapping]] = ..., sealed: _Optional[_Union[SealedPart, _Mapping]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., refusals: _Optional[_Union[Refusals, _Mapping]] = ..., policy_chunk: _Optional[_Union[PolicyChunk, _Mapping]] = ..., policy_loaded: _Optional[_Union[PolicyLoaded, _Mapping]] = ..., writer_started: _Optional[_Union[WriterStarted, _Mapping]] = ..., writer_stopped: _Optional[_Union[WriterStopped, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., writer_registered: _Optional[_Union[WriterRegistered, _Mapping]] = ..., writer_retired: _Optional[_Union[WriterRetired, _Mapping]] = ..., writer_checkpoint: _Optional[_Union[WriterCheckpoint, _Mapping]] = ..., log_read: _Optional[_Union[LogRead, _Mapping]] = ..., erasure: _Optional[_Union[Erasure, _Mapping]] = ..., legal_hold: _Optional[_Union[LegalHold, _Mapping]] = ..., setting_changed: _Optional[_Union[SettingChanged, _Mapping]] = ..., alert: _Optional[_Union[Alert, _Mapping]] = ..., external: _Optional[_Union[External, _Mapping]] = ...) -> None: ...

class PersonalPart(_message.Message):
    __slots__ = ("decision", "outcome", "log_read", "alert", "external")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOG_READ_FIELD_NUMBER: _ClassVar[int]
    ALERT_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    decision: DecisionPersonal
    outcome: OutcomePersonal
    log_read: LogReadPersonal
    alert: AlertPersonal
    external: ExternalPersonal
    def __init__(self, decision: _Optional[_Union[DecisionPersonal, _Mapping]] = ..., outcome: _Optional[_Union[OutcomePersonal, _Mapping]] = ..., log_read: _Optional[_Union[LogReadPersonal, _Mapping]] = ..., alert: _Optional[_Union[AlertPersonal, _Mapping]] = ..., external: _Optional[_Union[ExternalPersonal, _Mapping]] = ...) -> None: ...

class DecisionPersonal(_message.Message):
    __slots__ = ("facts", "parent_audit_id")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    PARENT_AUDIT_ID_FIELD_NUMBER: _ClassVar[int]
    facts: _facts_pb2.Facts
    parent_audit_id: str
    def __init__(self, facts: _Optional[_Union[_facts_pb2.Facts, _Mapping]] = ..., parent_audit_id: _Optional[str] = ...) -> None: ...

class OutcomePersonal(_message.Message):
    __slots__ = ("upstream_address", "request_id", "trace_id")
    UPSTREAM_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    upstream_address: str
    request_id: str
    trace_id: str
    def __init__(self, upstream_address: _Optional[str] = ..., request_id: _Optional[str] = ..., trace_id: _Optional[str] = ...) -> None: ...

class LogReadPersonal(_message.Message):
    __slots__ = ("reader", "address", "query", "purpose")
    READER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    reader: str
    address: str
    query: str
    purpose: str
    def __init__(self, reader: _Optional[str] = ..., address: _Optional[str] = ..., query: _Optional[str] = ..., purpose: _Optional[str] = ...) -> None: ...

class AlertPersonal(_message.Message):
    __slots__ = ("subject", "device", "address", "detail")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    subject: str
    device: str
    address: str
    detail: str
    def __init__(self, subject: _Optional[str] = ..., device: _Optional[str] = ..., address: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class ExternalPersonal(_message.Message):
    __slots__ = ("event", "subject", "request_id", "trace_id")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    event: bytes
    subject: str
    request_id: str
    trace_id: str
    def __init__(self, event: _Optional[bytes] = ..., subject: _Optional[str] = ..., request_id: _Optional[str] = ..., trace_id: _Optional[str] = ...) -> None: ...

class SealedPart(_message.Message):
    __slots__ = ("version", "ciphertext", "key_commitment", "companion_sha256")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    KEY_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    COMPANION_SHA256_FIELD_NUMBER: _ClassVar[int]
    version: int
    ciphertext: bytes
    key_commitment: bytes
    companion_sha256: bytes
    def __init__(self, version: _Optional[int] = ..., ciphertext: _Optional[bytes] = ..., key_commitment: _Optional[bytes] = ..., companion_sha256: _Optional[bytes] = ...) -> None: ...

class Companion(_message.Message):
    __slots__ = ("sealed_subject_key", "key_id", "vault_epoch", "seal_epoch")
    SEALED_SUBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VAULT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEAL_EPOCH_FIELD_NUMBER: _ClassVar[int]
    sealed_subject_key: bytes
    key_id: bytes
    vault_epoch: int
    seal_epoch: int
    def __init__(self, sealed_subject_key: _Optional[bytes] = ..., key_id: _Optional[bytes] = ..., vault_epoch: _Optional[int] = ..., seal_epoch: _Optional[int] = ...) -> None: ...

class CompanionEntry(_message.Message):
    __slots__ = ("sequence", "salt", "companion")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    COMPANION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    salt: bytes
    companion: bytes
    def __init__(self, sequence: _Optional[int] = ..., salt: _Optional[bytes] = ..., companion: _Optional[bytes] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("verdict", "reason", "rule", "route", "policy_digest", "durability", "missing", "shadow", "identity", "device", "location", "request", "country", "posture", "http_status", "spent", "challenge")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    POSTURE_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    reason: _reason_pb2.Reason
    rule: str
    route: str
    policy_digest: bytes
    durability: Durability
    missing: _containers.RepeatedScalarFieldContainer[str]
    shadow: _containers.RepeatedCompositeFieldContainer[ShadowResult]
    identity: FamilyState
    device: FamilyState
    location: FamilyState
    request: FamilyState
    country: str
    posture: Posture
    http_status: int
    spent: _duration_pb2.Duration
    challenge: str
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., reason: _Optional[_Union[_reason_pb2.Reason, str]] = ..., rule: _Optional[str] = ..., route: _Optional[str] = ..., policy_digest: _Optional[bytes] = ..., durability: _Optional[_Union[Durability, str]] = ..., missing: _Optional[_Iterable[str]] = ..., shadow: _Optional[_Iterable[_Union[ShadowResult, _Mapping]]] = ..., identity: _Optional[_Union[FamilyState, _Mapping]] = ..., device: _Optional[_Union[FamilyState, _Mapping]] = ..., location: _Optional[_Union[FamilyState, _Mapping]] = ..., request: _Optional[_Union[FamilyState, _Mapping]] = ..., country: _Optional[str] = ..., posture: _Optional[_Union[Posture, _Mapping]] = ..., http_status: _Optional[int] = ..., spent: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., challenge: _Optional[str] = ...) -> None: ...

class FamilyState(_message.Message):
    __slots__ = ("state", "age", "problem")
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    state: _facts_pb2.State
    age: _duration_pb2.Duration
    problem: _reason_pb2.Reason
    def __init__(self, state: _Optional[_Union[_facts_pb2.State, str]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., problem: _Optional[_Union[_reason_pb2.Reason, str]] = ...) -> None: ...

class Posture(_message.Message):
    __slots__ = ("managed", "disk_encrypted", "screen_lock", "firewall", "enrolled", "revoked", "lost")
    MANAGED_FIELD_NUMBER: _ClassVar[int]
    DISK_ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    SCREEN_LOCK_FIELD_NUMBER: _ClassVar[int]
    FIREWALL_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    managed: bool
    disk_encrypted: bool
    screen_lock: bool
    firewall: bool
    enrolled: bool
    revoked: bool
    lost: bool
    def __init__(self, managed: _Optional[bool] = ..., disk_encrypted: _Optional[bool] = ..., screen_lock: _Optional[bool] = ..., firewall: _Optional[bool] = ..., enrolled: _Optional[bool] = ..., revoked: _Optional[bool] = ..., lost: _Optional[bool] = ...) -> None: ...

class ShadowResult(_message.Message):
    __slots__ = ("rule", "verdict")
    RULE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    rule: str
    verdict: Verdict
    def __init__(self, rule: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("decision", "kind", "reason", "http_status", "request_bytes", "response_bytes", "duration", "response_flags", "response_code_details", "upstream_cluster", "upstream_reached")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Outcome.Kind]
        ANSWER_WITHHELD: _ClassVar[Outcome.Kind]
        ANSWER_CANCELLED: _ClassVar[Outcome.Kind]
        REQUEST_FINISHED: _ClassVar[Outcome.Kind]
        REQUEST_CONTINUES: _ClassVar[Outcome.Kind]
    KIND_UNSPECIFIED: Outcome.Kind
    ANSWER_WITHHELD: Outcome.Kind
    ANSWER_CANCELLED: Outcome.Kind
    REQUEST_FINISHED: Outcome.Kind
    REQUEST_CONTINUES: Outcome.Kind
    DECISION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FLAGS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CODE_DETAILS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_REACHED_FIELD_NUMBER: _ClassVar[int]
    decision: bytes
    kind: Outcome.Kind
    reason: _reason_pb2.Reason
    http_status: int
    request_bytes: int
    response_bytes: int
    duration: _duration_pb2.Duration
    response_flags: _containers.RepeatedScalarFieldContainer[str]
    response_code_details: str
    upstream_cluster: str
    upstream_reached: bool
    def __init__(self, decision: _Optional[bytes] = ..., kind: _Optional[_Union[Outcome.Kind, str]] = ..., reason: _Optional[_Union[_reason_pb2.Reason, str]] = ..., http_status: _Optional[int] = ..., request_bytes: _Optional[int] = ..., response_bytes: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., response_flags: _Optional[_Iterable[str]] = ..., response_code_details: _Optional[str] = ..., upstream_cluster: _Optional[str] = ..., upstream_reached: _Optional[bool] = ...) -> None: ...

class Refusals(_message.Message):
    __slots__ = ("reason", "count", "to", "verdict")
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    reason: _reason_pb2.Reason
    count: int
    to: _timestamp_pb2.Timestamp
    verdict: Verdict
    def __init__(self, reason: _Optional[_Union[_reason_pb2.Reason, str]] = ..., count: _Optional[int] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., **kwargs) -> None: ...

class PolicyChunk(_message.Message):
    __slots__ = ("digest", "index", "count", "bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    index: int
    count: int
    bytes: bytes
    def __init__(self, digest: _Optional[bytes] = ..., index: _Optional[int] = ..., count: _Optional[int] = ..., bytes: _Optional[bytes] = ...) -> None: ...

class PolicyLoaded(_message.Message):
    __slots__ = ("digest", "name", "previous_digest", "source", "signer", "routes", "candidate")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    name: str
    previous_digest: bytes
    source: str
    signer: str
    routes: int
    candidate: bool
    def __init__(self, digest: _Optional[bytes] = ..., name: _Optional[str] = ..., previous_digest: _Optional[bytes] = ..., source: _Optional[str] = ..., signer: _Optional[str] = ..., routes: _Optional[int] = ..., candidate: _Optional[bool] = ...) -> None: ...

class WriterStarted(_message.Message):
    __slots__ = ("public_key", "possession_signature", "log_origin", "workload", "predecessor", "predecessor_checkpoint", "log_checkpoint", "version", "worker", "instance")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    POSSESSION_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    LOG_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    PREDECESSOR_FIELD_NUMBER: _ClassVar[int]
    PREDECESSOR_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LOG_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    possession_signature: bytes
    log_origin: str
    workload: str
    predecessor: bytes
    predecessor_checkpoint: bytes
    log_checkpoint: bytes
    version: str
    worker: int
    instance: str
    def __init__(self, public_key: _Optional[bytes] = ..., possession_signature: _Optional[bytes] = ..., log_origin: _Optional[str] = ..., workload: _Optional[str] = ..., predecessor: _Optional[bytes] = ..., predecessor_checkpoint: _Optional[bytes] = ..., log_checkpoint: _Optional[bytes] = ..., version: _Optional[str] = ..., worker: _Optional[int] = ..., instance: _Optional[str] = ...) -> None: ...

class WriterStopped(_message.Message):
    __slots__ = ("cause", "log_checkpoint", "records")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    LOG_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    cause: str
    log_checkpoint: bytes
    records: int
    def __init__(self, cause: _Optional[str] = ..., log_checkpoint: _Optional[bytes] = ..., records: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("log_checkpoint", "journal_bytes", "journal_bound_bytes", "shipped_sequence", "envoy", "source_age", "oldest_seal_epoch")
    class SourceAgeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _duration_pb2.Duration
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
    LOG_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_BOUND_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHIPPED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ENVOY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_AGE_FIELD_NUMBER: _ClassVar[int]
    OLDEST_SEAL_EPOCH_FIELD_NUMBER: _ClassVar[int]
    log_checkpoint: bytes
    journal_bytes: int
    journal_bound_bytes: int
    shipped_sequence: int
    envoy: _containers.RepeatedCompositeFieldContainer[EnvoyCounters]
    source_age: _containers.MessageMap[str, _duration_pb2.Duration]
    oldest_seal_epoch: int
    def __init__(self, log_checkpoint: _Optional[bytes] = ..., journal_bytes: _Optional[int] = ..., journal_bound_bytes: _Optional[int] = ..., shipped_sequence: _Optional[int] = ..., envoy: _Optional[_Iterable[_Union[EnvoyCounters, _Mapping]]] = ..., source_age: _Optional[_Mapping[str, _duration_pb2.Duration]] = ..., oldest_seal_epoch: _Optional[int] = ...) -> None: ...

class EnvoyCounters(_message.Message):
    __slots__ = ("instance", "epoch", "counters")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    instance: str
    epoch: int
    counters: _containers.ScalarMap[str, int]
    def __init__(self, instance: _Optional[str] = ..., epoch: _Optional[int] = ..., counters: _Optional[_Mapping[str, int]] = ...) -> None: ...

class WriterRegistered(_message.Message):
    __slots__ = ("writer", "public_key", "workload", "attestation", "enrolled_by", "first_sequence")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_BY_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    public_key: bytes
    workload: str
    attestation: str
    enrolled_by: str
    first_sequence: int
    def __init__(self, writer: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., workload: _Optional[str] = ..., attestation: _Optional[str] = ..., enrolled_by: _Optional[str] = ..., first_sequence: _Optional[int] = ...) -> None: ...

class WriterRetired(_message.Message):
    __slots__ = ("writer", "cause", "final_checkpoint", "conflicting_checkpoint")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    FINAL_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONFLICTING_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    cause: str
    final_checkpoint: bytes
    conflicting_checkpoint: bytes
    def __init__(self, writer: _Optional[bytes] = ..., cause: _Optional[str] = ..., final_checkpoint: _Optional[bytes] = ..., conflicting_checkpoint: _Optional[bytes] = ...) -> None: ...

class WriterCheckpoint(_message.Message):
    __slots__ = ("note", "to", "first_index", "compact_range", "received")
    NOTE_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMPACT_RANGE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    note: bytes
    to: int
    first_index: int
    compact_range: _containers.RepeatedScalarFieldContainer[bytes]
    received: _timestamp_pb2.Timestamp
    def __init__(self, note: _Optional[bytes] = ..., to: _Optional[int] = ..., first_index: _Optional[int] = ..., compact_range: _Optional[_Iterable[bytes]] = ..., received: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., **kwargs) -> None: ...

class LogRead(_message.Message):
    __slots__ = ("method", "from_index", "to_index", "records", "unsealed", "role")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    FROM_INDEX_FIELD_NUMBER: _ClassVar[int]
    TO_INDEX_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    UNSEALED_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    method: str
    from_index: int
    to_index: int
    records: int
    unsealed: int
    role: str
    def __init__(self, method: _Optional[str] = ..., from_index: _Optional[int] = ..., to_index: _Optional[int] = ..., records: _Optional[int] = ..., unsealed: _Optional[int] = ..., role: _Optional[str] = ...) -> None: ...

class Erasure(_message.Message):
    __slots__ = ("records", "authority", "leaves_root", "seal_epoch", "approvers", "log_size", "erasure")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    LEAVES_ROOT_FIELD_NUMBER: _ClassVar[int]
    SEAL_EPOCH_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    LOG_SIZE_FIELD_NUMBER: _ClassVar[int]
    ERASURE_FIELD_NUMBER: _ClassVar[int]
    records: int
    authority: str
    leaves_root: bytes
    seal_epoch: int
    approvers: _containers.RepeatedScalarFieldContainer[str]
    log_size: int
    erasure: bytes
    def __init__(self, records: _Optional[int] = ..., authority: _Optional[str] = ..., leaves_root: _Optional[bytes] = ..., seal_epoch: _Optional[int] = ..., approvers: _Optional[_Iterable[str]] = ..., log_size: _Optional[int] = ..., erasure: _Optional[bytes] = ...) -> None: ...

class LegalHold(_message.Message):
    __slots__ = ("hold", "released", "authority", "matter", "approvers")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    MATTER_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    hold: bytes
    released: bool
    authority: str
    matter: str
    approvers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hold: _Optional[bytes] = ..., released: _Optional[bool] = ..., authority: _Optional[str] = ..., matter: _Optional[str] = ..., approvers: _Optional[_Iterable[str]] = ...) -> None: ...

class SettingChanged(_message.Message):
    __slots__ = ("setting", "before", "after", "changed_by", "approvers")
    SETTING_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    CHANGED_BY_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    setting: str
    before: str
    after: str
    changed_by: str
    approvers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, setting: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., changed_by: _Optional[str] = ..., approvers: _Optional[_Iterable[str]] = ...) -> None: ...

class Alert(_message.Message):
    __slots__ = ("rule", "severity", "kind", "group", "count", "to", "evidence", "audit_ids")
    RULE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    AUDIT_IDS_FIELD_NUMBER: _ClassVar[int]
    rule: str
    severity: str
    kind: str
    group: bytes
    count: int
    to: _timestamp_pb2.Timestamp
    evidence: _containers.RepeatedScalarFieldContainer[bytes]
    audit_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, rule: _Optional[str] = ..., severity: _Optional[str] = ..., kind: _Optional[str] = ..., group: _Optional[bytes] = ..., count: _Optional[int] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., evidence: _Optional[_Iterable[bytes]] = ..., audit_ids: _Optional[_Iterable[bytes]] = ..., **kwargs) -> None: ...

class External(_message.Message):
    __slots__ = ("source", "format", "event_time", "kind", "decision")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    source: str
    format: str
    event_time: _timestamp_pb2.Timestamp
    kind: str
    decision: bytes
    def __init__(self, source: _Optional[str] = ..., format: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[str] = ..., decision: _Optional[bytes] = ...) -> None: ...
