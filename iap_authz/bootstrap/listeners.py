# SPDX-License-Identifier: Apache-2.0
"""Where an Envoy listens: the door to the application, and the readiness listener beside it.

Invariant: no request reaches a route's cluster without a check. The check is the first HTTP filter, no route or host
switches it off, hosts that nobody named pass through it too, and what it cannot decide is 503. What the policy sees is
what the upstream gets: paths are normalised, or refused, before the check, and nothing rewrites them after it.
Specified by Envoy's v3 reference; measured on Envoy 1.40. `envoy/README.md` says what each setting is for.

It deliberately buffers no bodies: a check on half of an open stream would wait for the other half.
"""

from datetime import timedelta

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation, HeaderMutationRemoveOnMatch
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    CidrRange,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    Metadata,
    RuntimeUInt32,
    SocketAddress,
    TransportSocket,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener, ListenerFilter
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import CheckSettings, ExtAuthzPerRoute
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.listener.proxy_protocol.v3 import ProxyProtocol
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerForwardClientCertDetails,
    HttpConnectionManagerHcmAccessLogOptions,
    HttpConnectionManagerInternalAddressConfig,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerSetCurrentClientCertDetails,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any, Struct, Value

from iap_authz.bootstrap.authz import FILTER_NAME, ROUTE_METADATA_NAMESPACE, build_authz_filter
from iap_authz.bootstrap.clusters import (
    ACCESS_LOG_CLUSTER,
    ADMIN_CLUSTER,
    CONNECTION_BUFFER_BYTES,
    UPSTREAM_CLUSTER,
)
from iap_authz.bootstrap.oauth2 import FILTER_NAME as LOGIN_FILTER_NAME
from iap_authz.bootstrap.oauth2 import build_host_login, build_login_filters
from iap_authz.bootstrap.oauth2_settings import OAuth2Settings
from iap_authz.bootstrap.settings import NAME_UNKNOWN_HOST, EdgeSettings, HostSettings, TlsSettings
from iap_authz.facts.xfcc import XFCC_HEADER

OWN_HEADERS_REGEX = r"(?i)x[-._]iap[-._].*"
"""Headers that only the sidecar may set, in every spelling that some server reads as the same name (CGI turns `-`, `.`
and `_` into one character). A full match, as Envoy's matchers do it."""

RETRY_AFTER_SECONDS = 1
"""As in the sidecar's own 503: a worker that died is back, or out of the rotation, within a second."""

FORWARDED_TIMEOUT = timedelta(seconds=30)
"""Longer requests are WebSockets, which it does not cut, or want a setting of their own."""

HEADERS_MAX = 100
"""Envoy's default, said aloud: the sidecar refuses requests with more than twice as many."""

_HCM_NAME = "envoy.filters.network.http_connection_manager"
_IDLE_TIMEOUT = timedelta(minutes=5)
_REQUEST_HEADERS_TIMEOUT = timedelta(seconds=10)
_STREAMS_MAX = 100
_STREAM_WINDOW_BYTES, _CONNECTION_WINDOW_BYTES = 64 * 1024, 1024 * 1024
"""The three of them: Envoy's advice for an edge. Its defaults hold up to 256 MiB a connection."""


def build_listeners(settings: EdgeSettings) -> list[Listener]:
    """The main listener, and the readiness listener where there is one."""
    listeners = [_build_main(settings)]
    if settings.readiness_port is not None:
        listeners.append(_build_readiness(settings, settings.readiness_port))
    return listeners


def _build_main(settings: EdgeSettings) -> Listener:
    filters = []
    if settings.proxy_protocol:  # first: the header stands before the TLS handshake
        filters.append(_build_listener_filter("proxy_protocol", ProxyProtocol()))
    if settings.tls is not None:
        filters.append(_build_listener_filter("tls_inspector", TlsInspector()))
    manager = Filter(name=_HCM_NAME, typed_config=Any.pack(_build_manager(settings)))
    return Listener(
        name=settings.stat_prefix,
        address=_build_tcp(settings.listener_address, settings.listener_port),
        per_connection_buffer_limit_bytes=CONNECTION_BUFFER_BYTES,
        listener_filters=filters,
        filter_chains=[
            FilterChain(filters=[manager], transport_socket=None if settings.tls is None else _build_tls(settings.tls))
        ],
    )


def _build_listener_filter(name: str, config: ProxyProtocol | TlsInspector) -> ListenerFilter:
    return ListenerFilter(name=f"envoy.filters.listener.{name}", typed_config=Any.pack(config))


def _build_readiness(settings: EdgeSettings, port: int) -> Listener:
    get = HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"))
    route = Route(match=RouteMatch(path="/ready", headers=[get]), route=RouteAction(cluster=ADMIN_CLUSTER))
    manager = HttpConnectionManager(
        stat_prefix="readiness",
        route_config=RouteConfiguration(virtual_hosts=[VirtualHost(name="readiness", domains=["*"], routes=[route])]),
        http_filters=[_build_router()],
    )
    return Listener(
        name="readiness",
        address=_build_tcp(settings.readiness_address, port),
        filter_chains=[FilterChain(filters=[Filter(name=_HCM_NAME, typed_config=Any.pack(manager))])],
    )


def _build_tcp(address: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=address, port_value=port))


def _build_tls(tls: TlsSettings) -> TransportSocket:
    validation = None
    if tls.client_ca is not None:
        # No `trust_chain_verification` here, ever: ACCEPT_UNTRUSTED would hand the policy a certificate anybody made.
        validation = CertificateValidationContext(trusted_ca=DataSource(filename=tls.client_ca))
    context = DownstreamTlsContext(
        require_client_certificate=False,
        common_tls_context=CommonTlsContext(
            alpn_protocols=["h2", "http/1.1"],
            tls_params=TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2),
            tls_certificates=[
                TlsCertificate(
                    certificate_chain=DataSource(filename=tls.certificate_chain),
                    private_key=DataSource(filename=tls.private_key),
                )
            ],
            validation_context=validation,
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))


def _build_manager(settings: EdgeSettings) -> HttpConnectionManager:
    logged = settings.access_log_socket is not None
    return HttpConnectionManager(
        stat_prefix=settings.stat_prefix,
        use_remote_address=True,
        xff_num_trusted_hops=settings.trusted_hops,
        # Matches nobody. An empty list would make every private address an internal one, whose forged headers stay.
        internal_address_config=HttpConnectionManagerInternalAddressConfig(
            unix_sockets=False,
            cidr_ranges=[CidrRange(address_prefix="0.0.0.0", prefix_len=32)],  # noqa: S104
        ),
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
        strip_any_host_port=True,
        strip_trailing_host_dot=True,
        common_http_protocol_options=_build_http_options(settings.max_stream_duration),
        http2_protocol_options=_build_http2_options(),
        request_headers_timeout=_REQUEST_HEADERS_TIMEOUT,
        stream_idle_timeout=_IDLE_TIMEOUT,
        preserve_external_request_id=False,  # x-request-id joins a check that was cancelled to its access log entry
        always_set_request_id_in_response=True,
        forward_client_cert_details=(
            HttpConnectionManagerForwardClientCertDetails.APPEND_FORWARD
            if settings.forwarded_certificates
            else HttpConnectionManagerForwardClientCertDetails.SANITIZE_SET
        ),
        set_current_client_cert_details=HttpConnectionManagerSetCurrentClientCertDetails(subject=True, uri=True),
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
        early_header_mutation_extensions=[_build_early_mutation()],
        access_log=[_build_access_log()] if logged else [],
        access_log_options=_build_access_log_options() if logged else None,
        local_reply_config=_build_local_reply(),
        route_config=_build_routes(settings),
        http_filters=[*_build_login(settings.oauth2), build_authz_filter(settings), _build_router()],
    )


def _build_login(login: OAuth2Settings | None) -> list[HttpFilter]:
    return [] if login is None else build_login_filters(login)


def _build_http_options(max_stream_duration: timedelta) -> HttpProtocolOptions:
    return HttpProtocolOptions(
        headers_with_underscores_action=HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST,
        max_headers_count=HEADERS_MAX,
        idle_timeout=_IDLE_TIMEOUT,
        max_stream_duration=max_stream_duration,  # the only one that ends a WebSocket in use
    )


def _build_http2_options() -> Http2ProtocolOptions:
    return Http2ProtocolOptions(
        max_concurrent_streams=_STREAMS_MAX,
        initial_stream_window_size=_STREAM_WINDOW_BYTES,
        initial_connection_window_size=_CONNECTION_WINDOW_BYTES,
    )


def _build_early_mutation() -> TypedExtensionConfig:
    """Forged headers of ours go before any filter, and the route, sees the request."""
    matcher = StringMatcher(safe_regex=RegexMatcher(regex=OWN_HEADERS_REGEX))
    mutation = HeaderMutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=matcher))
    return TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=Any.pack(EarlyHeaderMutation(mutations=[mutation])),
    )


def _build_local_reply() -> LocalReplyConfig:
    """Retry-After for the 503 that Envoy makes itself when no sidecar answers; the sidecar's own 503 has one.

    The flag UAEX is also set on the sidecar's refusals, whose header stays as it is: added only where absent.
    """
    unavailable = StatusCodeFilter(
        comparison=ComparisonFilter(
            op=ComparisonFilterOp.EQ, value=RuntimeUInt32(default_value=503, runtime_key="iap.local_reply_status")
        )
    )
    both = AndFilter(
        filters=[
            AccessLogFilter(status_code_filter=unavailable),
            AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["UAEX"])),
        ]
    )
    retry_after = HeaderValueOption(
        header=HeaderValue(key="retry-after", value=str(RETRY_AFTER_SECONDS)),
        append_action=HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT,
    )
    return LocalReplyConfig(
        mappers=[ResponseMapper(filter=AccessLogFilter(and_filter=both), headers_to_add=[retry_after])]
    )


def _build_access_log() -> AccessLog:
    service = GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=ACCESS_LOG_CLUSTER), timeout=timedelta(seconds=2)
    )
    config = CommonGrpcAccessLogConfig(
        log_name="iap",
        transport_api_version=ApiVersion.V3,
        grpc_service=service,
        buffer_size_bytes=0,  # every entry at once: what is buffered is lost when Envoy ends, however it ends
    )
    return AccessLog(
        name="envoy.access_loggers.http_grpc", typed_config=Any.pack(HttpGrpcAccessLogConfig(common_config=config))
    )


def _build_access_log_options() -> HttpConnectionManagerHcmAccessLogOptions:
    """An entry now and then for streams that stay open, so that a WebSocket is seen before it ends."""
    return HttpConnectionManagerHcmAccessLogOptions(access_log_flush_interval=timedelta(seconds=30))


def _build_routes(settings: EdgeSettings) -> RouteConfiguration:
    hosts = [_build_host(host, settings.oauth2) for host in settings.hosts]
    if not any("*" in host.domains for host in settings.hosts):
        # Without it, a host nobody named is answered 404 with no check, so with no record.
        nowhere = Route(
            name=NAME_UNKNOWN_HOST, match=RouteMatch(prefix="/"), direct_response=DirectResponseAction(status=404)
        )
        hosts.append(VirtualHost(name=NAME_UNKNOWN_HOST, domains=["*"], routes=[nowhere]))
    return RouteConfiguration(
        name=settings.stat_prefix,
        virtual_hosts=hosts,
        # After the check: with APPEND_FORWARD a client's own stands in it too, and only the sidecar can tell.
        request_headers_to_remove=[XFCC_HEADER] if settings.forwarded_certificates else [],
    )


def _build_host(host: HostSettings, login: OAuth2Settings | None) -> VirtualHost:
    named = Struct(fields={"route": Value(string_value=host.name)})
    route = Route(
        name=host.name,
        match=RouteMatch(prefix="/"),
        route=RouteAction(cluster=UPSTREAM_CLUSTER, timeout=FORWARDED_TIMEOUT),
        metadata=Metadata(filter_metadata={ROUTE_METADATA_NAMESPACE: named}),
    )
    check = ExtAuthzPerRoute(check_settings=CheckSettings(context_extensions={"policy": host.policy}))
    filters = {FILTER_NAME: Any.pack(check)}
    if login is not None:
        filters[LOGIN_FILTER_NAME] = build_host_login(login, host.domains)
    return VirtualHost(name=host.name, domains=list(host.domains), routes=[route], typed_per_filter_config=filters)


def _build_router() -> HttpFilter:
    return HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router()))
