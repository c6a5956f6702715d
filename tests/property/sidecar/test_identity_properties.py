# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes a client sends in whatever header: one well-formed answer, one record of it, and an ALLOW only for who
has shown one good credential in its one spelling.

Each example goes over a socket into the gRPC server, through the parser, facts, policy, record and journal, and back as
the bytes of a CheckResponse. The snapshot is the same for all of them, so that its caches have seen what came before.
`tests.fakes.credentials` says who may be let in.

Seen to fail with each of these planted, one at a time: `bearer` in lower case is taken; white space around a token is
stripped; a comma may stand in the header; the first of two headers counts, of tokens and of API keys; a key beside
`authorization` is taken; an empty key header is none; the last spelling of a name counts; names are not folded, or are
folded beyond ASCII; bytes that are no UTF-8 are dropped; no signature is checked; expiry is not; base64url may be
loose; text behind a key is cut off, or its letters folded; a cache that finds by a prefix, or finds a key as a token;
no revocation; a refusal without its record; an exception for a token without `sub`.

A longer run: `pytest --hypothesis-profile long tests/property/sidecar/test_identity_properties.py`.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc.aio
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iap_authz.adapters.envoy.request import parse_check
from iap_authz.adapters.envoy.response import AUDIT_ID_HEADER
from iap_authz.adapters.envoy.server import SERVICE, CheckServer
from iap_authz.model.reason import Reason, Verdict
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile
from iap_authz.records.record import audit_id, parse_record
from tests.fakes.api_keys import HEADER, KEY, access
from tests.fakes.checks import check_request
from tests.fakes.credentials import (
    REVOKED,
    Headers,
    bad_tokens,
    good_tokens,
    header_lists,
    headers_of,
    is_nobody,
    is_somebody,
    issuers,
    mutated,
    spellings,
)
from tests.fakes.tokens import NOW
from tests.unit.sidecar.test_check import Bench

POLICY = b"""
kind: Policy
name: test
routes:
- {name: closed, match: {paths: ["/closed"]}, allow: [{id: known, when: 'identity.subject != ""'}]}
- {name: open, match: {paths: ["/open"]}, allow: [{id: anyone, when: 'true'}]}
"""
PATHS = st.sampled_from(("/closed", "/open"))
TIME_BOUND_SECONDS = 1_800
"""For the longer run."""


def examples(fewest: int) -> int:
    """As many as the profile wants, and no fewer than find what is planted."""
    return max(fewest, settings().max_examples)


class Edge:
    """A sidecar's server, check and journal, and a client of it on a Unix socket, all in a loop of their own."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.socket = folder / "s"
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.bench = Bench()
        self.bench.clock.advance((NOW - self.bench.clock.now()).total_seconds())
        self.bench.snapshot_in_force = replace(
            self.bench.snapshot_in_force,
            policy=load_policy([SourceFile(name="p.yaml", content=POLICY)]),
            issuers=issuers(),
            api_keys=access(),
            revocations=REVOKED,
        )
        self.server = CheckServer(
            self.bench.check_service,
            address=f"unix:{self.socket}",
            monotonic=self.bench.clock.monotonic,
            deadline_seconds=1.0,
        )
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"unix:{self.socket}")
        self.call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{SERVICE}/Check")

    async def _ask(self, raw: bytes) -> bytes:
        return await self.call(raw)

    def judge(self, raw: bytes) -> Verdict:
        """Ask with these bytes, check that the answer and its one record say the same, and return the verdict."""
        before, counted = len(self.bench.leaves), self.bench.refusals.waiting
        data = self.loop.run_until_complete(self._ask(raw))
        response = external_auth_pb2.CheckResponse.FromString(data)
        made = self.bench.leaves[before:]
        assert len(made) + self.bench.refusals.waiting - counted == 1, "one record, or one count"
        allowed = response.status.code == 0
        assert response.WhichOneof("http_response") == ("ok_response" if allowed else "denied_response")
        headers = response.ok_response.headers if allowed else response.denied_response.headers
        shown = [one.header.value for one in headers if one.header.key == AUDIT_ID_HEADER]
        assert shown == [audit_id(leaf) for leaf in made]
        if not made:
            assert not allowed, "an ALLOW has a record"
            return Verdict.UNDECIDED
        decision = parse_record(made[0]).decision
        assert (decision.verdict == Verdict.ALLOW.value) is allowed
        assert decision.reason != Reason.INTERNAL_ERROR.value, "nothing that a client sends raises"
        if not allowed:
            assert response.denied_response.status.code == decision.http_status >= 300
        return Verdict(decision.verdict)

    def stop(self) -> None:
        self.loop.run_until_complete(self.channel.close())
        self.loop.run_until_complete(self.server.stop(1.0))
        self.loop.close()


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with TemporaryDirectory() as folder:  # pytest's own path may be too long for a socket's
        made = Edge(Path(folder))
        yield made
        made.stop()


def check(edge: Edge, raw: bytes, *, is_whole: bool = True) -> Verdict:
    """Who is let in may be, says the oracle; and whoever may be is, if nothing else of the request is bad."""
    verdict, headers = edge.judge(raw), headers_of(raw)
    request = parse_check(raw)
    may_pass = is_somebody(headers) or (request.path == "/open" and is_nobody(headers))
    if verdict is Verdict.ALLOW:
        assert may_pass
    elif is_whole and request.problem is None and request.path in {"/open", "/closed"}:
        assert not may_pass, "somebody good is refused"
    return verdict


def raw_of(headers: Headers, path: str, *, raw: bool = True) -> bytes:
    return bytes(check_request(path=path, headers=headers, raw=raw).SerializeToString())


@pytest.mark.time_bound(TIME_BOUND_SECONDS)
@given(header_lists(), PATHS)
@settings(max_examples=examples(250))
@example([("authorization", b"Basic YTpi, Bearer x")], "/open")
@example([(HEADER, b"")], "/open")
@example([("authorization", b"")], "/open")
@example([("x-api-\u212aey", KEY.encode())], "/closed")
@example([("authorization", b"Bearer \xff" + good_tokens()[0].encode())], "/closed")
@example([(HEADER, KEY.encode() + b"\xff")], "/closed")
def test_any_headers_let_in_only_who_has_shown_one_good_credential(edge: Edge, headers: Headers, path: str) -> None:
    check(edge, raw_of(headers, path))


@pytest.mark.time_bound(TIME_BOUND_SECONDS)
@given(header_lists(), PATHS)
@settings(max_examples=examples(100))
@example([("Authorization", b"x"), ("authorization", b"Bearer " + good_tokens()[0].encode())], "/closed")
def test_so_do_headers_that_arrive_joined(edge: Edge, headers: Headers, path: str) -> None:
    check(edge, raw_of(headers, path, raw=False))


@pytest.mark.time_bound(TIME_BOUND_SECONDS)
@given(st.data())
@settings(max_examples=examples(120))
def test_any_change_of_the_bytes_on_the_wire_does_not_let_in_more(edge: Edge, data: st.DataObject) -> None:
    good = raw_of(data.draw(header_lists()), data.draw(PATHS), raw=data.draw(st.booleans()))
    check(edge, data.draw(mutated(good)), is_whole=False)


@pytest.mark.time_bound(TIME_BOUND_SECONDS)
@given(st.binary(max_size=300))
@settings(max_examples=examples(100))
def test_any_bytes_at_all_are_one_refusal(edge: Edge, raw: bytes) -> None:
    assert edge.judge(raw) is not Verdict.ALLOW


def sequences() -> Sequence[Headers]:
    """What one credential could leave behind for the next."""
    good = [[("authorization", f"Bearer {token}".encode())] for token in good_tokens()]
    bad = [[("authorization", f"Bearer {token}".encode())] for token in bad_tokens()]
    cut = [[(name, value[:-1])] for ((name, value),) in good]
    keys = [[(HEADER, text.encode())] for text in (KEY, KEY.upper(), KEY[:-1], f"{KEY}0", KEY.replace("_5", "_6"))]
    return [*good, *bad, *cut, *keys, [("authorization", f"Bearer {KEY}".encode())], []]


@pytest.mark.parametrize("path", ["/closed", "/open"])
def test_of_all_spellings_of_a_good_credential_one_is_good(edge: Edge, path: str) -> None:
    """Exhausted, not sampled."""
    token = good_tokens()[1]
    let_in = [spelling for spelling in spellings(token) if _ask_with(edge, "authorization", spelling, path=path)]
    others = [one for one in let_in if one != f"Bearer {token}".encode()]
    assert len(let_in) - len(others) == 1
    assert bool(others) is (path == "/open"), "another scheme, which shows nobody"
    for name in ("x_api_key", "api-key", "authorization"):
        assert not _ask_with(edge, name, KEY.encode(), path="/closed")
    let_in = [spelling for spelling in spellings(KEY) if _ask_with(edge, HEADER, spelling, path=path)]
    assert let_in == [KEY.encode()]


def _ask_with(edge: Edge, name: str, value: bytes, *, path: str) -> bool:
    return check(edge, raw_of([(name, value)], path)) is Verdict.ALLOW


def test_each_credential_after_each_other_one_is_judged_alone(edge: Edge) -> None:
    """Exhausted, not sampled; and the oracle knows both answers."""
    judged = set()
    for first in sequences():
        for second in sequences():
            for headers in (first, second):
                check(edge, raw_of(headers, "/closed"))
                judged.add(is_somebody(headers_of(raw_of(headers, "/closed"))))
    assert judged == {True, False}
