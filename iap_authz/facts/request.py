# SPDX-License-Identifier: Apache-2.0
"""Facts about the request itself: what conditions may read of it, bounded, and what is only recorded.

A header or query parameter that some condition reads must have one value; a second one makes the whole request INVALID,
because Envoy, the policy and the upstream might each pick another.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import parse_qsl

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import MalformedRequest
from iap_authz.model.reason import Reason
from iap_authz.model.request import UNTRUSTED_HEADERS, Request
from iap_authz.model.target import wanted_form

READ_VALUE_MAX_CHARS = 8_192
"""A header or parameter that a condition reads; longer ones are refused, never cut."""

RECORDED_VALUE_MAX_CHARS = 512
"""Text that no condition reads, or of a request that is refused; longer ones are cut with their length said."""

JOINED_BY_ENVOY = frozenset(
    {"access-control-request-method", "content-type", "expect", "grpc-timeout", "origin", "x-request-id"}
)
"""Headers of one value that Envoy joins with a comma even in `header_map`, so that two of them look like one."""

QUERY_FIELDS_MAX = 1_000
"""Parameters that are parsed when a condition reads one."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_MAPS = ("captures", "headers", "query_parameters", "context", "metadata")


def establish_request(
    request: Request,
    *,
    headers_read: Collection[str],
    parameters_read: Collection[str],
    captures: Mapping[str, str],
    untrusted: frozenset[str] = UNTRUSTED_HEADERS,
) -> facts_pb2.Request:
    """The request family of Facts. Never raises: what is wrong is `state` INVALID with its `problem`.

    Headers whose names are `untrusted` are recorded as what the client claims.
    """
    facts = facts_pb2.Request(
        state=facts_pb2.PRESENT, source=request.source, segments=request.segments, captures=captures
    )
    problem = request.problem
    try:
        if problem is None:
            _check_no_nul(request)
        for name in headers_read:
            _add_single(facts.headers, name, request.headers.get(name, ()))
            _check_unjoined(request, name)
        _add_parameters(facts, request.query, parameters_read)
    except MalformedRequest as error:
        problem = problem or Reason(error.reason)
    for name in sorted(untrusted & request.headers.keys()):
        facts.untrusted[name] = _recorded(", ".join(request.headers[name])).replace("\0", "\N{REPLACEMENT CHARACTER}")
    doubts = [*_add_texts(facts, request), *_add_connection(facts, request)]
    problem = problem or (doubts[0] if doubts else None)
    if problem is not None:
        facts.state = facts_pb2.INVALID
        facts.problem = problem.value
        facts.raw_path = _recorded(request.raw_path)
    facts.empty.extend(name for name in _MAPS if not getattr(facts, name))
    return facts


def _add_single(target: "facts_pb2.Request.HeadersEntry | object", name: str, values: Iterable[str]) -> None:
    """Put the one value of `name` into the map field `target`; none is fine, two are not."""
    found = tuple(values)
    if len(found) > 1:
        raise MalformedRequest(Reason.AMBIGUOUS_HEADER, f"got {len(found)} values of {name}, want one")
    if found and len(found[0]) > READ_VALUE_MAX_CHARS:
        raise MalformedRequest(Reason.MALFORMED_HEADER, f"got a value of {name} with {len(found[0])} characters")
    if found:
        target[name] = found[0]  # type: ignore[index]


def _add_parameters(facts: facts_pb2.Request, query: str, parameters_read: Collection[str]) -> None:
    if not parameters_read or not query:
        return
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise MalformedRequest(Reason.MALFORMED_REQUEST, "got a query that does not parse") from None
    for name in parameters_read:
        values = tuple(value for key, value in pairs if key == name)
        if any("\0" in value for value in values):
            raise MalformedRequest(Reason.FACT_WITH_NUL, f"got a NUL in parameter {name}")
        _add_single(facts.query_parameters, name, values)


def _check_no_nul(request: Request) -> None:
    """CEL cuts some text at NUL; none gets in."""
    texts = (request.principal, request.sni, request.stream_id, *request.context.values(), *request.metadata.values())
    if any("\0" in text for text in texts):
        raise MalformedRequest(Reason.FACT_WITH_NUL, "got a NUL in what Envoy said of the request")


def _check_unjoined(request: Request, name: str) -> None:
    """Refuse what may be two values in one: in the `headers` form Envoy has joined all of them with commas."""
    joined = request.source == "headers" or name in JOINED_BY_ENVOY
    if joined and any("," in value for value in request.headers.get(name, ())):
        raise MalformedRequest(Reason.AMBIGUOUS_HEADER, f"got a comma in {name}, want one value")


def _add_texts(facts: facts_pb2.Request, request: Request) -> Iterator[Reason]:
    """What the request says of itself; yields why a text of it cannot be believed to be whole and one."""
    if request.path:
        facts.query = request.query
    facts.wants = wanted_form(request.header("accept"), request.header("content-type"))
    texts = {name: getattr(request, name) for name in ("method", "host", "path", "scheme", "protocol")}
    texts |= {"id": request.header("x-request-id"), "user_agent": request.header("user-agent")}
    texts |= {"content_type": request.header("content-type")}
    yield from _set_texts(facts, texts)
    if "," in facts.content_type:
        yield Reason.AMBIGUOUS_HEADER
    trace = _TRACEPARENT.fullmatch(request.header("traceparent") or "")
    if trace:
        facts.trace_id = trace[1]


def _add_connection(facts: facts_pb2.Request, request: Request) -> Iterator[Reason]:
    """What Envoy says of the connection and the route; yields like `_add_texts`."""
    facts.tls = request.tls
    texts = {"sni": request.sni, "envoy_stream_id": request.stream_id, "principal": request.principal}
    texts |= {"peer": request.peer_address, "forwarded_by": request.forwarded_by}
    yield from _set_texts(facts, texts)
    if request.peer_port:
        facts.peer_port = request.peer_port
    for target, values in ((facts.context, request.context), (facts.metadata, request.metadata)):
        for name, value in values.items():
            target[name] = value if len(value) <= READ_VALUE_MAX_CHARS else _recorded(value)
            if len(value) > READ_VALUE_MAX_CHARS:
                yield Reason.MALFORMED_REQUEST
    facts.body_partial = request.body_partial
    if request.body_bytes:
        facts.body_bytes = request.body_bytes
        facts.body_sha256 = request.body_sha256
    facts.unseen.extend(request.unseen)


def _set_texts(facts: facts_pb2.Request, texts: Mapping[str, str | None]) -> Iterator[Reason]:
    """Set what is not empty, whole: a condition must not judge a part. Too long makes the request INVALID."""
    for field, text in texts.items():
        if text and len(text) > READ_VALUE_MAX_CHARS:
            yield Reason.MALFORMED_HEADER
            setattr(facts, field, _recorded(text))
        elif text:
            setattr(facts, field, text.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def _recorded(text: str) -> str:
    """`text` as the record keeps it: bounded, and if it was cut, saying so."""
    if len(text) <= RECORDED_VALUE_MAX_CHARS:
        return text
    return f"{text[:RECORDED_VALUE_MAX_CHARS]}... ({len(text)} characters)"
