# SPDX-License-Identifier: Apache-2.0
"""For any bytes in a CheckRequest the reply is a well-formed CheckResponse, and exactly one record says the same."""

import asyncio

from envoy.service.auth.v3 import external_auth_pb2
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.adapters.envoy.request import parse_check
from iap_authz.adapters.envoy.response import render_answer
from iap_authz.model.reason import Verdict
from iap_authz.ports import Answer
from iap_authz.records.record import audit_id
from tests.fakes.checks import check_request
from tests.unit.sidecar.test_check import Bench

GOOD = check_request(path="/open", headers=[("x-request-id", "1"), ("accept", "text/html")]).SerializeToString()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good request with a few bytes changed, cut off or put in."""
    content = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(content)))
        change = draw(st.binary(max_size=6))
        content[position : position + draw(st.integers(0, 6))] = change
    return bytes(content)


async def ask(raw: bytes) -> tuple[Answer, external_auth_pb2.CheckResponse, Bench]:
    bench = Bench()
    request = parse_check(raw)
    answer = await bench.check_service.check(request, bench.clock.monotonic() + 1)
    return answer, external_auth_pb2.CheckResponse.FromString(render_answer(answer, request)), bench


@given(mutated() | st.binary(max_size=200))
def test_any_bytes_end_in_a_well_formed_answer_and_one_record(raw: bytes) -> None:
    answer, response, bench = asyncio.run(ask(raw))
    (record,) = bench.records
    assert answer.audit_id == audit_id(bench.leaves[0])
    assert record.decision.verdict == answer.decision.verdict
    if answer.decision.verdict is Verdict.ALLOW:
        facts = record.open.decision.facts.request
        assert (facts.method, facts.path) == ("GET", "/open")  # the one thing that the policy of the bench allows
        assert (response.status.code, response.WhichOneof("http_response")) == (0, "ok_response")
    else:
        assert response.status.code != 0
        assert response.WhichOneof("http_response") == "denied_response"
        assert response.denied_response.status.code == record.decision.http_status
