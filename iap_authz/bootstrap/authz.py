# SPDX-License-Identifier: Apache-2.0
"""The ext_authz filter of an Envoy: how it asks the sidecar, and what it does with the answer.

Invariant: refusing is the filter's only failure. Envoy's own defaults answer 403 for an error, would let a request
through where a runtime key disables the filter, and let an answer rewrite `:path`; each is set otherwise here.
Specified by envoy.extensions.filters.http.ext_authz.v3; measured on Envoy 1.40.
"""

from datetime import timedelta

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    BackoffStrategy,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    RuntimeFeatureFlag,
    RuntimeFractionalPercent,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthz
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType, HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any

from iap_authz.bootstrap.clusters import AUTHZ_CLUSTER
from iap_authz.bootstrap.settings import EdgeSettings

FILTER_NAME = "envoy.filters.http.ext_authz"
"""Also the namespace of the dynamic metadata that carries the audit id."""

STAT_PREFIX = "iap"
ROUTE_METADATA_NAMESPACE = "iap"

ANSWER_MAX_BYTES = 256 * 1024
"""No answer of the sidecar comes near it; what does is an error, so a 503."""

REFUSAL_BODY_MAX_BYTES = 64 * 1024
"""The same for the body of a refusal, which Envoy cuts there."""

RETRIES = 2
"""One worker that died, and the one that dies while the check is on its way to it."""


def build_authz_filter(settings: EdgeSettings) -> HttpFilter:
    """The HTTP filter."""
    filter_config = ExtAuthz(
        transport_api_version=ApiVersion.V3,
        stat_prefix=STAT_PREFIX,
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=AUTHZ_CLUSTER, max_receive_message_length=ANSWER_MAX_BYTES),
            timeout=settings.authz_timeout,  # the sidecar is told, as grpc-timeout
            retry_policy=_build_retry(settings.authz_timeout),
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        filter_enabled=RuntimeFractionalPercent(
            default_value=FractionalPercent(numerator=100, denominator=FractionalPercentDenominatorType.HUNDRED)
        ),
        # Acts when a runtime key has disabled the filter all the same: then it refuses.
        deny_at_disable=RuntimeFeatureFlag(default_value=True, runtime_key="iap.deny_at_disable"),
        validate_mutations=True,
        decoder_header_mutation_rules=HeaderMutationRules(disallow_system=True, disallow_is_error=True),
        encode_raw_headers=True,
        include_peer_certificate=True,
        include_tls_session=True,
        clear_route_cache=False,
        charge_cluster_response_stats=False,  # a refusal is not a failure of the application
        max_denied_response_body_bytes=REFUSAL_BODY_MAX_BYTES,
        route_metadata_context_namespaces=[ROUTE_METADATA_NAMESPACE],
    )
    return HttpFilter(name=FILTER_NAME, typed_config=Any.pack(filter_config))


def _build_retry(timeout: timedelta) -> RetryPolicy:
    """Only checks that never reached a worker are sent again: `reset` would make two records for one request."""
    return RetryPolicy(
        retry_on="connect-failure,refused-stream",
        num_retries=RETRIES,
        # The longest back-off is also the time-out of each try: a shorter one would cut healthy answers off.
        retry_back_off=BackoffStrategy(base_interval=timedelta(milliseconds=1), max_interval=timeout),
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=Any.pack(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=3,
    )
