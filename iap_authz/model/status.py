# SPDX-License-Identifier: Apache-2.0
"""Which HTTP status a decision is answered with (DESIGN section 4): one pure function, used by reply and record."""

from iap_authz.model.decision import Decision
from iap_authz.model.reason import Reason, Verdict

OK, FOUND, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, UNAVAILABLE = 200, 302, 400, 401, 403, 503

_BY_VERDICT = {Verdict.ALLOW: OK, Verdict.CHALLENGE: UNAUTHORIZED, Verdict.UNDECIDED: UNAVAILABLE}


def http_status(decision: Decision, *, wants: str) -> int:
    """The status for a client that `wants` "html", "json" or "grpc".

    ALLOW 200; CHALLENGE 401, or 302 where the rule names a redirect and the client prefers HTML; UNDECIDED 503; DENY
    400 for a malformed request, 401 for an invalid credential, else 403.
    """
    if decision.verdict is Verdict.CHALLENGE and wants == "html" and "redirect" in decision.asks:
        return FOUND
    if decision.verdict is not Verdict.DENY:
        return _BY_VERDICT[decision.verdict]
    if Reason.MALFORMED_REQUEST <= decision.reason <= Reason.FACT_WITH_NUL:
        return BAD_REQUEST
    if is_invalid_token(decision.reason):
        return UNAUTHORIZED
    return FORBIDDEN


def is_invalid_token(reason: Reason) -> bool:
    """Whether `reason` says that a token or API key was shown and is false (RFC 6750 section 3.1)."""
    return Reason.MALFORMED_TOKEN <= reason <= Reason.CONFUSABLE_TEXT
