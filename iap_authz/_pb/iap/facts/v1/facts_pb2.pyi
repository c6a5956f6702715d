import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from iap_authz._pb.iap.facts.v1 import reason_pb2 as _reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    PRESENT: _ClassVar[State]
    ABSENT: _ClassVar[State]
    STALE: _ClassVar[State]
    ERROR: _ClassVar[State]
    INVALID: _ClassVar[State]
STATE_UNSPECIFIED: State
PRESENT: State
ABSENT: State
STALE: State
ERROR: State
INVALID: State

class Facts(_message.Message):
    __slots__ = ("identity", "device", "location", "request", "now")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    device: Device
    location: Location
    request: Request
    now: _timestamp_pb2.Timestamp
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ..., device: _Optional[_Union[Device, _Mapping]] = ..., location: _Optional[_Union[Location, _Mapping]] = ..., request: _Optional[_Union[Request, _Mapping]] = ..., now: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("state", "age", "problem", "source", "empty", "subject", "issuer", "audiences", "groups", "claims", "email", "auth_time", "acr", "amr", "issued_at", "expires", "session_id", "token_id", "scopes", "spiffe_id", "kind", "algorithm", "key_id", "token_sha256", "shown_in")
    class ClaimsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    AUTH_TIME_FIELD_NUMBER: _ClassVar[int]
    ACR_FIELD_NUMBER: _ClassVar[int]
    AMR_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    SHOWN_IN_FIELD_NUMBER: _ClassVar[int]
    state: State
    age: _duration_pb2.Duration
    problem: _reason_pb2.Reason
    source: str
    empty: _containers.RepeatedScalarFieldContainer[str]
    subject: str
    issuer: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedScalarFieldContainer[str]
    claims: _containers.ScalarMap[str, str]
    email: str
    auth_time: _timestamp_pb2.Timestamp
    acr: str
    amr: _containers.RepeatedScalarFieldContainer[str]
    issued_at: _timestamp_pb2.Timestamp
    expires: _timestamp_pb2.Timestamp
    session_id: str
    token_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    spiffe_id: str
    kind: str
    algorithm: str
    key_id: str
    token_sha256: bytes
    shown_in: str
    def __init__(self, state: _Optional[_Union[State, str]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., problem: _Optional[_Union[_reason_pb2.Reason, str]] = ..., source: _Optional[str] = ..., empty: _Optional[_Iterable[str]] = ..., subject: _Optional[str] = ..., issuer: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[str]] = ..., claims: _Optional[_Mapping[str, str]] = ..., email: _Optional[str] = ..., auth_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., acr: _Optional[str] = ..., amr: _Optional[_Iterable[str]] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., session_id: _Optional[str] = ..., token_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., spiffe_id: _Optional[str] = ..., kind: _Optional[str] = ..., algorithm: _Optional[str] = ..., key_id: _Optional[str] = ..., token_sha256: _Optional[bytes] = ..., shown_in: _Optional[str] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("state", "age", "problem", "source", "empty", "id", "managed", "owner", "os", "os_version", "os_version_key", "disk_encrypted", "screen_lock", "firewall", "risk", "enrolled", "revoked", "lost", "posture_time", "certificate_sha256", "certificate_serial", "certificate_not_after", "spiffe_id", "tags", "labels", "inventory_revision", "model")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MANAGED_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    OS_VERSION_FIELD_NUMBER: _ClassVar[int]
    OS_VERSION_KEY_FIELD_NUMBER: _ClassVar[int]
    DISK_ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    SCREEN_LOCK_FIELD_NUMBER: _ClassVar[int]
    FIREWALL_FIELD_NUMBER: _ClassVar[int]
    RISK_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    POSTURE_TIME_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SERIAL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_REVISION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    state: State
    age: _duration_pb2.Duration
    problem: _reason_pb2.Reason
    source: str
    empty: _containers.RepeatedScalarFieldContainer[str]
    id: str
    managed: bool
    owner: str
    os: str
    os_version: str
    os_version_key: int
    disk_encrypted: bool
    screen_lock: bool
    firewall: bool
    risk: str
    enrolled: bool
    revoked: bool
    lost: bool
    posture_time: _timestamp_pb2.Timestamp
    certificate_sha256: str
    certificate_serial: str
    certificate_not_after: _timestamp_pb2.Timestamp
    spiffe_id: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    inventory_revision: int
    model: str
    def __init__(self, state: _Optional[_Union[State, str]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., problem: _Optional[_Union[_reason_pb2.Reason, str]] = ..., source: _Optional[str] = ..., empty: _Optional[_Iterable[str]] = ..., id: _Optional[str] = ..., managed: _Optional[bool] = ..., owner: _Optional[str] = ..., os: _Optional[str] = ..., os_version: _Optional[str] = ..., os_version_key: _Optional[int] = ..., disk_encrypted: _Optional[bool] = ..., screen_lock: _Optional[bool] = ..., firewall: _Optional[bool] = ..., risk: _Optional[str] = ..., enrolled: _Optional[bool] = ..., revoked: _Optional[bool] = ..., lost: _Optional[bool] = ..., posture_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., certificate_sha256: _Optional[str] = ..., certificate_serial: _Optional[str] = ..., certificate_not_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spiffe_id: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., inventory_revision: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class Location(_message.Message):
    __slots__ = ("state", "age", "problem", "source", "empty", "address", "country", "registered_country", "continent", "region", "city", "latitude", "longitude", "accuracy_km", "time_zone", "asn", "as_organization", "anonymous", "vpn", "tor", "hosting", "proxy", "networks", "scope", "speed_kmh", "new_country", "new_asn", "local_hour", "local_minute", "local_weekday", "database_built", "transition")
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_COUNTRY_FIELD_NUMBER: _ClassVar[int]
    CONTINENT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    CITY_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_KM_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    ASN_FIELD_NUMBER: _ClassVar[int]
    AS_ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    VPN_FIELD_NUMBER: _ClassVar[int]
    TOR_FIELD_NUMBER: _ClassVar[int]
    HOSTING_FIELD_NUMBER: _ClassVar[int]
    PROXY_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SPEED_KMH_FIELD_NUMBER: _ClassVar[int]
    NEW_COUNTRY_FIELD_NUMBER: _ClassVar[int]
    NEW_ASN_FIELD_NUMBER: _ClassVar[int]
    LOCAL_HOUR_FIELD_NUMBER: _ClassVar[int]
    LOCAL_MINUTE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_WEEKDAY_FIELD_NUMBER: _ClassVar[int]
    DATABASE_BUILT_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    state: State
    age: _duration_pb2.Duration
    problem: _reason_pb2.Reason
    source: str
    empty: _containers.RepeatedScalarFieldContainer[str]
    address: str
    country: str
    registered_country: str
    continent: str
    region: str
    city: str
    latitude: float
    longitude: float
    accuracy_km: int
    time_zone: str
    asn: int
    as_organization: str
    anonymous: bool
    vpn: bool
    tor: bool
    hosting: bool
    proxy: bool
    networks: _containers.RepeatedScalarFieldContainer[str]
    scope: str
    speed_kmh: float
    new_country: bool
    new_asn: bool
    local_hour: int
    local_minute: int
    local_weekday: int
    database_built: _timestamp_pb2.Timestamp
    transition: str
    def __init__(self, state: _Optional[_Union[State, str]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., problem: _Optional[_Union[_reason_pb2.Reason, str]] = ..., source: _Optional[str] = ..., empty: _Optional[_Iterable[str]] = ..., address: _Optional[str] = ..., country: _Optional[str] = ..., registered_country: _Optional[str] = ..., continent: _Optional[str] = ..., region: _Optional[str] = ..., city: _Optional[str] = ..., latitude: _Optional[float] = ..., longitude: _Optional[float] = ..., accuracy_km: _Optional[int] = ..., time_zone: _Optional[str] = ..., asn: _Optional[int] = ..., as_organization: _Optional[str] = ..., anonymous: _Optional[bool] = ..., vpn: _Optional[bool] = ..., tor: _Optional[bool] = ..., hosting: _Optional[bool] = ..., proxy: _Optional[bool] = ..., networks: _Optional[_Iterable[str]] = ..., scope: _Optional[str] = ..., speed_kmh: _Optional[float] = ..., new_country: _Optional[bool] = ..., new_asn: _Optional[bool] = ..., local_hour: _Optional[int] = ..., local_minute: _Optional[int] = ..., local_weekday: _Optional[int] = ..., database_built: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., transition: _Optional[str] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("state", "age", "problem", "source", "empty", "method", "host", "path", "query", "segments", "captures", "headers", "query_parameters", "scheme", "protocol", "tls", "sni", "id", "envoy_stream_id", "trace_id", "user_agent", "context", "peer", "peer_port", "principal", "body_bytes", "body_partial", "body_sha256", "content_type", "raw_path", "unseen", "untrusted", "wants", "metadata", "forwarded_by")
    class CapturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class QueryParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class UntrustedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    CAPTURES_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    QUERY_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    SNI_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ENVOY_STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    PEER_PORT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    BODY_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    BODY_SHA256_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RAW_PATH_FIELD_NUMBER: _ClassVar[int]
    UNSEEN_FIELD_NUMBER: _ClassVar[int]
    UNTRUSTED_FIELD_NUMBER: _ClassVar[int]
    WANTS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_BY_FIELD_NUMBER: _ClassVar[int]
    state: State
    age: _duration_pb2.Duration
    problem: _reason_pb2.Reason
    source: str
    empty: _containers.RepeatedScalarFieldContainer[str]
    method: str
    host: str
    path: str
    query: str
    segments: _containers.RepeatedScalarFieldContainer[str]
    captures: _containers.ScalarMap[str, str]
    headers: _containers.ScalarMap[str, str]
    query_parameters: _containers.ScalarMap[str, str]
    scheme: str
    protocol: str
    tls: bool
    sni: str
    id: str
    envoy_stream_id: str
    trace_id: str
    user_agent: str
    context: _containers.ScalarMap[str, str]
    peer: str
    peer_port: int
    principal: str
    body_bytes: int
    body_partial: bool
    body_sha256: bytes
    content_type: str
    raw_path: str
    unseen: _containers.RepeatedScalarFieldContainer[str]
    untrusted: _containers.ScalarMap[str, str]
    wants: str
    metadata: _containers.ScalarMap[str, str]
    forwarded_by: str
    def __init__(self, state: _Optional[_Union[State, str]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., problem: _Optional[_Union[_reason_pb2.Reason, str]] = ..., source: _Optional[str] = ..., empty: _Optional[_Iterable[str]] = ..., method: _Optional[str] = ..., host: _Optional[str] = ..., path: _Optional[str] = ..., query: _Optional[str] = ..., segments: _Optional[_Iterable[str]] = ..., captures: _Optional[_Mapping[str, str]] = ..., headers: _Optional[_Mapping[str, str]] = ..., query_parameters: _Optional[_Mapping[str, str]] = ..., scheme: _Optional[str] = ..., protocol: _Optional[str] = ..., tls: _Optional[bool] = ..., sni: _Optional[str] = ..., id: _Optional[str] = ..., envoy_stream_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., user_agent: _Optional[str] = ..., context: _Optional[_Mapping[str, str]] = ..., peer: _Optional[str] = ..., peer_port: _Optional[int] = ..., principal: _Optional[str] = ..., body_bytes: _Optional[int] = ..., body_partial: _Optional[bool] = ..., body_sha256: _Optional[bytes] = ..., content_type: _Optional[str] = ..., raw_path: _Optional[str] = ..., unseen: _Optional[_Iterable[str]] = ..., untrusted: _Optional[_Mapping[str, str]] = ..., wants: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., forwarded_by: _Optional[str] = ...) -> None: ...
