# SPDX-License-Identifier: Apache-2.0
"""Kubernetes service accounts: a token of a cluster is the account it says, bound to its pod, or it is nobody."""

from typing import Any, Final

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.identity import EstablishedIdentity
from iap_authz.facts.issuer import Cluster
from iap_authz.model.reason import Reason
from tests.fakes.tokens import ABSENT, bearer, claims, forge, problem_of
from tests.unit.facts.test_identity import establish

UID: Final = "6f2c6a7e-6c0e-4c57-9a5e-1f6c3a1d9b10"
SUBJECT: Final = "system:serviceaccount:shop:orders"


def told(**changed: Any) -> dict[str, Any]:
    """The claim of a bound token, as an API server of 1.32 writes it."""
    whole = {
        "namespace": "shop",
        "serviceaccount": {"name": "orders", "uid": UID},
        "pod": {"name": "orders-7d4b9c-x2x5z", "uid": "pod-1"},
        "node": {"name": "node-1.internal", "uid": "node-1"},
        "warnafter": 1772369607,
    }
    return {key: value for key, value in (whole | changed).items() if value is not ABSENT}


def shown(*, sub: object = SUBJECT, want_pod: bool = True, kubernetes: object = None, **changed: Any) -> Any:
    said = told() if kubernetes is None else kubernetes
    token = forge(claims(**{"sub": sub, "kubernetes.io": said, "jti": "token-1"} | changed))
    return establish(bearer(token), cluster=Cluster(want_pod=want_pod), claims=("kubernetes.pod", "team"))


def test_a_projected_token() -> None:
    identity = shown().identity
    assert identity.state == facts_pb2.PRESENT
    assert (identity.source, identity.kind, identity.subject) == ("service-account:corp", "workload", SUBJECT)
    assert list(identity.groups) == ["system:serviceaccounts", "system:serviceaccounts:shop"]
    assert identity.token_id == "token-1"
    assert dict(identity.claims) == {
        "kubernetes.namespace": "shop",
        "kubernetes.serviceaccount": "orders",
        "kubernetes.serviceaccount_uid": UID,
        "kubernetes.pod": "orders-7d4b9c-x2x5z",
        "kubernetes.pod_uid": "pod-1",
        "kubernetes.node": "node-1.internal",
    }


def test_what_the_token_writes_elsewhere_is_not_believed() -> None:
    elsewhere: dict[str, Any] = {"kubernetes.pod": "admin-0", "groups": ["system:masters"], "team": "core"}
    identity = shown(**elsewhere).identity
    assert identity.claims["kubernetes.pod"] == "orders-7d4b9c-x2x5z"
    assert identity.claims["team"] == "core"
    assert "system:masters" not in identity.groups


def test_an_older_cluster_says_no_node() -> None:
    assert "kubernetes.node" not in shown(kubernetes=told(node=ABSENT)).identity.claims


def test_a_token_without_a_pod_is_taken_only_where_that_is_asked_for() -> None:
    unbound = told(pod=ABSENT, node=ABSENT)
    assert problem_of(shown(kubernetes=unbound)) is Reason.UNSUPPORTED_TOKEN
    identity = shown(kubernetes=unbound, want_pod=False).identity
    assert identity.state == facts_pb2.PRESENT
    assert "kubernetes.pod" not in identity.claims
    assert shown(want_pod=False).identity.claims["kubernetes.pod"]


REFUSED: list[tuple[str, dict[str, Any], Reason]] = [
    ("somebody", {"sub": "ada"}, Reason.BAD_SUB),
    ("another-kind", {"sub": "system:node:node-1"}, Reason.BAD_SUB),
    ("short", {"sub": "system:serviceaccount:shop"}, Reason.BAD_SUB),
    ("long", {"sub": f"{SUBJECT}:x"}, Reason.BAD_SUB),
    ("another-case", {"sub": SUBJECT.upper()}, Reason.BAD_SUB),
    ("newline", {"sub": f"{SUBJECT}\n"}, Reason.BAD_SUB),
    ("another-namespace", {"sub": "system:serviceaccount:kube-system:orders"}, Reason.BAD_SUB),
    ("another-account", {"sub": "system:serviceaccount:shop:admin"}, Reason.BAD_SUB),
    ("told-another-namespace", {"kubernetes": told(namespace="kube-system")}, Reason.BAD_SUB),
    ("no-claim", {"kubernetes.io": ABSENT}, Reason.UNSUPPORTED_TOKEN),
    ("legacy", {"kubernetes.io": ABSENT, "kubernetes.io/serviceaccount/namespace": "shop"}, Reason.UNSUPPORTED_TOKEN),
    ("no-exp", {"exp": ABSENT}, Reason.MISSING_EXP),
    ("another-audience", {"aud": "https://kubernetes.default.svc"}, Reason.WRONG_AUD),
    ("claim-is-text", {"kubernetes": "shop"}, Reason.BAD_CLAIM_TYPE),
    ("claim-is-null", {"kubernetes.io": None}, Reason.BAD_CLAIM_TYPE),
    ("account-is-text", {"kubernetes": told(serviceaccount="orders")}, Reason.BAD_CLAIM_TYPE),
    ("no-account", {"kubernetes": told(serviceaccount=ABSENT)}, Reason.BAD_CLAIM_TYPE),
    ("no-uid", {"kubernetes": told(serviceaccount={"name": "orders"})}, Reason.BAD_CLAIM_TYPE),
    ("no-namespace", {"kubernetes": told(namespace=ABSENT)}, Reason.BAD_CLAIM_TYPE),
    ("namespace-is-a-list", {"kubernetes": told(namespace=["shop"])}, Reason.BAD_CLAIM_TYPE),
    ("bad-pod", {"kubernetes": told(pod={"name": "../x", "uid": "1"})}, Reason.BAD_CLAIM_TYPE),
    ("pod-is-null", {"kubernetes": told(pod=None)}, Reason.BAD_CLAIM_TYPE),
    ("empty-pod", {"kubernetes": told(pod={})}, Reason.BAD_CLAIM_TYPE),
    ("bad-node", {"kubernetes": told(node={"name": "Node_1"})}, Reason.BAD_CLAIM_TYPE),
]


@pytest.mark.parametrize(("changed", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_a_cluster_would_not_say_is_refused(changed: dict[str, Any], reason: Reason) -> None:
    established: EstablishedIdentity = shown(**changed)
    assert problem_of(established) is reason, established.detail
    assert shown().identity.state == facts_pb2.PRESENT


def test_an_issuer_of_people_has_no_service_accounts() -> None:
    token = forge(claims(**{"sub": SUBJECT, "kubernetes.io": told(), "groups": ["eng"]}))
    identity = establish(bearer(token)).identity
    assert (identity.source, list(identity.groups)) == ("jwt:corp", ["eng"])
    assert not identity.HasField("kind")
    assert not identity.claims
