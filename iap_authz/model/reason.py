# SPDX-License-Identifier: Apache-2.0
"""`Reason` and `Verdict`: the closed enums that reply, record, metric and documentation share.

They are made from the generated enums of `proto/iap/facts/v1/reason.proto` and `proto/iap/audit/v1/record.proto`, so
there is one list. A reason's stable code is its name in lower case.
"""

import enum

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2


def code_of(kind: "type[Verdict | Reason]", number: int) -> str:
    """The stable word of a number in a record, or the number itself where a newer version wrote it."""
    try:
        return kind(number).code
    except ValueError:
        return str(number)


class Verdict(enum.IntEnum):
    """The answer to one check."""

    ALLOW = record_pb2.ALLOW
    DENY = record_pb2.DENY
    CHALLENGE = record_pb2.CHALLENGE
    UNDECIDED = record_pb2.UNDECIDED

    @property
    def code(self) -> str:
        """The stable word for replies, metrics and documentation."""
        return self.name.lower()


class State(enum.IntEnum):
    """What is known of a family of facts as a whole."""

    PRESENT = facts_pb2.PRESENT
    ABSENT = facts_pb2.ABSENT
    STALE = facts_pb2.STALE
    ERROR = facts_pb2.ERROR
    INVALID = facts_pb2.INVALID


class Durability(enum.IntEnum):
    """When an answer may be given."""

    JOURNAL = record_pb2.JOURNAL
    LOG = record_pb2.LOG


class Reason(enum.IntEnum):
    """Why a check ended as it did. Meanings stand beside the numbers in `proto/iap/facts/v1/reason.proto`."""

    ALLOWED = reason_pb2.REASON_ALLOWED
    DENIED_BY_RULE = reason_pb2.REASON_DENIED_BY_RULE
    CHALLENGED_BY_RULE = reason_pb2.REASON_CHALLENGED_BY_RULE
    NO_RULE_MATCHED = reason_pb2.REASON_NO_RULE_MATCHED
    NO_ROUTE = reason_pb2.REASON_NO_ROUTE
    IDENTITY_ABSENT = reason_pb2.REASON_IDENTITY_ABSENT
    FACT_ABSENT = reason_pb2.REASON_FACT_ABSENT
    SOURCE_STALE = reason_pb2.REASON_SOURCE_STALE
    SOURCE_ERROR = reason_pb2.REASON_SOURCE_ERROR
    CONDITION_ERROR = reason_pb2.REASON_CONDITION_ERROR
    INTERNAL_ERROR = reason_pb2.REASON_INTERNAL_ERROR
    DEADLINE_EXCEEDED = reason_pb2.REASON_DEADLINE_EXCEEDED
    JOURNAL_FULL = reason_pb2.REASON_JOURNAL_FULL
    JOURNAL_FAILED = reason_pb2.REASON_JOURNAL_FAILED
    OVERLOADED = reason_pb2.REASON_OVERLOADED
    SHUTTING_DOWN = reason_pb2.REASON_SHUTTING_DOWN
    CANCELLED = reason_pb2.REASON_CANCELLED
    LOG_UNAVAILABLE = reason_pb2.REASON_LOG_UNAVAILABLE
    NO_KEYS = reason_pb2.REASON_NO_KEYS
    CONFIG_ERROR = reason_pb2.REASON_CONFIG_ERROR
    MALFORMED_REQUEST = reason_pb2.REASON_MALFORMED_REQUEST
    MALFORMED_PATH = reason_pb2.REASON_MALFORMED_PATH
    PATH_NOT_NORMAL = reason_pb2.REASON_PATH_NOT_NORMAL
    PATH_ENCODED_SLASH = reason_pb2.REASON_PATH_ENCODED_SLASH
    PATH_PARAMETERS = reason_pb2.REASON_PATH_PARAMETERS
    PATH_CONTROL = reason_pb2.REASON_PATH_CONTROL
    PATH_DOUBLE_ENCODED = reason_pb2.REASON_PATH_DOUBLE_ENCODED
    PATH_NOT_ASCII = reason_pb2.REASON_PATH_NOT_ASCII
    MALFORMED_HOST = reason_pb2.REASON_MALFORMED_HOST
    AMBIGUOUS_HOST = reason_pb2.REASON_AMBIGUOUS_HOST
    MALFORMED_METHOD = reason_pb2.REASON_MALFORMED_METHOD
    MALFORMED_HEADER = reason_pb2.REASON_MALFORMED_HEADER
    AMBIGUOUS_HEADER = reason_pb2.REASON_AMBIGUOUS_HEADER
    NO_HEADERS = reason_pb2.REASON_NO_HEADERS
    BAD_ADDRESS = reason_pb2.REASON_BAD_ADDRESS
    UNKNOWN_CONTEXT = reason_pb2.REASON_UNKNOWN_CONTEXT
    BODY_PARTIAL = reason_pb2.REASON_BODY_PARTIAL
    BODY_UNPARSABLE = reason_pb2.REASON_BODY_UNPARSABLE
    FACT_WITH_NUL = reason_pb2.REASON_FACT_WITH_NUL
    MALFORMED_TOKEN = reason_pb2.REASON_MALFORMED_TOKEN
    MALFORMED_TOKEN_HEADER = reason_pb2.REASON_MALFORMED_TOKEN_HEADER
    NON_CANONICAL = reason_pb2.REASON_NON_CANONICAL
    TOKEN_TOO_LARGE = reason_pb2.REASON_TOKEN_TOO_LARGE
    UNSUPPORTED_TOKEN = reason_pb2.REASON_UNSUPPORTED_TOKEN
    UNSUPPORTED_CRIT = reason_pb2.REASON_UNSUPPORTED_CRIT
    BAD_ALG = reason_pb2.REASON_BAD_ALG
    ALG_KEY_MISMATCH = reason_pb2.REASON_ALG_KEY_MISMATCH
    UNKNOWN_KID = reason_pb2.REASON_UNKNOWN_KID
    KID_MISMATCH = reason_pb2.REASON_KID_MISMATCH
    AMBIGUOUS_KEY = reason_pb2.REASON_AMBIGUOUS_KEY
    BAD_SIGNATURE = reason_pb2.REASON_BAD_SIGNATURE
    UNKNOWN_ISSUER = reason_pb2.REASON_UNKNOWN_ISSUER
    ISSUER_KEY_MISMATCH = reason_pb2.REASON_ISSUER_KEY_MISMATCH
    DUPLICATE_CLAIM = reason_pb2.REASON_DUPLICATE_CLAIM
    BAD_CLAIM_TYPE = reason_pb2.REASON_BAD_CLAIM_TYPE
    MISSING_EXP = reason_pb2.REASON_MISSING_EXP
    EXPIRED = reason_pb2.REASON_EXPIRED
    NOT_YET_VALID = reason_pb2.REASON_NOT_YET_VALID
    IAT_FUTURE = reason_pb2.REASON_IAT_FUTURE
    MISSING_AUD = reason_pb2.REASON_MISSING_AUD
    WRONG_AUD = reason_pb2.REASON_WRONG_AUD
    BAD_SUB = reason_pb2.REASON_BAD_SUB
    BAD_EMAIL = reason_pb2.REASON_BAD_EMAIL
    AMBIGUOUS_CREDENTIALS = reason_pb2.REASON_AMBIGUOUS_CREDENTIALS
    TOKEN_REVOKED = reason_pb2.REASON_TOKEN_REVOKED
    BINDING_MISMATCH = reason_pb2.REASON_BINDING_MISMATCH
    TOKEN_TOO_OLD = reason_pb2.REASON_TOKEN_TOO_OLD
    BAD_API_KEY = reason_pb2.REASON_BAD_API_KEY
    CONFUSABLE_TEXT = reason_pb2.REASON_CONFUSABLE_TEXT
    BAD_CERTIFICATE = reason_pb2.REASON_BAD_CERTIFICATE
    MALFORMED_XFCC = reason_pb2.REASON_MALFORMED_XFCC
    BAD_SPIFFE_ID = reason_pb2.REASON_BAD_SPIFFE_ID
    UNTRUSTED_CERTIFICATE = reason_pb2.REASON_UNTRUSTED_CERTIFICATE
    CERTIFICATE_REVOKED = reason_pb2.REASON_CERTIFICATE_REVOKED
    DEVICE_UNKNOWN = reason_pb2.REASON_DEVICE_UNKNOWN
    DEVICE_REVOKED = reason_pb2.REASON_DEVICE_REVOKED
    DEVICE_OWNER_MISMATCH = reason_pb2.REASON_DEVICE_OWNER_MISMATCH
    POSTURE_FUTURE = reason_pb2.REASON_POSTURE_FUTURE
    BAD_DEVICE_RECORD = reason_pb2.REASON_BAD_DEVICE_RECORD

    @property
    def code(self) -> str:
        """The stable word for replies, metrics and documentation."""
        return self.name.lower()
