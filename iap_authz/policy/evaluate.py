# SPDX-License-Identifier: Apache-2.0
"""The table: one `Policy` and one `Facts` give one `Decision`.

    before rules   request INVALID, then identity, device, location INVALID    DENY, with the family's own problem
                   request neither PRESENT nor INVALID                         UNDECIDED internal_error
                   no route                                                    DENY no_route

    rows in order  any TRUE    else any UNKNOWN   else any ABSENT
    deny           DENY        UNDECIDED          CHALLENGE if the identity is what is absent, else DENY
    challenge      CHALLENGE   UNDECIDED          the same
    allow          ALLOW       UNDECIDED          the same
    nothing        DENY no_rule_matched

Invariant: the verdict of a row does not depend on the order of its rules; the rule that is named is the first, in the
order of the file, of those that decided. Only `is True` is TRUE: an error of CEL's is a truthy text.

`evaluate` is total and reads nothing but its arguments: the same facts and policy give the same decision. The caller
puts `find_route(...).captures` into `facts.request.captures`; without them a condition on a capture is ABSENT.
"""

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cel_expr_python import cel

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.model.decision import Decision, Shadow, denied, undecided
from iap_authz.model.reason import Reason, Verdict
from iap_authz.policy.compiled import Condition, Policy, Route, Rule
from iap_authz.policy.environment import facts_environment
from iap_authz.policy.presence import Survey, survey, visible_facts

HEADER_VALUE_MAX_CHARS = 4_096
"""Well below what servers take for one field; a claim that long is a mistake or an attack."""

_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
_REASON_IF_UNSAID = {
    "request": Reason.MALFORMED_REQUEST,
    "identity": Reason.BAD_SIGNATURE,
    "device": Reason.BAD_CERTIFICATE,
    "location": Reason.BAD_ADDRESS,
}
_PRECEDENCE = (Reason.NO_KEYS, Reason.SOURCE_ERROR, Reason.SOURCE_STALE)
"""Which cause is told where a condition reads several broken families."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A source failed, or CEL did."""

    reason: Reason
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Absent:
    """Something the condition needs was not shown. `identity`: because no identity was."""

    missing: frozenset[str]
    identity: bool


class _Known(enum.Enum):
    """What CEL says of a condition when it says anything."""

    TRUE = enum.auto()
    FALSE = enum.auto()


_TRUE, _FALSE = _Known.TRUE, _Known.FALSE
_CEL_FAILED = _Unknown(Reason.CONDITION_ERROR, frozenset())


class _Outcome(NamedTuple):
    """What the rows say, before headers and shadow rules."""

    verdict: Verdict
    reason: Reason
    rule: str = ""
    missing: frozenset[str] = frozenset()
    asks: Mapping[str, str] = {}
    set_headers: Mapping[str, str] = {}


def evaluate(policy: Policy, facts: facts_pb2.Facts) -> Decision:
    """Decide one request."""
    refusal = _refuse_before_rules(policy, facts)
    if refusal is not None:
        return refusal
    request = facts.request
    match = policy.find_route(request.method, request.host, list(request.segments))
    if match is None:
        return denied(Reason.NO_ROUTE, policy.digest)
    route = match.route
    asked = _Questions.about(route, facts)
    outcome = _decide(route, asked)
    if outcome.verdict is Verdict.ALLOW and route.set_headers:
        outcome = _with_headers(outcome, route, asked)
    return Decision(
        verdict=outcome.verdict,
        reason=outcome.reason,
        rule=outcome.rule,
        route=route.name,
        missing=tuple(sorted(outcome.missing)),
        shadow=_shadow(route, asked),
        durability=route.durability,
        set_headers=outcome.set_headers,
        remove_headers=_others(policy, outcome),
        assertion=route.assertion if outcome.verdict is Verdict.ALLOW else None,
        asks=outcome.asks,
        policy_digest=policy.digest,
    )


def _others(policy: Policy, outcome: _Outcome) -> tuple[str, ...]:
    """Headers that some route of the policy vouches for and this answer does not: a client's own must not pass."""
    if outcome.verdict is not Verdict.ALLOW:
        return ()
    return tuple(sorted(policy.headers_set - outcome.set_headers.keys()))


def _refuse_before_rules(policy: Policy, facts: facts_pb2.Facts) -> Decision | None:
    for name, unsaid in _REASON_IF_UNSAID.items():
        family = getattr(facts, name)
        if family.state == facts_pb2.INVALID:
            return denied(_problem(family.problem, unsaid), policy.digest)
    if facts.request.state != facts_pb2.PRESENT:
        return undecided(Reason.INTERNAL_ERROR, policy.digest)
    return None


def _problem(number: int, unsaid: Reason) -> Reason:
    try:
        reason = Reason(number)
    except ValueError:
        return unsaid
    return unsaid if reason is Reason.ALLOWED else reason


def _decide(route: Route, asked: "_Questions") -> _Outcome:
    rows = (
        (route.deny, Verdict.DENY, Reason.DENIED_BY_RULE),
        (route.challenge, Verdict.CHALLENGE, Reason.CHALLENGED_BY_RULE),
        (route.allow, Verdict.ALLOW, Reason.ALLOWED),
    )
    for rules, verdict, reason in rows:
        outcome = _decide_row(rules, asked, if_true=_Outcome(verdict, reason)) if rules else None
        if outcome is not None:
            return outcome
    return _Outcome(Verdict.DENY, Reason.NO_RULE_MATCHED)


def _decide_row(rules: Sequence[Rule], asked: "_Questions", *, if_true: _Outcome) -> _Outcome | None:
    """What the row decides, or None where it leaves the decision to the next. `if_true` is what a rule of it says."""
    unknown: list[tuple[Rule, _Unknown]] = []
    absent: list[tuple[Rule, _Absent]] = []
    for rule in rules:
        answer = asked.answer(rule.condition)
        if answer is _FALSE:
            continue
        if answer is _TRUE:
            return if_true._replace(rule=rule.id, asks=rule.asks)
        if isinstance(answer, _Absent):
            absent.append((rule, answer))
        else:
            unknown.append((rule, answer if isinstance(answer, _Unknown) else _CEL_FAILED))
    if unknown:
        rule, first = unknown[0]
        missing = first.missing.union(*(answer.missing for _, answer in unknown))
        return _Outcome(Verdict.UNDECIDED, first.reason, rule=rule.id, missing=missing)
    return _decide_absent(absent) if absent else None


def _decide_absent(absent: Sequence[tuple[Rule, _Absent]]) -> _Outcome:
    """Ask for an identity where that may help, else deny; the rule named is the first that explains it."""
    rule, first = absent[0]
    missing = first.missing.union(*(answer.missing for _, answer in absent))
    for asking, answer in absent:
        if answer.identity:
            return _Outcome(Verdict.CHALLENGE, Reason.IDENTITY_ABSENT, rule=asking.id, missing=missing)
    return _Outcome(Verdict.DENY, Reason.FACT_ABSENT, rule=rule.id, missing=missing)


def _with_headers(outcome: _Outcome, route: Route, asked: "_Questions") -> _Outcome:
    """The same ALLOW with the headers of the route, or UNDECIDED where one cannot be told."""
    headers: dict[str, str] = {}
    for name, condition in route.set_headers:
        answer = asked.text(condition)
        # An empty value would not replace the client's own header at the proxy, so it counts as none.
        if isinstance(answer, _Absent) or answer == "":
            continue
        if isinstance(answer, str) and _is_header_value(answer):
            headers[name] = answer
        else:
            missing = answer.missing if isinstance(answer, _Unknown) else frozenset()
            return _Outcome(Verdict.UNDECIDED, Reason.CONDITION_ERROR, rule=outcome.rule, missing=missing)
    return outcome._replace(set_headers=headers)


def _is_header_value(text: str) -> bool:
    return len(text) <= HEADER_VALUE_MAX_CHARS and _HEADER_VALUE.fullmatch(text) is not None


def _shadow(route: Route, asked: "_Questions") -> tuple[Shadow, ...]:
    found: list[Shadow] = []
    for rule in route.shadow:
        answer = asked.answer(rule.condition)
        verdict: Verdict | None = Verdict.UNDECIDED
        if answer is _TRUE:
            verdict = rule.verdict
        elif answer is _FALSE:
            verdict = None
        found.append(Shadow(rule=rule.id, verdict=verdict))
    return tuple(found)


@dataclass(slots=True, kw_only=True)
class _Questions:
    """All that is asked about one request. The route's list expression is run at most once, when first needed."""

    route: Route
    known: Survey
    facts: facts_pb2.Facts
    _activation: cel.Activation | None = field(default=None, init=False)
    _batch: list[object] | None = field(default=None, init=False)
    _batch_was_run: bool = field(default=False, init=False)

    @classmethod
    def about(cls, route: Route, facts: facts_pb2.Facts) -> "_Questions":
        known = survey(route, facts)
        return cls(route=route, known=known, facts=visible_facts(route, facts, known.absent))

    def answer(self, condition: Condition) -> _Known | _Unknown | _Absent:
        """Whether a condition holds."""
        blocked = self._blocked(condition)
        if blocked is not None:
            return blocked
        value = self._from_batch(condition.slot)
        if value is None:
            value = self._ask(condition.expression, cel.Value.plain_value)
        if value is True:
            return _TRUE
        return _FALSE if value is False else _CEL_FAILED

    def text(self, condition: Condition) -> str | _Unknown | _Absent:
        """The text of a header."""
        blocked = self._blocked(condition)
        if blocked is not None:
            return blocked
        value = self._ask(condition.expression, _text_of)
        return value if isinstance(value, str) else _CEL_FAILED

    def _blocked(self, condition: Condition) -> _Unknown | _Absent | None:
        known = self.known
        broken = [name for name in condition.families if name in known.broken] if known.broken else []
        if broken:
            causes = {known.broken[name] for name in broken}
            reason = next(cause for cause in _PRECEDENCE if cause in causes)
            return _Unknown(reason, frozenset(read.path for read in condition.sourced if read.family in broken))
        if condition.needed & known.unset:
            return self._absent(condition.needed & known.unset)
        return None

    def _absent(self, bits: int) -> _Absent:
        reads = [read for number, read in enumerate(self.route.needed) if bits >> number & 1]
        identity = "identity" in self.known.absent and any(read.family == "identity" for read in reads)
        return _Absent(frozenset(read.path for read in reads), identity)

    def _from_batch(self, slot: int) -> object | None:
        """The answer of the list expression, or None where the condition must be asked alone."""
        if not self._batch_was_run:
            self._batch_was_run = True
            values = self._ask(self.route.batch, cel.Value.plain_value) if self.route.batch is not None else None
            self._batch = values if isinstance(values, list) else None
        value = self._batch[slot] if self._batch is not None else None
        return value if isinstance(value, bool) else None

    def _ask(self, expression: cel.Expression, read: Callable[[cel.Value], object]) -> object:
        """What `read` makes of CEL's answer, or None if CEL raised: an iteration budget, mostly."""
        try:
            if self._activation is None:
                self._activation = facts_environment().Activation({"facts": self.facts})
            return read(expression.eval(self._activation))
        except Exception:  # noqa: BLE001  nothing of ours is in here, and whatever CEL raises means "unknown"
            return None


def _text_of(value: cel.Value) -> object:
    """The text of an answer that is one. The value of an error is a text too, so the type is asked first."""
    return value.plain_value() if value.type() == cel.Type.STRING else None
