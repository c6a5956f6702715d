# SPDX-License-Identifier: Apache-2.0
"""What a record says of a person, put in its one place (PROTOCOL rule S4).

The invariant: nothing of a personal part reaches a record but through `put_personal`, and with a seal it stands there
in no readable form. Without one (`seal: none` in the configuration) it stands there open, for ever.
"""

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.records.seal import Seal, put_sealed


def put_personal(record: record_pb2.Record, part: record_pb2.PersonalPart, seal: Seal | None) -> None:
    """Put `part` into `record`, whose envelope is already set. Raises Malformed where it is too large to be sealed."""
    if seal is None:
        record.open.CopyFrom(part)
    else:
        put_sealed(record, part, seal)
