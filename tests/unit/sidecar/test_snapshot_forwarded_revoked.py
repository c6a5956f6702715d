# SPDX-License-Identifier: Apache-2.0
"""Revocation behind a proxy in front: of the client's certificate, and of the proxy's own."""

import pytest

from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.model.reason import Reason, State, Verdict
from iap_authz.policy.evaluate import evaluate
from tests.fakes.certificates import fingerprint_of
from tests.unit.sidecar.test_snapshot_forwarded import CLIENT, HEADER, NOW, PROXY, asked, snapshot


@pytest.mark.parametrize("certificate", [CLIENT, PROXY], ids=["client", "proxy"])
def test_each_certificate_that_the_answer_rests_on_is_refused_once_it_is_revoked(certificate: object) -> None:
    entry = Revocation(kind=Kind.CERTIFICATE, value=fingerprint_of(certificate))  # type: ignore[arg-type]
    good, revoked = snapshot(), snapshot(revocations=RevocationList(entries=(entry,)))
    assert evaluate(good.policy, good.establish(asked(HEADER), NOW)).verdict is Verdict.ALLOW
    refused = evaluate(revoked.policy, revoked.establish(asked(HEADER), NOW))
    assert (refused.verdict, refused.reason) == (Verdict.DENY, Reason.CERTIFICATE_REVOKED)


def test_without_the_list_neither_is_cleared() -> None:
    facts = snapshot(revocations=None).establish(asked(HEADER), NOW)
    assert (State(facts.identity.state), State(facts.device.state)) == (State.ERROR, State.ERROR)
