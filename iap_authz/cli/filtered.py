# SPDX-License-Identifier: Apache-2.0
"""`@filtered`: a command whose filters are options, and which gets them as one request.

The invariant: the options of `records search`, `records tail` and `hold place` are the same ones, spelt once, in
`search_options`.

Typer reads a command's options from its signature. So what stands there is put together here: the command's own, and
behind those that say which log, one for each filter.
"""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.cli import search_options as filters

CLEAR: dict[str, Any] = {
    "verdict": filters.Verdicts,
    "reason_code": filters.Reasons,
    "rule": filters.Rule,
    "route": filters.Route,
    "country": filters.Country,
    "begin": filters.From,
    "end": filters.To,
    "writer": filters.Writer,
    "policy": filters.Policy,
    "body": filters.Bodies,
}
"""Filters of what is in the clear, by parameter."""

PERSONAL: dict[str, Any] = {
    "subject": filters.Subject,
    "device": filters.Device,
    "address": filters.Network,
    "host": filters.Host,
    "path_prefix": filters.PathPrefix,
    "asn": filters.Asn,
    "request_id": filters.RequestId,
    "trace_id": filters.TraceId,
}
"""Filters of what is sealed, by parameter."""

LAST_BEFORE = "checkpoint"
"""The parameter that the filters stand behind: of those that say which log, the last that all commands have."""

Command = Callable[..., None]


def filtered(*, without: frozenset[str] = frozenset()) -> Callable[[Command], Command]:
    """A command that takes the filters as a request, its first parameter; `without` some, by parameter."""
    kinds = {name: kind for name, kind in (CLEAR | PERSONAL).items() if name not in without}

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:  # noqa: ANN401 -- values of as many kinds as there are options
            command(_request_of({name: given.pop(name) for name in kinds}), **given)

        own = list(signature(command, eval_str=True).parameters.values())[1:]
        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in kinds.items()
        ]
        at = [one.name for one in own].index(LAST_BEFORE) + 1
        shown = [*own[:at], *options, *own[at:]]
        run.__signature__ = Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in shown}
        return run

    return decorate


def _request_of(given: dict[str, Any]) -> log_pb2.SearchRecordsRequest:
    """The filters that were given. Exits with 2 for a word that no record can have."""
    request = filters.search_request(
        verdicts=given["verdict"],
        reasons=given["reason_code"],
        rule=given["rule"],
        route=given["route"],
        country=given["country"],
        begin=given.get("begin"),
        end=given.get("end"),
        writer=given["writer"],
        policy=given["policy"],
        bodies=given["body"],
    )
    filters.add_personal(request, **{name: given[name] for name in PERSONAL})
    return request
