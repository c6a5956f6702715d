# SPDX-License-Identifier: Apache-2.0
"""From the section `assertion` to what signs assertions and serves their keys."""

import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iap_authz.adapters.keys.assertion import MemoryAssertionKey
from iap_authz.config_assertion import AssertionConfig
from iap_authz.errors import PolicyInvalid
from iap_authz.policy.compiled import Policy, Route
from iap_authz.ports import Clock
from iap_authz.sidecar.assertions import Asserter, Assertions, AssertionSettings, NoAssertions

if TYPE_CHECKING:
    from iap_authz.adapters.http.server import KeySetServer

NAMES_MAX = 5
"""Routes that a message names."""

_log = logging.getLogger("iap_authz.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asserting:
    """What signs, and the server of its keys. Neither is there without the section."""

    assertions: Assertions | None
    server: "KeySetServer | None"

    @property
    def asserter(self) -> Asserter:
        """For every check."""
        return NoAssertions() if self.assertions is None else self.assertions

    async def start(self) -> None:
        """Serve the keys. Raises ConfigInvalid where the address cannot be had."""
        if self.server is not None:
            _log.info("the keys of assertions are served", extra={"port": await self.server.start()})

    def works(self) -> list[Coroutine[object, object, object]]:
        """What runs as long as checks are answered."""
        return [] if self.assertions is None else [self.assertions.run()]

    async def stop(self) -> None:
        """Serve the keys no more. Idempotent."""
        if self.server is not None:
            await self.server.stop()


def make_asserting(config: AssertionConfig | None, clock: Clock) -> Asserting:
    """Make the first keys; nothing is served yet."""
    if config is None:
        return Asserting(assertions=None, server=None)
    from iap_authz.adapters.http.server import KeySetServer  # noqa: PLC0415 -- slow to import, and few assert

    settings = AssertionSettings(
        issuer=config.issuer, audience=config.audience, rotation_seconds=config.rotation.total_seconds()
    )
    assertions = Assertions(settings, make_key=MemoryAssertionKey, clock=clock)
    return Asserting(assertions=assertions, server=KeySetServer(assertions, address=config.listen))


def check_promises(policy: Policy, config: AssertionConfig | None) -> None:
    """Refuse a policy whose assertions this process could not make. Raises PolicyInvalid with the fix."""
    asking = [route for route in policy.routes if route.assertion is not None]
    if config is None and asking:
        message = f"got assertion for {_names(asking)} and no section assertion in the configuration, want one"
        raise PolicyInvalid.of_file(policy.name, message)
    open_ended = [route for route in asking if route.assertion is not None and not route.assertion.audience]
    if config is not None and not config.audience and open_ended:
        message = f"got assertion for {_names(open_ended)} without an audience, want one in the route or configured"
        raise PolicyInvalid.of_file(policy.name, message)


def _names(routes: list[Route]) -> str:
    return ", ".join(route.name for route in routes[:NAMES_MAX])
