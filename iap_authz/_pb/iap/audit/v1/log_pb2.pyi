import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from iap_authz._pb.iap.audit.v1 import record_pb2 as _record_pb2
from iap_authz._pb.iap.facts.v1 import reason_pb2 as _reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterRequest(_message.Message):
    __slots__ = ("public_key", "started", "checkpoint", "inclusion_proof", "enrolment_token", "service_account_token")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_PROOF_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ACCOUNT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    started: bytes
    checkpoint: bytes
    inclusion_proof: _containers.RepeatedScalarFieldContainer[bytes]
    enrolment_token: str
    service_account_token: str
    def __init__(self, public_key: _Optional[bytes] = ..., started: _Optional[bytes] = ..., checkpoint: _Optional[bytes] = ..., inclusion_proof: _Optional[_Iterable[bytes]] = ..., enrolment_token: _Optional[str] = ..., service_account_token: _Optional[str] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("index", "receipt", "log_origin", "seal_settings")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    LOG_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SEAL_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    index: int
    receipt: Receipt
    log_origin: str
    seal_settings: bytes
    def __init__(self, index: _Optional[int] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., log_origin: _Optional[str] = ..., seal_settings: _Optional[bytes] = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("writer", "to", "records", "checkpoint", "companions", "last_log_checkpoint")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    COMPANIONS_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    to: int
    records: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    companions: _containers.RepeatedCompositeFieldContainer[_record_pb2.CompanionEntry]
    last_log_checkpoint: bytes
    def __init__(self, writer: _Optional[bytes] = ..., to: _Optional[int] = ..., records: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ..., companions: _Optional[_Iterable[_Union[_record_pb2.CompanionEntry, _Mapping]]] = ..., last_log_checkpoint: _Optional[bytes] = ..., **kwargs) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("receipt", "seal_settings")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SEAL_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    seal_settings: bytes
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., seal_settings: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("writer", "to", "first_index", "leaves", "range_proof", "checkpoint", "writer_checkpoint_leaf", "consistency_proof")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    RANGE_PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    WRITER_CHECKPOINT_LEAF_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    to: int
    first_index: int
    leaves: int
    range_proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    writer_checkpoint_leaf: bytes
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, writer: _Optional[bytes] = ..., to: _Optional[int] = ..., first_index: _Optional[int] = ..., leaves: _Optional[int] = ..., range_proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ..., writer_checkpoint_leaf: _Optional[bytes] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ..., **kwargs) -> None: ...

class AppendExpectation(_message.Message):
    __slots__ = ("expected_sequence",)
    EXPECTED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    expected_sequence: int
    def __init__(self, expected_sequence: _Optional[int] = ...) -> None: ...

class GetReceiptsRequest(_message.Message):
    __slots__ = ("writer", "to", "consistent_from")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    CONSISTENT_FROM_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    to: int
    consistent_from: int
    def __init__(self, writer: _Optional[bytes] = ..., to: _Optional[int] = ..., consistent_from: _Optional[int] = ..., **kwargs) -> None: ...

class GetReceiptsResponse(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ("published",)
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    published: bool
    def __init__(self, published: _Optional[bool] = ...) -> None: ...

class GetCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ...) -> None: ...

class WatchCheckpointsRequest(_message.Message):
    __slots__ = ("larger_than",)
    LARGER_THAN_FIELD_NUMBER: _ClassVar[int]
    larger_than: int
    def __init__(self, larger_than: _Optional[int] = ...) -> None: ...

class GetInclusionProofRequest(_message.Message):
    __slots__ = ("index", "leaf_hash", "tree_size")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LEAF_HASH_FIELD_NUMBER: _ClassVar[int]
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    index: int
    leaf_hash: bytes
    tree_size: int
    def __init__(self, index: _Optional[int] = ..., leaf_hash: _Optional[bytes] = ..., tree_size: _Optional[int] = ...) -> None: ...

class GetInclusionProofResponse(_message.Message):
    __slots__ = ("index", "tree_size", "proof", "checkpoint")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    index: int
    tree_size: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    def __init__(self, index: _Optional[int] = ..., tree_size: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class GetConsistencyProofRequest(_message.Message):
    __slots__ = ("old_size", "new_size")
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    NEW_SIZE_FIELD_NUMBER: _ClassVar[int]
    old_size: int
    new_size: int
    def __init__(self, old_size: _Optional[int] = ..., new_size: _Optional[int] = ...) -> None: ...

class GetConsistencyProofResponse(_message.Message):
    __slots__ = ("old_size", "new_size", "proof", "checkpoint")
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    NEW_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    old_size: int
    new_size: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    def __init__(self, old_size: _Optional[int] = ..., new_size: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class GetRangeProofRequest(_message.Message):
    __slots__ = ("first", "count", "tree_size")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    tree_size: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ..., tree_size: _Optional[int] = ...) -> None: ...

class GetRangeProofResponse(_message.Message):
    __slots__ = ("tree_size", "proof", "checkpoint")
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    tree_size: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    def __init__(self, tree_size: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class GetTileRequest(_message.Message):
    __slots__ = ("level", "index", "width", "entries")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    level: int
    index: int
    width: int
    entries: bool
    def __init__(self, level: _Optional[int] = ..., index: _Optional[int] = ..., width: _Optional[int] = ..., entries: _Optional[bool] = ...) -> None: ...

class GetTileResponse(_message.Message):
    __slots__ = ("tile",)
    TILE_FIELD_NUMBER: _ClassVar[int]
    tile: bytes
    def __init__(self, tile: _Optional[bytes] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("index", "record", "received")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    index: int
    record: bytes
    received: _timestamp_pb2.Timestamp
    def __init__(self, index: _Optional[int] = ..., record: _Optional[bytes] = ..., received: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetRecordRequest(_message.Message):
    __slots__ = ("index", "audit_id", "position", "with_evidence")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AUDIT_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    WITH_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    index: int
    audit_id: bytes
    position: WriterPosition
    with_evidence: bool
    def __init__(self, index: _Optional[int] = ..., audit_id: _Optional[bytes] = ..., position: _Optional[_Union[WriterPosition, _Mapping]] = ..., with_evidence: _Optional[bool] = ...) -> None: ...

class WriterPosition(_message.Message):
    __slots__ = ("writer", "sequence")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    sequence: int
    def __init__(self, writer: _Optional[bytes] = ..., sequence: _Optional[int] = ...) -> None: ...

class GetRecordResponse(_message.Message):
    __slots__ = ("entry", "evidence")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    evidence: Evidence
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("record", "index", "inclusion_proof", "checkpoint", "writer_inclusion_proof", "writer_checkpoint", "registration", "registration_index", "registration_proof", "started", "started_proof")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    WRITER_INCLUSION_PROOF_FIELD_NUMBER: _ClassVar[int]
    WRITER_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_PROOF_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    STARTED_PROOF_FIELD_NUMBER: _ClassVar[int]
    record: bytes
    index: int
    inclusion_proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    writer_inclusion_proof: _containers.RepeatedScalarFieldContainer[bytes]
    writer_checkpoint: bytes
    registration: bytes
    registration_index: int
    registration_proof: _containers.RepeatedScalarFieldContainer[bytes]
    started: bytes
    started_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, record: _Optional[bytes] = ..., index: _Optional[int] = ..., inclusion_proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ..., writer_inclusion_proof: _Optional[_Iterable[bytes]] = ..., writer_checkpoint: _Optional[bytes] = ..., registration: _Optional[bytes] = ..., registration_index: _Optional[int] = ..., registration_proof: _Optional[_Iterable[bytes]] = ..., started: _Optional[bytes] = ..., started_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetEntriesRequest(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class SearchRecordsRequest(_message.Message):
    __slots__ = ("subject", "device", "address_or_network", "host", "path_prefix", "verdicts", "reasons", "rule", "route", "country", "asn", "to", "request_id", "trace_id", "writer", "policy_digest", "bodies", "page_size", "page_token", "newest_first", "with_evidence")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_OR_NETWORK_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PATH_PREFIX_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    ASN_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BODIES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    WITH_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    subject: str
    device: str
    address_or_network: str
    host: str
    path_prefix: str
    verdicts: _containers.RepeatedScalarFieldContainer[_record_pb2.Verdict]
    reasons: _containers.RepeatedScalarFieldContainer[_reason_pb2.Reason]
    rule: str
    route: str
    country: str
    asn: int
    to: _timestamp_pb2.Timestamp
    request_id: str
    trace_id: str
    writer: bytes
    policy_digest: bytes
    bodies: _containers.RepeatedScalarFieldContainer[str]
    page_size: int
    page_token: str
    newest_first: bool
    with_evidence: bool
    def __init__(self, subject: _Optional[str] = ..., device: _Optional[str] = ..., address_or_network: _Optional[str] = ..., host: _Optional[str] = ..., path_prefix: _Optional[str] = ..., verdicts: _Optional[_Iterable[_Union[_record_pb2.Verdict, str]]] = ..., reasons: _Optional[_Iterable[_Union[_reason_pb2.Reason, str]]] = ..., rule: _Optional[str] = ..., route: _Optional[str] = ..., country: _Optional[str] = ..., asn: _Optional[int] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., request_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., writer: _Optional[bytes] = ..., policy_digest: _Optional[bytes] = ..., bodies: _Optional[_Iterable[str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., newest_first: _Optional[bool] = ..., with_evidence: _Optional[bool] = ..., **kwargs) -> None: ...

class SearchRecordsResponse(_message.Message):
    __slots__ = ("records", "next_page_token", "indexed_size")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INDEXED_SIZE_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[GetRecordResponse]
    next_page_token: str
    indexed_size: int
    def __init__(self, records: _Optional[_Iterable[_Union[GetRecordResponse, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., indexed_size: _Optional[int] = ...) -> None: ...

class TailRecordsRequest(_message.Message):
    __slots__ = ("filter", "after_index")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    AFTER_INDEX_FIELD_NUMBER: _ClassVar[int]
    filter: SearchRecordsRequest
    after_index: int
    def __init__(self, filter: _Optional[_Union[SearchRecordsRequest, _Mapping]] = ..., after_index: _Optional[int] = ...) -> None: ...

class UnsealRequest(_message.Message):
    __slots__ = ("indices", "purpose")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    purpose: str
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., purpose: _Optional[str] = ...) -> None: ...

class UnsealResponse(_message.Message):
    __slots__ = ("records", "log_read")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    LOG_READ_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Unsealed]
    log_read: int
    def __init__(self, records: _Optional[_Iterable[_Union[Unsealed, _Mapping]]] = ..., log_read: _Optional[int] = ...) -> None: ...

class Unsealed(_message.Message):
    __slots__ = ("index", "outcome", "opening")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Unsealed.Outcome]
        OPENED: _ClassVar[Unsealed.Outcome]
        ERASED: _ClassVar[Unsealed.Outcome]
        TAMPERED: _ClassVar[Unsealed.Outcome]
        NOT_SEALED: _ClassVar[Unsealed.Outcome]
    OUTCOME_UNSPECIFIED: Unsealed.Outcome
    OPENED: Unsealed.Outcome
    ERASED: Unsealed.Outcome
    TAMPERED: Unsealed.Outcome
    NOT_SEALED: Unsealed.Outcome
    INDEX_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    OPENING_FIELD_NUMBER: _ClassVar[int]
    index: int
    outcome: Unsealed.Outcome
    opening: bytes
    def __init__(self, index: _Optional[int] = ..., outcome: _Optional[_Union[Unsealed.Outcome, str]] = ..., opening: _Optional[bytes] = ...) -> None: ...

class EraseSubjectRequest(_message.Message):
    __slots__ = ("subject", "issuer", "authority", "dry_run", "approve")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    subject: str
    issuer: str
    authority: str
    dry_run: bool
    approve: bytes
    def __init__(self, subject: _Optional[str] = ..., issuer: _Optional[str] = ..., authority: _Optional[str] = ..., dry_run: _Optional[bool] = ..., approve: _Optional[bytes] = ...) -> None: ...

class GetErasureRequest(_message.Message):
    __slots__ = ("erasure",)
    ERASURE_FIELD_NUMBER: _ClassVar[int]
    erasure: bytes
    def __init__(self, erasure: _Optional[bytes] = ...) -> None: ...

class ErasureState(_message.Message):
    __slots__ = ("erasure", "stage", "records", "done", "seal_epoch", "erasure_index", "issuers", "holds", "waiting_for", "problem", "log_size")
    class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STAGE_UNSPECIFIED: _ClassVar[ErasureState.Stage]
        COUNTING: _ClassVar[ErasureState.Stage]
        COUNTED: _ClassVar[ErasureState.Stage]
        HELD: _ClassVar[ErasureState.Stage]
        AMBIGUOUS: _ClassVar[ErasureState.Stage]
        WAITS_APPROVAL: _ClassVar[ErasureState.Stage]
        ERASING: _ClassVar[ErasureState.Stage]
        ERASED: _ClassVar[ErasureState.Stage]
        COMPLETE: _ClassVar[ErasureState.Stage]
        FAILED: _ClassVar[ErasureState.Stage]
    STAGE_UNSPECIFIED: ErasureState.Stage
    COUNTING: ErasureState.Stage
    COUNTED: ErasureState.Stage
    HELD: ErasureState.Stage
    AMBIGUOUS: ErasureState.Stage
    WAITS_APPROVAL: ErasureState.Stage
    ERASING: ErasureState.Stage
    ERASED: ErasureState.Stage
    COMPLETE: ErasureState.Stage
    FAILED: ErasureState.Stage
    ERASURE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    SEAL_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ERASURE_INDEX_FIELD_NUMBER: _ClassVar[int]
    ISSUERS_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    LOG_SIZE_FIELD_NUMBER: _ClassVar[int]
    erasure: bytes
    stage: ErasureState.Stage
    records: int
    done: int
    seal_epoch: int
    erasure_index: int
    issuers: _containers.RepeatedScalarFieldContainer[str]
    holds: _containers.RepeatedScalarFieldContainer[bytes]
    waiting_for: _containers.RepeatedCompositeFieldContainer[WriterPosition]
    problem: str
    log_size: int
    def __init__(self, erasure: _Optional[bytes] = ..., stage: _Optional[_Union[ErasureState.Stage, str]] = ..., records: _Optional[int] = ..., done: _Optional[int] = ..., seal_epoch: _Optional[int] = ..., erasure_index: _Optional[int] = ..., issuers: _Optional[_Iterable[str]] = ..., holds: _Optional[_Iterable[bytes]] = ..., waiting_for: _Optional[_Iterable[_Union[WriterPosition, _Mapping]]] = ..., problem: _Optional[str] = ..., log_size: _Optional[int] = ...) -> None: ...

class ListErasuresRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListErasuresResponse(_message.Message):
    __slots__ = ("erasures",)
    ERASURES_FIELD_NUMBER: _ClassVar[int]
    erasures: _containers.RepeatedCompositeFieldContainer[ErasureState]
    def __init__(self, erasures: _Optional[_Iterable[_Union[ErasureState, _Mapping]]] = ...) -> None: ...

class PlaceLegalHoldRequest(_message.Message):
    __slots__ = ("scope", "authority", "matter")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    MATTER_FIELD_NUMBER: _ClassVar[int]
    scope: SearchRecordsRequest
    authority: str
    matter: str
    def __init__(self, scope: _Optional[_Union[SearchRecordsRequest, _Mapping]] = ..., authority: _Optional[str] = ..., matter: _Optional[str] = ...) -> None: ...

class PlaceLegalHoldResponse(_message.Message):
    __slots__ = ("hold", "index")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    hold: bytes
    index: int
    def __init__(self, hold: _Optional[bytes] = ..., index: _Optional[int] = ...) -> None: ...

class ReleaseLegalHoldRequest(_message.Message):
    __slots__ = ("hold", "authority")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    hold: bytes
    authority: str
    def __init__(self, hold: _Optional[bytes] = ..., authority: _Optional[str] = ...) -> None: ...

class ReleaseLegalHoldResponse(_message.Message):
    __slots__ = ("needs_approval", "index")
    NEEDS_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    needs_approval: bool
    index: int
    def __init__(self, needs_approval: _Optional[bool] = ..., index: _Optional[int] = ...) -> None: ...

class ListLegalHoldsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLegalHoldsResponse(_message.Message):
    __slots__ = ("holds",)
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[HoldState]
    def __init__(self, holds: _Optional[_Iterable[_Union[HoldState, _Mapping]]] = ...) -> None: ...

class HoldState(_message.Message):
    __slots__ = ("hold", "authority", "matter", "index", "release_asked")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    MATTER_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ASKED_FIELD_NUMBER: _ClassVar[int]
    hold: bytes
    authority: str
    matter: str
    index: int
    release_asked: bool
    def __init__(self, hold: _Optional[bytes] = ..., authority: _Optional[str] = ..., matter: _Optional[str] = ..., index: _Optional[int] = ..., release_asked: _Optional[bool] = ...) -> None: ...

class GetLogStateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LogState(_message.Message):
    __slots__ = ("origin", "head_checkpoint", "published_checkpoint", "frozen", "frozen_because", "pending_records", "minimum_index", "witnesses", "indexed_size", "seal_epoch", "vault_epoch", "vault_epochs")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    HEAD_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    FROZEN_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    PENDING_RECORDS_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_INDEX_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    INDEXED_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEAL_EPOCH_FIELD_NUMBER: _ClassVar[int]
    VAULT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    VAULT_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    origin: str
    head_checkpoint: bytes
    published_checkpoint: bytes
    frozen: bool
    frozen_because: str
    pending_records: int
    minimum_index: int
    witnesses: _containers.RepeatedCompositeFieldContainer[WitnessState]
    indexed_size: int
    seal_epoch: int
    vault_epoch: int
    vault_epochs: _containers.RepeatedCompositeFieldContainer[VaultEpochUse]
    def __init__(self, origin: _Optional[str] = ..., head_checkpoint: _Optional[bytes] = ..., published_checkpoint: _Optional[bytes] = ..., frozen: _Optional[bool] = ..., frozen_because: _Optional[str] = ..., pending_records: _Optional[int] = ..., minimum_index: _Optional[int] = ..., witnesses: _Optional[_Iterable[_Union[WitnessState, _Mapping]]] = ..., indexed_size: _Optional[int] = ..., seal_epoch: _Optional[int] = ..., vault_epoch: _Optional[int] = ..., vault_epochs: _Optional[_Iterable[_Union[VaultEpochUse, _Mapping]]] = ...) -> None: ...

class VaultEpochUse(_message.Message):
    __slots__ = ("epoch", "keys")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    keys: int
    def __init__(self, epoch: _Optional[int] = ..., keys: _Optional[int] = ...) -> None: ...

class WitnessState(_message.Message):
    __slots__ = ("name", "size", "cosigned", "problem")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    cosigned: _timestamp_pb2.Timestamp
    problem: str
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., cosigned: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problem: _Optional[str] = ...) -> None: ...

class ListWritersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWritersResponse(_message.Message):
    __slots__ = ("writers", "next_page_token")
    WRITERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    writers: _containers.RepeatedCompositeFieldContainer[WriterState]
    next_page_token: str
    def __init__(self, writers: _Optional[_Iterable[_Union[WriterState, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WriterState(_message.Message):
    __slots__ = ("writer", "workload", "size", "registered_index", "retired_index", "last_seen", "stopped", "tail_unknown", "silence")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_INDEX_FIELD_NUMBER: _ClassVar[int]
    RETIRED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    TAIL_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    workload: str
    size: int
    registered_index: int
    retired_index: int
    last_seen: _timestamp_pb2.Timestamp
    stopped: bool
    tail_unknown: bool
    silence: _duration_pb2.Duration
    def __init__(self, writer: _Optional[bytes] = ..., workload: _Optional[str] = ..., size: _Optional[int] = ..., registered_index: _Optional[int] = ..., retired_index: _Optional[int] = ..., last_seen: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stopped: _Optional[bool] = ..., tail_unknown: _Optional[bool] = ..., silence: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RetireWriterRequest(_message.Message):
    __slots__ = ("writer", "cause")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    cause: str
    def __init__(self, writer: _Optional[bytes] = ..., cause: _Optional[str] = ...) -> None: ...

class RetireWriterResponse(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class IssueEnrolmentTokenRequest(_message.Message):
    __slots__ = ("name", "lifetime", "uses")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    name: str
    lifetime: _duration_pb2.Duration
    uses: int
    def __init__(self, name: _Optional[str] = ..., lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., uses: _Optional[int] = ...) -> None: ...

class IssueEnrolmentTokenResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class FreezeLogRequest(_message.Message):
    __slots__ = ("because",)
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    because: str
    def __init__(self, because: _Optional[str] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ("key", "approval")
    KEY_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    key: str
    approval: bytes
    def __init__(self, key: _Optional[str] = ..., approval: _Optional[bytes] = ...) -> None: ...

class RotateKeyResponse(_message.Message):
    __slots__ = ("verifier_key", "needs_approval")
    VERIFIER_KEY_FIELD_NUMBER: _ClassVar[int]
    NEEDS_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    verifier_key: str
    needs_approval: bool
    def __init__(self, verifier_key: _Optional[str] = ..., needs_approval: _Optional[bool] = ...) -> None: ...

class PlanRetentionRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PlanRetentionResponse(_message.Message):
    __slots__ = ("prune_below", "records", "bytes", "held")
    PRUNE_BELOW_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    prune_below: int
    records: int
    bytes: int
    held: int
    def __init__(self, prune_below: _Optional[int] = ..., records: _Optional[int] = ..., bytes: _Optional[int] = ..., held: _Optional[int] = ...) -> None: ...

class ApplyRetentionRequest(_message.Message):
    __slots__ = ("prune_below", "approval")
    PRUNE_BELOW_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    prune_below: int
    approval: bytes
    def __init__(self, prune_below: _Optional[int] = ..., approval: _Optional[bytes] = ...) -> None: ...

class ApplyRetentionResponse(_message.Message):
    __slots__ = ("index", "needs_approval")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NEEDS_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    index: int
    needs_approval: bool
    def __init__(self, index: _Optional[int] = ..., needs_approval: _Optional[bool] = ...) -> None: ...
