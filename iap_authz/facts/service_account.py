# SPDX-License-Identifier: Apache-2.0
"""Kubernetes service accounts: what a projected token of a cluster says of the pod that shows it.

The invariant: a token of an issuer that is a cluster becomes a workload only if its subject, its namespace and its
account say the same, and it is bound to a pod where that is asked for; whatever else such an issuer signs is nobody.

    sub             system:serviceaccount:<namespace>:<name>
    kubernetes.io   {"namespace": .., "serviceaccount": {"name": .., "uid": ..},
                     "pod": {"name": .., "uid": ..}, "node": {"name": .., "uid": ..}}        node from Kubernetes 1.32

A token without a pod was made by hand, or belongs to a Secret: nothing ends it but its time. What the token says of a
pod was true when it was issued: the kubelet renews it after four fifths of its life, and nobody here asks whether the
pod is still there. Its life bounds that.

Groups are those that Kubernetes itself gives an account. Specification: Kubernetes TokenRequest v1 and the claims of
bound tokens (KEP-1205, KEP-4193). Deliberately not here: tokens of the older form, which never expire (no `exp` is
refused before this) and carry their names in `kubernetes.io/serviceaccount/...`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iap_authz.errors import InvalidCredential
from iap_authz.facts.encoding import JsonValue
from iap_authz.model.reason import Reason

CLAIM: Final = "kubernetes.io"
KIND: Final = "workload"

_GROUP: Final = "system:serviceaccounts"
_SUBJECT = re.compile(r"system:serviceaccount:(?P<namespace>[^:]+):(?P<name>[^:]+)")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
"""RFC 1123 as Kubernetes has it: names of namespaces, accounts, pods and nodes."""

_UID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
"""A UUID, in practice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """Who runs the pod. `pod` and `node` are None where the token is not bound to one, or does not say."""

    namespace: str
    name: str
    uid: str
    pod: str | None = None
    pod_uid: str | None = None
    node: str | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that Kubernetes gives an account, all of which are in this token."""
        return (_GROUP, f"{_GROUP}:{self.namespace}")

    @property
    def claims(self) -> dict[str, str]:
        """For `Identity.claims`; they stand above configured claims of the same names."""
        named = {"namespace": self.namespace, "serviceaccount": self.name, "serviceaccount_uid": self.uid}
        named |= {key: value for key in ("pod", "pod_uid", "node") if (value := getattr(self, key)) is not None}
        return {f"kubernetes.{key}": value for key, value in named.items()}


def judge_service_account(payload: Mapping[str, JsonValue], subject: str, *, want_pod: bool) -> ServiceAccount:
    """What the token of a cluster says. Raises InvalidCredential; `payload` is of a token known to be genuine."""
    match = _SUBJECT.fullmatch(subject)
    if match is None:
        raise InvalidCredential(Reason.BAD_SUB, "want a sub system:serviceaccount:<namespace>:<name> of a cluster")
    told = _object(payload, CLAIM)
    if told is None:
        raise InvalidCredential(Reason.UNSUPPORTED_TOKEN, f"got a service account token without {CLAIM}")
    account = _object(told, "serviceaccount") or {}
    pod, node = _object(told, "pod"), _object(told, "node")
    if pod is None and want_pod:
        raise InvalidCredential(Reason.UNSUPPORTED_TOKEN, "got a service account token that is not bound to a pod")
    found = ServiceAccount(
        namespace=_matching(told, "namespace", _NAME),
        name=_matching(account, "name", _NAME),
        uid=_matching(account, "uid", _UID),
        pod=_matching(pod, "name", _NAME) if pod is not None else None,
        pod_uid=_matching(pod, "uid", _UID) if pod is not None else None,
        node=_matching(node, "name", _NAME) if node is not None else None,
    )
    if (found.namespace, found.name) != (match["namespace"], match["name"]):
        raise InvalidCredential(Reason.BAD_SUB, f"got a sub that is not the account that {CLAIM} names")
    return found


def _object(members: Mapping[str, JsonValue], name: str) -> Mapping[str, JsonValue] | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, dict):
        raise InvalidCredential(Reason.BAD_CLAIM_TYPE, f"got another type of {name} in {CLAIM}, want an object")
    return value


def _matching(members: Mapping[str, JsonValue], name: str, pattern: re.Pattern[str]) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidCredential(Reason.BAD_CLAIM_TYPE, f"got no {name} in {CLAIM} that Kubernetes would give")
    return value
