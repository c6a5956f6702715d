# SPDX-License-Identifier: Apache-2.0
"""Where an Envoy sends to: the sidecar's workers, the application, its own admin socket, the access log service.

Invariant: a request that fails to reach one worker is sent to another only if the first cannot have seen it, so there
are never two records for one request; and a dead or frozen worker is out within a second.
Numbers were chosen by killing and freezing one worker of two and of three under load (Envoy 1.40).
"""

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    Http2ProtocolOptions,
    Pipe,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.google.protobuf import Any

from iap_authz.bootstrap.oauth2 import build_idp_cluster
from iap_authz.bootstrap.settings import EdgeSettings, TcpAddress, UnixAddress, parse_endpoint

AUTHZ_CLUSTER = "iap_authz"
ACCESS_LOG_CLUSTER = "iap_als"
UPSTREAM_CLUSTER = "app"
ADMIN_CLUSTER = "admin"

CONNECTION_BUFFER_BYTES = 32 * 1024
"""Envoy's advice for an edge; the default of 1 MiB lets slow peers hold memory."""

_AUTHZ_REQUESTS_MAX = 4096
"""More than the sidecars' `max_in_flight` together: they are to refuse, with a record, before Envoy does without."""

_AUTHZ_RETRIES_MAX = 1024
"""Retries at once. The default of 3 gives up exactly when a worker has died under load."""

_LOCAL_CONNECT = timedelta(milliseconds=100)
_UPSTREAM_CONNECT = timedelta(seconds=1)
_SECOND = timedelta(seconds=1)


def build_clusters(settings: EdgeSettings) -> list[Cluster]:
    """All clusters of a bootstrap; the admin socket only where the readiness listener needs it."""
    clusters = [_build_authz(settings)]
    if settings.access_log_socket is not None:
        clusters.append(
            Cluster(
                name=ACCESS_LOG_CLUSTER,
                type=ClusterDiscoveryType.STATIC,
                connect_timeout=_LOCAL_CONNECT,
                typed_extension_protocol_options=_build_http2(),
                load_assignment=_build_assignment(ACCESS_LOG_CLUSTER, settings.access_log_socket),
            )
        )
    clusters.append(
        Cluster(
            name=UPSTREAM_CLUSTER,
            type=_discovery(settings.upstream),
            connect_timeout=_UPSTREAM_CONNECT,
            per_connection_buffer_limit_bytes=CONNECTION_BUFFER_BYTES,
            load_assignment=_build_assignment(UPSTREAM_CLUSTER, settings.upstream),
        )
    )
    if settings.oauth2 is not None:
        clusters.append(build_idp_cluster(settings.oauth2))
    if settings.readiness_port is not None:
        clusters.append(
            Cluster(
                name=ADMIN_CLUSTER,
                type=ClusterDiscoveryType.STATIC,
                connect_timeout=_UPSTREAM_CONNECT,
                load_assignment=_build_assignment(ADMIN_CLUSTER, settings.admin_socket),
            )
        )
    return clusters


def build_address(text: str) -> Address:
    """Envoy's form of an endpoint that `check_settings` has accepted."""
    match parse_endpoint(text):
        case UnixAddress(path=path):
            return Address(pipe=Pipe(path=path))
        case TcpAddress(host=host, port=port):
            return Address(socket_address=SocketAddress(address=host, port_value=port))


def _build_authz(settings: EdgeSettings) -> Cluster:
    return Cluster(
        name=AUTHZ_CLUSTER,
        type=ClusterDiscoveryType.STATIC,
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        connect_timeout=_LOCAL_CONNECT,
        typed_extension_protocol_options=_build_http2(),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_requests=_AUTHZ_REQUESTS_MAX,
                    max_pending_requests=_AUTHZ_REQUESTS_MAX,
                    max_retries=_AUTHZ_RETRIES_MAX,
                )
            ]
        ),
        health_checks=[
            HealthCheck(
                timeout=timedelta(milliseconds=200),
                interval=_SECOND,
                no_traffic_interval=_SECOND,  # else 60 s: a worker that came back would wait that long
                unhealthy_threshold=1,
                healthy_threshold=1,
                grpc_health_check=HealthCheckGrpcHealthCheck(),
            )
        ],
        outlier_detection=OutlierDetection(
            # Failures to reach a worker only: its 5xx answers are none, and ejecting on them ejected good workers.
            split_external_local_origin_errors=True,
            consecutive_local_origin_failure=3,
            interval=_SECOND,
            base_ejection_time=_SECOND,
            max_ejection_time=timedelta(seconds=5),
            max_ejection_percent=50,
        ),
        load_assignment=_build_assignment(AUTHZ_CLUSTER, *settings.authz_sockets),
    )


def _build_http2() -> dict[str, Any]:
    options = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": Any.pack(options)}


def _discovery(text: str) -> ClusterDiscoveryType:
    address = parse_endpoint(text)
    named = isinstance(address, TcpAddress) and address.named
    return ClusterDiscoveryType.STRICT_DNS if named else ClusterDiscoveryType.STATIC


def _build_assignment(cluster: str, *addresses: str) -> ClusterLoadAssignment:
    endpoints = [LbEndpoint(endpoint=Endpoint(address=build_address(text))) for text in addresses]
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)])
