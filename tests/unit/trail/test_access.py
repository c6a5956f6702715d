# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every role against every method of log.proto."""

from itertools import product

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Refused, answered
from iap_authz.model.roles import Role
from iap_authz.trail.access import WANTED, Caller, check_entitled

INV, OFF, ADM = Role.INVESTIGATOR, Role.PRIVACY_OFFICER, Role.ADMIN
MAY: dict[str, set[Role]] = {
    "Unseal": {INV},
    "EraseSubject": {OFF},
    "GetErasure": {OFF},
    "ListErasures": {OFF},
    "PlaceLegalHold": {OFF},
    "ReleaseLegalHold": {OFF},
    "ListLegalHolds": {OFF},
    "RetireWriter": {ADM},
}
"""The table again, written down by hand."""

METHODS = [method.name for service in log_pb2.DESCRIPTOR.services_by_name.values() for method in service.methods]


def caller(*roles: Role) -> Caller:
    return Caller(name="ivy", roles=frozenset(roles), address="192.0.2.1")


@pytest.mark.parametrize(("method", "role"), list(product(METHODS, Role)))
def test_each_role_may_what_the_table_says_and_nothing_else(method: str, role: Role) -> None:
    if role in MAY.get(method, set()):
        assert check_entitled(caller(role), method) is role
    else:
        with pytest.raises(Refused):
            check_entitled(caller(role), method)


@pytest.mark.parametrize("method", [*METHODS, "", "unseal", "Unseal ", "AuditPrivacy/Unseal"])
def test_nobody_may_nothing_and_everybody_only_what_is_in_the_table(method: str) -> None:
    for nobody in (None, caller()):
        with pytest.raises(Refused):
            check_entitled(nobody, method)
    if method in MAY:
        assert {check_entitled(caller(*Role), method)} == MAY[method]
        return
    with pytest.raises(Refused, match="which nobody may"):
        check_entitled(caller(*Role), method)


def test_all_of_the_privacy_service_is_in_the_table() -> None:
    privacy = log_pb2.DESCRIPTOR.services_by_name["AuditPrivacy"].methods_by_name
    assert set(WANTED) == {*privacy, "RetireWriter"}


def test_a_refusal_says_which_role_is_wanted() -> None:
    with pytest.raises(Refused) as unknown:
        check_entitled(None, "Unseal")
    assert str(unknown.value) == "got no access token that this log knows, want one with the role investigator"
    with pytest.raises(Refused) as other:
        check_entitled(caller(OFF, ADM), "Unseal")
    assert str(other.value) == "got 'ivy' without the role investigator, which Unseal wants"
    assert answered(other.value).grpc_code == "PERMISSION_DENIED"
    with pytest.raises(Refused) as long:
        check_entitled(Caller(name="n" * 5000, roles=frozenset(), address=""), "RetireWriter")
    assert len(str(long.value)) < 200
