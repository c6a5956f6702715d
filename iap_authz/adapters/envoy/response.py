# SPDX-License-Identifier: Apache-2.0
"""Render an `Answer` as the bytes of `envoy.service.auth.v3.CheckResponse`.

A default CheckResponse is an ALLOW to Envoy, and so is `denied_response` beside status 0. Therefore only the two
functions `_allow` and `_refuse` build one, each writes status and body together, and tests assert on the wire bytes.
`error_response` is not used: it obeys `failure_mode_allow`.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import struct_pb2

from iap_authz.model.decision import undecided
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.model.status import FOUND, UNAUTHORIZED, UNAVAILABLE, http_status, is_invalid_token
from iap_authz.model.target import wanted_form
from iap_authz.ports import Answer

AUDIT_ID_HEADER = "x-iap-audit-id"
ASSERTION_HEADER = "x-iap-assertion"
OWN_HEADER_PREFIX = "x-iap-"
"""Names that only the sidecar may set; a client's own never reach the upstream, in any spelling."""

OVERRIDING_HEADERS = frozenset(
    {"x-original-url", "x-rewrite-url", "x-http-method-override", "x-http-method", "x-method-override"}
)
"""By these some upstreams replace the path or method that the policy judged, so they never pass."""

METADATA_KEY = "iap_authz"
"""Our key inside Envoy's metadata namespace `envoy.filters.http.ext_authz`."""

RETRY_AFTER_SECONDS = 1
"""A cause that passes usually passes within a second (journal room, restart)."""

_PUNCTUATION = re.compile(r"[^a-z0-9]")
_GRPC_OK, _GRPC_PERMISSION_DENIED, _GRPC_UNAUTHENTICATED, _GRPC_UNAVAILABLE = 0, 7, 16, 14
_OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_TITLES = {
    302: ("login_required", "Sign-in required"),
    400: ("invalid_request", "Bad request"),
    401: ("login_required", "Sign-in required"),
    403: ("access_denied", "Access denied"),
    503: ("temporarily_unavailable", "Temporarily unavailable"),
}


def render_answer(answer: Answer, request: Request) -> bytes:
    """The serialized CheckResponse for `answer`."""
    if answer.decision.verdict is Verdict.ALLOW:
        return _allow(answer, request)
    return _refuse(answer, request)


def render_failure(audit_id: str) -> bytes:
    """The refusal that needs nothing but an audit id, for when an answer cannot be rendered."""
    return _refuse(Answer(decision=undecided(Reason.INTERNAL_ERROR), audit_id=audit_id), Request())


def _allow(answer: Answer, request: Request) -> bytes:
    response = external_auth_pb2.CheckResponse()
    response.status.code = _GRPC_OK
    ok = response.ok_response
    audit_header = _header(AUDIT_ID_HEADER, answer.audit_id)
    ok.headers.append(audit_header)
    if (answer.decision.assertion is None) is not (answer.assertion == ""):
        raise ValueError("got an ALLOW with another assertion than it promises, want the one, or none")
    if answer.assertion:
        ok.headers.append(_header(ASSERTION_HEADER, answer.assertion))
    ok.headers.extend(_header(name, value) for name, value in answer.decision.set_headers.items())
    ok.headers_to_remove.extend(_forged(request, answer))
    ok.response_headers_to_add.append(audit_header)
    _add_metadata(response, answer)
    return bytes(response.SerializeToString())


def _refuse(answer: Answer, request: Request) -> bytes:
    wants = wanted_form(request.header("accept"), request.header("content-type"))
    status = http_status(answer.decision, wants=wants)
    response = external_auth_pb2.CheckResponse()
    response.status.code = _grpc_code(status)
    denied = response.denied_response
    denied.status.code = status
    content_type, denied.body = _body(answer, status, wants)
    headers = {
        AUDIT_ID_HEADER: answer.audit_id,
        "content-type": content_type,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **_headers_for(answer, status),
    }
    denied.headers.extend(_header(name, value) for name, value in headers.items() if value)
    _add_metadata(response, answer)
    return bytes(response.SerializeToString())


def _grpc_code(status: int) -> int:
    """Envoy reads only "zero or not"; the code tells a reader of traces what kind of refusal it was."""
    if status == UNAVAILABLE:
        return _GRPC_UNAVAILABLE
    return _GRPC_UNAUTHENTICATED if status in (UNAUTHORIZED, FOUND) else _GRPC_PERMISSION_DENIED


def canonical_name(name: str) -> str:
    """A header name as servers of the CGI family read it: case and which punctuation it has make no difference."""
    return _PUNCTUATION.sub("-", name.lower())


def _forged(request: Request, answer: Answer) -> Iterator[str]:
    """Names of client headers that must not pass, in any spelling: ours, overriding ones, those the route decides."""
    decided = {canonical_name(name) for name in (*answer.decision.set_headers, *answer.decision.remove_headers)}
    overwritten = {AUDIT_ID_HEADER, *answer.decision.set_headers}
    if answer.assertion:
        overwritten.add(ASSERTION_HEADER)
    for name in request.headers:
        canonical = canonical_name(name)
        ours = canonical.startswith(OWN_HEADER_PREFIX) or canonical in decided
        if name not in overwritten and (ours or canonical in OVERRIDING_HEADERS):
            yield name


def _headers_for(answer: Answer, status: int) -> Mapping[str, str]:
    asks = answer.decision.asks
    if status == UNAVAILABLE:
        return {"retry-after": str(RETRY_AFTER_SECONDS)}
    if status == FOUND:
        return {"location": asks["redirect"]}
    if status != UNAUTHORIZED:
        return {}
    parameters = {"realm": "iap-authz"}
    if is_invalid_token(answer.decision.reason):
        parameters["error"] = "invalid_token"  # RFC 6750 section 3.1
    elif "acr" in asks or "max_age" in asks:
        parameters["error"] = "insufficient_user_authentication"  # RFC 9470 section 3
        parameters |= {"acr_values": asks["acr"]} if "acr" in asks else {}
        parameters |= {"max_age": asks["max_age"]} if "max_age" in asks else {}
    return {"www-authenticate": "Bearer " + ", ".join(f"{key}={_quoted(value)}" for key, value in parameters.items())}


def _quoted(value: str) -> str:
    """A quoted-string of RFC 9110 section 5.6.4; what cannot stand in one is dropped."""
    kept = "".join(character for character in value if " " <= character <= "~")
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _body(answer: Answer, status: int, wants: str) -> tuple[str, str]:
    """Content type and body: a stable code and the audit id, nothing else of the reason."""
    code, title = _TITLES[status]
    if is_invalid_token(answer.decision.reason):
        code = "invalid_token"
    if wants == "grpc":  # Envoy turns the body into grpc-message
        return "text/plain; charset=utf-8", f"{code} (audit id {answer.audit_id})"
    if wants == "html":
        return "text/html; charset=utf-8", _page(code, title, answer.audit_id)
    problem = {
        "type": f"urn:iap-authz:{code}",
        "title": title,
        "status": status,
        "code": code,
        "audit_id": answer.audit_id,
    }
    return "application/problem+json", json.dumps(problem, separators=(",", ":"))  # RFC 9457


def _page(code: str, title: str, audit_id: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title></head>'
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(code)}</p>"
        f"<p>If you ask for help, quote this audit id:<br><code>{html.escape(audit_id)}</code></p></body></html>"
    )


def _header(name: str, value: str) -> base_pb2.HeaderValueOption:
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value), append_action=_OVERWRITE)


def _add_metadata(response: external_auth_pb2.CheckResponse, answer: Answer) -> None:
    """Dynamic metadata of the outer message: the one in OkHttpResponse is deprecated and would override it."""
    decision = answer.decision
    inner = struct_pb2.Struct()
    inner.update(
        {
            "audit_id": answer.audit_id,
            "verdict": decision.verdict.code,
            "reason": decision.reason.code,
            "rule": decision.rule,
            "policy_digest": decision.policy_digest.hex(),
        }
    )
    response.dynamic_metadata.fields[METADATA_KEY].struct_value.CopyFrom(inner)
