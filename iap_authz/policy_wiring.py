# SPDX-License-Identifier: Apache-2.0
"""The assembly of the policy: its files, and which bundle this process may take. A part of `wiring`."""

from dataclasses import replace

from iap_authz.adapters.facts.policy_files import PolicyFiles
from iap_authz.assertion_wiring import check_promises
from iap_authz.config import SidecarConfig
from iap_authz.errors import PolicyInvalid
from iap_authz.facts.credential import AUTHORIZATION, Place
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
        _check_reads_no_credential(policy, config)
        _check_binds_no_token(policy, config)

    return Slot(PolicyFiles(config.policies), max_stale_seconds=None, check_succession=check_succession)


def policy_in_force(policy: Policy, config: SidecarConfig) -> Policy:
    """The policy as a snapshot has it: headers that say something to us alone reach no upstream."""
    return keep_from_upstream(policy, _own_headers(config))


def keep_from_upstream(policy: Policy, headers: frozenset[str]) -> Policy:
    """The same policy, under which none of a client's own `headers` reaches the upstream, in any spelling."""
    return replace(policy, headers_set=policy.headers_set | headers) if headers else policy


def _own_headers(config: SidecarConfig) -> frozenset[str]:
    """The headers that credentials of ours alone come in.

    Not `authorization`, nor cookies and the query: they are the application's as well.
    """
    headers = {source.name for source in config.token_sources if source.place is Place.HEADER}
    if config.api_keys is not None:
        headers.add(config.api_keys.header)
    if config.client_certificate is not None:
        headers.add(XFCC_HEADER)
    return frozenset(headers - {AUTHORIZATION.name})


def _check_durability(policy: Policy) -> None:
    """Refuse a policy that promises more than this process keeps: a record in the audit log before the answer."""
    asking = [route.name for route in policy.routes if route.durability is not Durability.JOURNAL]
    if asking:
        message = f"got durability log for {', '.join(asking[:5])} and no audit log, want durability journal"
        raise PolicyInvalid.of_file(policy.name, message)


def _check_binds_no_token(policy: Policy, config: SidecarConfig) -> None:
    """Refuse assertions that are bound to a target with a token in it: no record has that, so none is signed over."""
    bound = [route.name for route in policy.routes if route.assertion is not None and route.assertion.request_binding]
    parameters = [source.name for source in config.token_sources if source.place is Place.QUERY]
    if bound and parameters:
        message = f"got an assertion bound to the request for {', '.join(bound[:5])}, and tokens in its query"
        want = f"want request_binding: false, or no token_sources with query: {parameters[0]}"
        raise PolicyInvalid.of_file(policy.name, f"{message}; {want}")


def _check_reads_no_credential(policy: Policy, config: SidecarConfig) -> None:
    """Refuse a policy that reads where a credential may stand: the record of each request would hold it."""
    parameters = {source.name for source in config.token_sources if source.place is Place.QUERY}
    # A page whose URL has a token says so in the Referer of what it loads.
    headers = _own_headers(config) | ({":path", "referer"} if parameters else set())
    read = sorted({*(headers & policy.headers_read), *(parameters & policy.query_parameters_read)})
    if read:
        message = f"got a condition that reads {read[0]}, which credentials come in, want one that reads identity"
        raise PolicyInvalid.of_file(policy.name, message)
