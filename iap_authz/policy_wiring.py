# SPDX-License-Identifier: Apache-2.0
"""The assembly of the policy: its files, and which bundle this process may take. A part of `wiring`."""

from dataclasses import replace

from iap_authz.adapters.facts.policy_files import PolicyFiles
from iap_authz.assertion_wiring import check_promises
from iap_authz.config import SidecarConfig
from iap_authz.errors import PolicyInvalid
from iap_authz.facts.xfcc import XFCC_HEADER
from iap_authz.model.reason import Durability
from iap_authz.policy.compiled import Policy
from iap_authz.sidecar.refresh import Slot


def make_policy_slot(config: SidecarConfig) -> Slot[Policy]:
    """The policy files, nothing loaded yet. Its good bundle is kept for as long as no better one comes."""

    def check_succession(policy: Policy, _last: Policy | None) -> None:
        check_promises(policy, config.assertion)
        if config.log is None:
            _check_durability(policy)
        if config.api_keys is not None:
            _check_reads_no_key(policy, config.api_keys.header)
        if config.client_certificate is not None:
            _check_reads_no_certificate(policy)

    return Slot(PolicyFiles(config.policies), max_stale_seconds=None, check_succession=check_succession)


def policy_in_force(policy: Policy, config: SidecarConfig) -> Policy:
    """The policy as a snapshot has it: headers that say something to us reach no upstream."""
    if config.api_keys is not None:
        policy = keep_from_upstream(policy, config.api_keys.header)
    if config.client_certificate is not None:
        policy = keep_from_upstream(policy, XFCC_HEADER)
    return policy


def keep_from_upstream(policy: Policy, header: str) -> Policy:
    """The same policy, under which a client's own `header` never reaches the upstream, in any spelling."""
    return replace(policy, headers_set=policy.headers_set | {header})


def _check_durability(policy: Policy) -> None:
    """Refuse a policy that promises more than this process keeps: a record in the audit log before the answer."""
    asking = [route.name for route in policy.routes if route.durability is not Durability.JOURNAL]
    if asking:
        message = f"got durability log for {', '.join(asking[:5])} and no audit log, want durability journal"
        raise PolicyInvalid.of_file(policy.name, message)


def _check_reads_no_key(policy: Policy, header: str) -> None:
    """Refuse a policy that reads the header of API keys: the record of each request would hold the key."""
    if header in policy.headers_read:
        message = f"got a condition that reads {header}, which API keys come in, want one that reads identity"
        raise PolicyInvalid.of_file(policy.name, message)


def _check_reads_no_certificate(policy: Policy) -> None:
    """Refuse a policy that reads the header itself: who it speaks of is known by the facts, and only once judged."""
    if XFCC_HEADER in policy.headers_read:
        message = f"got a condition that reads {XFCC_HEADER}, want one that reads device or identity"
        raise PolicyInvalid.of_file(policy.name, message)
