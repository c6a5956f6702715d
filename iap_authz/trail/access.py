# SPDX-License-Identifier: Apache-2.0
"""Who may do what with personal data and with writers: one table, method by role.

The invariant: nobody may do what is not in the table, and a caller without a token is nobody. There is no role above
the others: who may erase may not read, who may read may not erase, and who runs the log may do neither.

Pure. A message says which role is wanted; it names no token, and nothing of a caller that is not known.
"""

from collections.abc import Mapping

from iap_authz.errors import Refused, shown
from iap_authz.model.roles import Role
from iap_authz.ports import Caller

__all__ = ["WANTED", "Caller", "check_entitled"]

WANTED: Mapping[str, Role] = {
    "Unseal": Role.INVESTIGATOR,
    "EraseSubject": Role.PRIVACY_OFFICER,
    "GetErasure": Role.PRIVACY_OFFICER,
    "ListErasures": Role.PRIVACY_OFFICER,
    "PlaceLegalHold": Role.PRIVACY_OFFICER,
    "ReleaseLegalHold": Role.PRIVACY_OFFICER,
    "ListLegalHolds": Role.PRIVACY_OFFICER,
    "RetireWriter": Role.ADMIN,
}
"""The role that each method of log.proto wants. A method that is not here nobody may call."""


def check_entitled(caller: Caller | None, method: str) -> Role:
    """The role in which `caller` calls `method`. Raises Refused, also for a method that the table does not have."""
    wanted = WANTED.get(method)
    if wanted is None:
        raise Refused(f"got a call of {shown(method)}, which nobody may")
    if caller is None:
        raise Refused(f"got no access token that this log knows, want one with the role {wanted}")
    if wanted not in caller.roles:
        raise Refused(f"got {shown(caller.name)} without the role {wanted}, which {method} wants")
    return wanted
