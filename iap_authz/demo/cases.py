# SPDX-License-Identifier: Apache-2.0
"""What the demonstration asks, and what must come out: data, read by the demonstration and by its tests.

Invariant: a case says everything that an outsider can check: the status, the verdict with its reason and rule as the
record has them, what the application was asked (nothing, for a refusal), and headers on either side. A case without a
verdict is refused by Envoy itself, before anybody is asked, and has no record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from iap_authz.demo.files import HOST
from iap_authz.model.reason import Reason, Verdict

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What must come out. Without a verdict, Envoy answered by itself and there is no record."""

    status: int
    verdict: Verdict | None = None
    reason: Reason | None = None
    rule: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request and its outcome. `token` and `device` are names of the demonstration's files, empty for none."""

    title: str
    outcome: Outcome
    target: str = "/api/orders"
    method: str = "GET"
    host: str = HOST
    token: str = "alice"  # noqa: S105 -- the name of a file, not what it holds
    device: str = "laptop"
    place: str = "Berlin"
    headers: Headers = ()
    served_as: str = ""
    """The target that the application gets of an allowed request, where it is another one."""
    sent_on: Mapping[str, str] = field(default_factory=dict)
    """Headers that the application must get, once each."""
    kept_back: Sequence[str] = ()
    """Headers, by canonical name, that the application must not get in any spelling."""
    answered: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer: a text that the value must hold."""
    note: str = ""

    @property
    def served(self) -> list[str]:
        """The targets that the application must get."""
        return [self.served_as or self.target] if self.outcome.verdict is Verdict.ALLOW else []


def _denied(reason: Reason, route: str = "", *, rule: str = "", status: int = 403) -> Outcome:
    return Outcome(status=status, verdict=Verdict.DENY, reason=reason, rule=rule, route=route)


def _allowed(rule: str, route: str) -> Outcome:
    return Outcome(status=200, verdict=Verdict.ALLOW, reason=Reason.ALLOWED, rule=rule, route=route)


def _challenged(rule: str, route: str, *, status: int = 401) -> Outcome:
    return Outcome(status=status, verdict=Verdict.CHALLENGE, reason=Reason.CHALLENGED_BY_RULE, rule=rule, route=route)


_ENGINEER: Final = _allowed("engineers", "api")
_ADMIN: Final = _allowed("admins", "admin")
_NO_ADMIN: Final = _denied(Reason.NO_RULE_MATCHED, "admin")
_NO_ENGINEER: Final = _denied(Reason.NO_RULE_MATCHED, "api")
_EMBARGO: Final = _denied(Reason.DENIED_BY_RULE, "api", rule="embargo")
_BY_ENVOY: Final = Outcome(status=400)
_INVALID_TOKEN: Final = {"www-authenticate": 'error="invalid_token"'}
_FORGED: Final[Headers] = (
    ("X-Iap-User", "root"),
    ("x-iap-audit-id", "f" * 64),
    ("x.iap.user", "root"),
    ("X-Team", "root"),
    ("x.team", "root"),
)

IDENTITY: Final = (
    Case(
        title="an engineer on a managed laptop",
        outcome=_ENGINEER,
        sent_on={"x-team": "platform"},
        note="all three facts hold",
    ),
    Case(
        title="a partner, by an RSA key of another provider",
        outcome=_ENGINEER,
        token="paula",  # noqa: S106
        sent_on={"x-team": "partners"},
    ),
    Case(title="the wrong group", outcome=_NO_ENGINEER, token="bob", note="sales is not eng"),  # noqa: S106
    Case(
        title="no token",
        outcome=Outcome(
            status=401, verdict=Verdict.CHALLENGE, reason=Reason.IDENTITY_ABSENT, rule="engineers", route="api"
        ),
        token="",
        answered={"www-authenticate": "Bearer"},
        note="unknown is not false: asked to sign in",
    ),
    Case(
        title="a forged token",
        outcome=_denied(Reason.BAD_SIGNATURE, status=401),
        token="forged-signature",  # noqa: S106
        answered=_INVALID_TOKEN,
        note="somebody else's key, the same kid",
    ),
    Case(
        title="an expired token",
        outcome=_denied(Reason.EXPIRED, status=401),
        token="alice-yesterday",  # noqa: S106
        answered=_INVALID_TOKEN,
        note="over since an hour ago",
    ),
    Case(
        title="algorithm confusion",
        outcome=_denied(Reason.BAD_ALG, status=401),
        token="forged-algorithm",  # noqa: S106
        answered=_INVALID_TOKEN,
        note="HS256, keyed with the public RSA key",
    ),
    Case(
        title="two credentials at once",
        outcome=_denied(Reason.AMBIGUOUS_CREDENTIALS, status=401),
        headers=(("Authorization", "Basic cm9vdDpyb290"),),
        answered=_INVALID_TOKEN,
        note="two readers would see two users",
    ),
)
"""Who asks."""

DEVICE: Final = (
    Case(title="an unmanaged device", outcome=_NO_ENGINEER, device="byod", note="known, but not managed"),
    Case(
        title="a lost laptop",
        outcome=_denied(Reason.DEVICE_REVOKED),
        device="lost-laptop",
        note="the inventory says so",
    ),
    Case(title="no device certificate", outcome=_challenged("enrol", "api"), device="", note="a program gets 401"),
    Case(
        title="the same, in a browser",
        outcome=_challenged("enrol", "api", status=302),
        device="",
        headers=(("Accept", "text/html,*/*;q=0.8"),),
        answered={"location": "https://enrol.example.com/"},
        note="a person is sent to enrol",
    ),
)
"""From which device."""

PLACE: Final = (
    Case(title="another country", outcome=_ENGINEER, place="Lyon", note="address by PROXY protocol"),
    Case(title="a third one, over IPv6", outcome=_ENGINEER, place="Delft"),
    Case(title="the wrong country", outcome=_EMBARGO, place="Antarctica"),
    Case(
        title="the same, claiming Berlin",
        outcome=_EMBARGO,
        place="Antarctica",
        headers=(("X-Forwarded-For", "192.0.2.10"), ("X-Envoy-External-Address", "192.0.2.10")),
        note="a client's word is not believed",
    ),
    Case(
        title="an address without a place",
        outcome=_denied(Reason.FACT_ABSENT, "api", rule="engineers"),
        place="nowhere",
        note="no place, no guess",
    ),
)
"""From where."""

PATHS: Final = (
    Case(title="an administrator", outcome=_ADMIN, target="/admin", token="carol"),  # noqa: S106
    Case(title="/api/%2e%2e/admin", outcome=_NO_ADMIN, target="/api/%2e%2e/admin", note="Envoy makes it /admin"),
    Case(title="/api/..;/admin", outcome=_NO_ADMIN, target="/api/..;/admin", note="Envoy makes it /admin"),
    Case(
        title="/api/..;/admin by an administrator",
        outcome=_ADMIN,
        target="/api/..;/admin",
        token="carol",  # noqa: S106
        served_as="/admin",
        note="policy and application both saw /admin",
    ),
    Case(
        title="/api%2f..%2fadmin",
        outcome=_BY_ENVOY,
        target="/api%2f..%2fadmin",
        note="Envoy refuses it itself: no check, no record",
    ),
    Case(
        title="/api/%252e%252e/admin",
        outcome=_denied(Reason.PATH_DOUBLE_ENCODED, status=400),
        target="/api/%252e%252e/admin",
        note="decodes twice: refused, not guessed",
    ),
    Case(
        title="/api;v=1/orders",
        outcome=_denied(Reason.PATH_PARAMETERS, status=400),
        target="/api;v=1/orders",
        note="servers differ on these",
    ),
    Case(
        title="a host that nobody named",
        outcome=_denied(Reason.NO_ROUTE),
        host="other.example.com",
        note="checked and recorded all the same",
    ),
)
"""Path and host tricks."""

RULES: Final = (
    Case(
        title="a rule that fails",
        outcome=Outcome(
            status=503, verdict=Verdict.UNDECIDED, reason=Reason.CONDITION_ERROR, rule="clearance", route="broken"
        ),
        target="/broken",
        token="alice-with-a-word-for-a-number",  # noqa: S106
        answered={"retry-after": "1"},
        note="an error is no yes, and no no",
    ),
    Case(
        title="signed in two hours ago",
        outcome=_challenged("step-up", "payroll"),
        target="/payroll/alice",
        token="alice-two-hours-ago",  # noqa: S106
        answered={"www-authenticate": 'error="insufficient_user_authentication"'},
        note="fine for the API, not for payroll",
    ),
    Case(
        title="her own payslip, in the office",
        outcome=_allowed("own-slip-in-the-office", "payroll"),
        target="/payroll/alice",
    ),
    Case(
        title="somebody else's payslip",
        outcome=_denied(Reason.NO_RULE_MATCHED, "payroll"),
        target="/payroll/bob",
        note="the path against the token",
    ),
    Case(
        title="a public page",
        outcome=_allowed("anybody-somewhere", "public"),
        target="/public/",
        token="",
        device="",
        note="no token, no device, a known country",
    ),
)
"""What rules can say."""

HEADERS: Final = (
    Case(
        title="spoofed identity headers",
        outcome=_ENGINEER,
        headers=_FORGED,
        sent_on={"x-team": "platform"},
        kept_back=("x-iap-user",),
        note="only ours get through",
    ),
    Case(
        title="the same with an underscore",
        outcome=_BY_ENVOY,
        headers=(("x_iap_user", "root"),),
        note="Envoy refuses it itself: no check, no record",
    ),
)
"""Headers that would be believed."""

CASES: Final = (*IDENTITY, *DEVICE, *PLACE, *PATHS, *RULES, *HEADERS)
"""In the order they are shown."""
