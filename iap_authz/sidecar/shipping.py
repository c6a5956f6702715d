# SPDX-License-Identifier: Apache-2.0
"""What a check needs to know of the way into the audit log, and the answer where there is no log."""

import asyncio
from typing import Protocol


class Shipping(Protocol):
    """How far the records of this process are in the audit log. Nothing here waits."""

    @property
    def refuses(self) -> bool:
        """Whether nothing may be allowed because of the state of the log (`on_log_fault: refuse`)."""

    def shipped(self, sequence: int) -> "asyncio.Future[None]":
        """Done once a verified receipt covers record `sequence` of this process. Cancel it when it is not needed."""


class NoLog:
    """A sidecar without an audit log: nothing is refused because of it. No policy asks for `durability: log` here."""

    refuses = False

    def shipped(self, sequence: int) -> "asyncio.Future[None]":  # noqa: ARG002 -- the port's
        """Never done."""
        return asyncio.get_running_loop().create_future()
