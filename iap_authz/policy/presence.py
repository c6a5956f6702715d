# SPDX-License-Identifier: Apache-2.0
"""What is not known of what a route reads, before CEL is asked anything.

On an unset field CEL reads a default: `!device.managed` and `location.country != "RU"` would be true of nothing. So

    family STALE or ERROR (or a state nobody set)   any read of it, guarded or not     UNKNOWN
    family ABSENT                                   an unguarded read of it            ABSENT
    field not set                                   an unguarded read of it            ABSENT
    `state`, `problem`, `source`                    read in every state
    `age`                                           read in every state, ABSENT if not set
    `now`                                           ABSENT if not set

A list or map without elements is not set, unless its name stands in `empty` of its family. `has()` on a family that
is ABSENT is false: `visible_facts` hides what such a family may hold (an address without a place has networks).
"""

from dataclasses import dataclass

from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.model.reason import Reason
from iap_authz.policy.compiled import Probe, Route
from iap_authz.policy.environment import FAMILIES
from iap_authz.policy.reads import Kind, Read

Family = facts_pb2.Identity | facts_pb2.Device | facts_pb2.Location | facts_pb2.Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """`broken` families failed, and why; `absent` families were not shown; `unset` are bits of `route.needed`."""

    broken: dict[str, Reason]
    absent: frozenset[str]
    unset: int


def survey(route: Route, facts: facts_pb2.Facts) -> Survey:
    """What is not known of all that the route's conditions need."""
    broken: dict[str, Reason] = {}
    absent: list[str] = []
    unset = 0
    for name in FAMILIES:
        family: Family = getattr(facts, name)
        state = family.state
        if state == facts_pb2.ABSENT:
            absent.append(name)
        elif state != facts_pb2.PRESENT:
            broken[name] = _why_broken(name, family)
        shown = state != facts_pb2.ABSENT
        for probe in route.probes.get(name, ()):
            if not (_has_value(probe, family) and (shown or probe.kind is Kind.AGE)):
                unset |= probe.bit
    for probe in route.probes.get("", ()):
        if not facts.HasField("now"):
            unset |= probe.bit
    return Survey(broken=broken, absent=frozenset(absent), unset=unset)


def _why_broken(name: str, family: Family) -> Reason:
    if family.state == facts_pb2.STALE:
        return Reason.SOURCE_STALE
    if name == "identity" and family.state == facts_pb2.ERROR and family.problem == reason_pb2.REASON_NO_KEYS:
        return Reason.NO_KEYS
    return Reason.SOURCE_ERROR


def _has_value(read: Read | Probe, family: Family) -> bool:
    kind = read.kind
    if kind is Kind.OPTIONAL or kind is Kind.AGE:
        return family.HasField(read.field)
    value = getattr(family, read.field)
    if kind is Kind.ENTRY:
        return read.key in value
    return bool(value) or (kind is Kind.MANY and read.field in family.empty)


def visible_facts(route: Route, facts: facts_pb2.Facts, absent: frozenset[str]) -> facts_pb2.Facts:
    """The facts that CEL may see: the same message, or a copy without what an absent family holds.

    Only guarded reads can get that far, so only their fields are cleared. The argument is never changed.
    """
    if not absent:
        return facts
    hidden = [read for read in route.guarded if read.family in absent and read.kind not in (Kind.ALWAYS, Kind.AGE)]
    hidden = [read for read in hidden if _has_value(read, getattr(facts, read.family))]
    if not hidden:
        return facts
    visible = facts_pb2.Facts()
    visible.CopyFrom(facts)
    for read in hidden:
        getattr(visible, read.family).ClearField(read.field)
    return visible
