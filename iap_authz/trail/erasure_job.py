# SPDX-License-Identifier: Apache-2.0
"""One erasure, or a dry run of one, as it is held in memory while it is on its way; and how it is told.

The invariant: what must survive this process is in `row` and `rounds`, which the store has; all else is for telling.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.ports import ErasureRound, ErasureRow, Stage

ISSUERS_MAX = 100
"""That an answer names; a subject with more has no name that says who it is."""

Position = log_pb2.WriterPosition


@dataclass(slots=True, kw_only=True)
class Job:
    """An erasure. `address` is where the last call came from, for the record of that reading.

    `swept`: the leaves below it were looked through. `problem` is what stands in its way now, `remark` what stays true.
    """

    row: ErasureRow
    dry_run: bool = False
    address: str = ""
    rounds: list[ErasureRound] = field(default_factory=list)
    swept: int = 0
    counted: int = 0
    issuers: tuple[str, ...] = field(default=(), repr=False)
    holds: tuple[bytes, ...] = ()
    waiting_for: tuple[Position, ...] = ()
    problem: str = ""
    remark: str = ""

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return self.row.stage

    @property
    def is_open(self) -> bool:
        """Whether there is anything left to do for it, by this process or by an officer."""
        return self.stage in (Stage.COUNTING, Stage.WAITS_APPROVAL, Stage.ERASING, Stage.ERASED)

    def take_round(self, changed: ErasureRound) -> None:
        """A round is new, or further than it was."""
        self.rounds[changed.number - 1 :] = [changed]

    def told(self) -> log_pb2.ErasureState:
        """The erasure as an officer is told of it."""
        indices = [one.index for one in self.rounds if one.index is not None]
        return log_pb2.ErasureState(
            erasure=self.row.erasure,
            stage=self.stage,
            records=sum(one.records for one in self.rounds) if self.rounds else self.counted,
            done=sum(one.done for one in self.rounds),
            seal_epoch=self.row.seal_epoch,
            erasure_index=indices[-1] if indices else 0,
            issuers=self.issuers[:ISSUERS_MAX],
            holds=self.holds,
            waiting_for=self.waiting_for,
            problem="; ".join(_said((self.problem, self.remark))),
            log_size=max([self.swept, *(one.log_size for one in self.rounds)]),
        )


def _said(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text]
