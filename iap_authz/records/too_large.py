# SPDX-License-Identifier: Apache-2.0
"""What a refusal keeps of facts that do not fit in a record.

The invariant: nothing is cut in silence. A field is kept whole or left out whole, and every field that is left out is
named, by its path and never by its value; the caller puts the names into `missing` of the refusal that it records.

Such a decision cannot be replayed, and need not be: its verdict is a refusal of the service, not of the policy.
"""

from typing import NamedTuple

from iap_authz._pb.iap.facts.v1 import facts_pb2

KEPT_MAX_BYTES = 32_768
"""Half of a record: the other half is for the clear part, whose lists the policy bounds."""

_NEVER_LEFT_OUT = frozenset({"state", "age", "problem"})


class Kept(NamedTuple):
    """Facts that fit, and the paths of the fields that were left out of them."""

    facts: facts_pb2.Facts
    left_out: tuple[str, ...]


def keep_what_fits(facts: facts_pb2.Facts, *, max_bytes: int = KEPT_MAX_BYTES) -> Kept:
    """Leave out whole fields, the largest first, until the facts are at most `max_bytes`. `facts` is not changed."""
    kept = facts_pb2.Facts()
    kept.CopyFrom(facts)
    left_out = []
    for size, path in sorted(_sizes(facts), reverse=True):
        if kept.ByteSize() <= max_bytes or size == 0:
            break
        family, name = path.split(".")
        getattr(kept, family).ClearField(name)
        left_out.append(path)
    return Kept(facts=kept, left_out=tuple(sorted(left_out)))


def _sizes(facts: facts_pb2.Facts) -> list[tuple[int, str]]:
    """How many bytes each field of each family takes."""
    sizes = []
    for family, message in facts.ListFields():
        for field, _ in message.ListFields():
            if family.name == "now" or field.name in _NEVER_LEFT_OUT:
                continue
            rest = type(message)()
            rest.CopyFrom(message)
            rest.ClearField(field.name)
            sizes.append((message.ByteSize() - rest.ByteSize(), f"{family.name}.{field.name}"))
    return sizes
