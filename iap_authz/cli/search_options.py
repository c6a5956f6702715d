# SPDX-License-Identifier: Apache-2.0
"""The filters of `records search`, `records tail` and `hold place`: options of the command line become one request.

Clear fields are found as they stand in the records, what is sealed by the tokens of the log's index (rule S9).
"""

from datetime import UTC, datetime
from typing import Annotated

import typer

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.cli.log_options import parse_digest, parse_writer
from iap_authz.errors import shown
from iap_authz.model.reason import Reason, Verdict
from iap_authz.records.record import render_time

PAGE_MAX = 1_000
"""Records in one answer (log.proto)."""

Verdicts = Annotated[
    list[str] | None, typer.Option("--verdict", help=f"{', '.join(one.code for one in Verdict)}. Repeat for more.")
]
Reasons = Annotated[list[str] | None, typer.Option("--reason-code", help="A reason's code. Repeat for more.")]
Rule = Annotated[str | None, typer.Option(help="Id of the rule that decided.")]
Route = Annotated[str | None, typer.Option(help="Name of the route.")]
Country = Annotated[str | None, typer.Option(help="Two letters.")]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="ISO 8601; UTC if it names no zone.")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="The same; the end is not included.")]
Writer = Annotated[str | None, typer.Option(help="Id of a writer, 64 hex digits.")]
Policy = Annotated[str | None, typer.Option(help="Digest of the policy that decided, 64 hex digits.")]
Bodies = Annotated[list[str] | None, typer.Option("--body", help="decision, heartbeat, ... Repeat for more.")]

Subject = Annotated[str | None, typer.Option(help="The subject, exactly as its issuer says it.")]
Device = Annotated[str | None, typer.Option(help="A device: its id, certificate hash or SPIFFE id.")]
Network = Annotated[str | None, typer.Option("--address", help="An address, or a network such as 192.0.2.0/24.")]
Host = Annotated[str | None, typer.Option(help="The host that was asked.")]
PathPrefix = Annotated[str | None, typer.Option(help="Requests below this path, in whole segments.")]
Asn = Annotated[int | None, typer.Option(min=1, help="Number of the client's network operator.")]
RequestId = Annotated[str | None, typer.Option(help="Envoy's x-request-id.")]
TraceId = Annotated[str | None, typer.Option(help="The trace id of a W3C traceparent.")]

_BODIES = tuple(field.name for field in record_pb2.Record.DESCRIPTOR.oneofs_by_name["body"].fields)


def search_request(  # noqa: PLR0913 -- one parameter a filter; they become one value at once
    *,
    verdicts: list[str] | None,
    reasons: list[str] | None,
    rule: str | None,
    route: str | None,
    country: str | None,
    begin: str | None = None,
    end: str | None = None,
    writer: str | None,
    policy: str | None,
    bodies: list[str] | None,
) -> log_pb2.SearchRecordsRequest:
    """The filters as a request. Exits with 2 for a word that no record can have."""
    request = log_pb2.SearchRecordsRequest(rule=rule or "", route=route or "", country=(country or "").upper())
    request.verdicts.extend(Verdict[name].value for name in _names(verdicts, Verdict, option="--verdict"))
    request.reasons.extend(Reason[name].value for name in _names(reasons, Reason, option="--reason-code"))
    request.bodies.extend(_known(one, _BODIES, option="--body") for one in bodies or ())
    if writer is not None:
        request.writer = parse_writer(writer)
    if policy is not None:
        request.policy_digest = parse_digest(policy, "--policy")
    if begin is not None:
        getattr(request, "from").CopyFrom(render_time(_parse_time(begin, "--from")))
    if end is not None:
        request.to.CopyFrom(render_time(_parse_time(end, "--to")))
    return request


def add_personal(  # noqa: PLR0913 -- as above
    request: log_pb2.SearchRecordsRequest,
    *,
    subject: str | None,
    device: str | None,
    address: str | None,
    host: str | None,
    path_prefix: str | None,
    asn: int | None,
    request_id: str | None,
    trace_id: str | None,
) -> None:
    """Narrow a search by what is sealed. The log says what is wrong with a value."""
    request.subject, request.device = subject or "", device or ""
    request.address_or_network, request.host = address or "", host or ""
    request.path_prefix, request.asn = path_prefix or "", asn or 0
    request.request_id, request.trace_id = request_id or "", trace_id or ""


def _names(words: list[str] | None, kind: type[Verdict] | type[Reason], *, option: str) -> list[str]:
    names = {one.code: one.name for one in kind}
    return [names[_known(word, tuple(names), option=option)] for word in words or ()]


def _known(word: str, known: tuple[str, ...], *, option: str) -> str:
    if word not in known:
        raise typer.BadParameter(f"got {shown(word)}, want one of {', '.join(known)}", param_hint=option)
    return word


def _parse_time(text: str, option: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        message = f"got {shown(text)}, want a time such as 2026-01-31T12:00:00Z"
        raise typer.BadParameter(message, param_hint=option) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
