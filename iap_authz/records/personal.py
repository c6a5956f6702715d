# SPDX-License-Identifier: Apache-2.0
"""What a record says of a person, put in its one place (PROTOCOL rule S4).

The invariant: nothing of a personal part reaches a record but through `put_personal`. Today the part stands there in
its open form, because no deployment has a vault key yet; sealing it (rules S1 and S2) changes this function only.
"""

from iap_authz._pb.iap.audit.v1 import record_pb2


def put_personal(record: record_pb2.Record, part: record_pb2.PersonalPart) -> None:
    """Put `part` into `record`, whose other fields are already set."""
    record.open.CopyFrom(part)
