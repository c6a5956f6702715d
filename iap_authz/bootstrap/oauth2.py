# SPDX-License-Identifier: Apache-2.0
"""The browser login of an Envoy: its own oauth2 filter in front of the check, and what the filter needs.

    request --> oauth2 --> cookies --> ext_authz --> router --> application
                  |           |            |
                  |           |            the check takes the ID token from `x-iap-id-token`, and removes it
                  |           the login's cookies end here: the filter before has decrypted the one with the ID token
                  login, callback, renewal and sign-out are answered here: no check, no record, an access log entry

Invariant: a request reaches the check with the ID token of its own cookies or with none. A client cannot send the
header (it is removed before any filter), the cookies verify only with the HMAC secret and only for the host that they
were made for, and no cookie of the login reaches the application. The filter proves nobody: the sidecar judges what it
hands on.
Hosts that nobody named have no login, so they are checked, recorded and answered as without one.
Specified by envoy.extensions.filters.http.oauth2.v3; measured on Envoy 1.40, see docs/adr/0027.

It deliberately keeps no access token: nothing here needs one, and a cookie less is a cookie that cannot be lost.
"""

import json
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
    HttpUri,
    SocketAddress,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.oauth2.v3 import (
    CookieConfig,
    CookieConfigs,
    CookieConfigSameSite,
    OAuth2,
    OAuth2Config,
    OAuth2ConfigAuthType,
    OAuth2Credentials,
    OAuth2CredentialsCookieNames,
    OAuth2PerRoute,
    OAuth2TokenForwarding,
    PostLogoutRedirectUri,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    GenericSecret,
    SdsSecretConfig,
    Secret,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import PathMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from iap_authz.bootstrap.oauth2_settings import HTTPS_PORT, OAuth2Settings, split_endpoint
from iap_authz.facts.credential import LOGIN_HEADER
from iap_authz.facts.xfcc import XFCC_HEADER

FILTER_NAME = "envoy.filters.http.oauth2"
COOKIE_FILTER_NAME = "envoy.filters.http.lua"
IDP_CLUSTER = "iap_idp"
CLIENT_SECRET, HMAC_SECRET = "iap_oauth2_client", "iap_oauth2_hmac"

TOKEN_TIMEOUT = timedelta(seconds=5)
"""For one exchange with the token endpoint: a person waits for it."""

FLOW_EXPIRES_IN = timedelta(minutes=10)
"""How long a login may take, from the redirect to the return. Envoy's default, said aloud."""

TOKEN_REQUESTS_MAX = 64
"""At once. Anybody can cause one, with a made-up refresh token: the provider is to be asked at a bounded rate, and
what is above it gets the login page, or 401."""

_CONNECT_TIMEOUT = timedelta(seconds=2)
_SAME_SITES = {"lax": CookieConfigSameSite.LAX, "strict": CookieConfigSameSite.STRICT}
_AUTH_TYPES = {"body": OAuth2ConfigAuthType.URL_ENCODED_BODY, "basic": OAuth2ConfigAuthType.BASIC_AUTH}

_STRIP_COOKIES = """\
-- The cookies of the login go no further than this: neither the check nor the application is to see a token in them.
local own = OWN
function envoy_on_request(handle)
  local headers = handle:headers()
  local values, kept, found = {}, {}, false
  for index = 0, headers:getNumValues("cookie") - 1 do
    table.insert(values, headers:getAtIndex("cookie", index))
  end
  headers:remove("cookie")  -- first: should anything below fail, no cookie goes on
  for _, value in ipairs(values) do
    for pair in string.gmatch(value, "[^;]+") do
      local cookie = string.gsub(pair, "^%s+", "")
      if string.sub(cookie, 1, string.len(own)) == own then
        found = true
      elseif cookie ~= "" then
        table.insert(kept, cookie)
      end
    end
  end
  if found and #kept > 0 then
    headers:add("cookie", table.concat(kept, "; "))
  elseif not found then
    for _, value in ipairs(values) do
      headers:add("cookie", value)
    end
  end
end
"""
"""Linear in the length of the header: no pattern in it can go back and try again."""


def build_login_filters(settings: OAuth2Settings) -> list[HttpFilter]:
    """What stands before the check. The login itself is configured host by host: see `build_host_login`."""
    script = _STRIP_COOKIES.replace("OWN", json.dumps(settings.own_cookies))
    return [
        HttpFilter(name=FILTER_NAME, typed_config=Any.pack(OAuth2())),
        HttpFilter(
            name=COOKIE_FILTER_NAME,
            typed_config=Any.pack(Lua(default_source_code=DataSource(inline_string=script), clear_route_cache=False)),
        ),
    ]


def build_host_login(settings: OAuth2Settings, domains: tuple[str, ...]) -> Any:
    """The login of one virtual host: it leads back to the domains of this host and to no others."""
    base = "https://%REQ(:authority)%"  # the client's word, so `allowed_redirect_domains` is what makes it safe
    if settings.public_port != HTTPS_PORT:
        base += f":{settings.public_port}"
    config = OAuth2Config(
        authorization_endpoint=settings.authorization_endpoint,
        token_endpoint=HttpUri(uri=settings.token_endpoint, cluster=IDP_CLUSTER, timeout=TOKEN_TIMEOUT),
        end_session_endpoint=settings.end_session_endpoint or "",
        post_logout_redirect_uri=PostLogoutRedirectUri(uri=f"{base}/"),
        credentials=_build_credentials(settings),
        redirect_uri=f"{base}{settings.redirect_path}",
        original_request_uri=base,
        redirect_path_matcher=_build_path(settings.redirect_path),
        signout_path=_build_path(settings.signout_path),
        allowed_redirect_domains=[domain.strip("[]") for domain in domains],
        auth_scopes=list(settings.scopes),
        auth_type=_AUTH_TYPES[settings.client_authentication],
        forward_bearer_token=False,
        forward_id_token=OAuth2TokenForwarding(header=LOGIN_HEADER),
        disable_access_token_set_cookie=True,
        disable_token_encryption=False,
        pass_through_matcher=_build_pass_through(settings),
        deny_redirect_matcher=_build_deny_redirect(),
        use_refresh_token=settings.refresh,
        default_expires_in=settings.expires_in,
        default_refresh_token_expires_in=settings.refresh_expires_in,
        csrf_token_expires_in=FLOW_EXPIRES_IN,
        code_verifier_token_expires_in=FLOW_EXPIRES_IN,
        cookie_configs=_build_cookie_configs(settings),
    )
    return Any.pack(OAuth2PerRoute(config=config))


def build_login_secrets(settings: OAuth2Settings) -> list[Secret]:
    """Static secrets: Envoy reads the files once, at its start."""
    files = ((CLIENT_SECRET, settings.client_secret_file), (HMAC_SECRET, settings.hmac_secret_file))
    return [
        Secret(name=name, generic_secret=GenericSecret(secret=DataSource(filename=filename)))
        for name, filename in files
    ]


def build_idp_cluster(settings: OAuth2Settings) -> Cluster:
    """The token endpoint, which is sent the client's secret: its certificate must be for its name, by `ca_file`."""
    host, port, is_ip = split_endpoint(settings.token_endpoint)
    kind = SubjectAltNameMatcherSanType.IP_ADDRESS if is_ip else SubjectAltNameMatcherSanType.DNS
    name = SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=host))
    context = UpstreamTlsContext(
        sni="" if is_ip else host,  # RFC 6066, 3: no addresses in it
        common_tls_context=CommonTlsContext(
            tls_params=TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2),
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(filename=settings.ca_file), match_typed_subject_alt_names=[name]
            ),
        ),
    )
    address = Address(socket_address=SocketAddress(address=host, port_value=port))
    endpoint = LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=Endpoint(address=address))])
    return Cluster(
        name=IDP_CLUSTER,
        type=ClusterDiscoveryType.STATIC if is_ip else ClusterDiscoveryType.LOGICAL_DNS,
        dns_lookup_family=ClusterDnsLookupFamily.ALL,  # an IPv6 address that leads nowhere does not end the login
        connect_timeout=_CONNECT_TIMEOUT,
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_connections=TOKEN_REQUESTS_MAX,
                    max_pending_requests=TOKEN_REQUESTS_MAX,
                    max_requests=TOKEN_REQUESTS_MAX,
                )
            ]
        ),
        load_assignment=ClusterLoadAssignment(cluster_name=IDP_CLUSTER, endpoints=[endpoint]),
        transport_socket=TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context)),
    )


def _build_credentials(settings: OAuth2Settings) -> OAuth2Credentials:
    own = settings.own_cookies
    return OAuth2Credentials(
        client_id=settings.client_id,
        token_secret=SdsSecretConfig(name=CLIENT_SECRET),
        hmac_secret=SdsSecretConfig(name=HMAC_SECRET),
        cookie_names=OAuth2CredentialsCookieNames(
            bearer_token=f"{own}access",
            oauth_hmac=f"{own}hmac",
            oauth_expires=f"{own}expires",
            id_token=f"{own}id",
            refresh_token=f"{own}refresh",
            oauth_nonce=f"{own}nonce",
            code_verifier=f"{own}verifier",
        ),
    )


def _build_cookie_configs(settings: OAuth2Settings) -> CookieConfigs:
    """The two of a login under way are Lax always: the provider sends the browser back from its own site."""
    session = CookieConfig(same_site=_SAME_SITES[settings.same_site], path="/")
    flow = CookieConfig(same_site=CookieConfigSameSite.LAX, path="/")
    return CookieConfigs(
        bearer_token_cookie_config=session,
        oauth_hmac_cookie_config=session,
        oauth_expires_cookie_config=session,
        id_token_cookie_config=session,
        refresh_token_cookie_config=session,
        oauth_nonce_cookie_config=flow,
        code_verifier_cookie_config=flow,
    )


def _build_path(path: str) -> PathMatcher:
    return PathMatcher(path=StringMatcher(exact=path))


def _build_pass_through(settings: OAuth2Settings) -> list[HeaderMatcher]:
    """Clients that bring a credential: the check judges it. Any spelling goes on, so that a refusal is recorded."""
    bearer = HeaderMatcher(name="authorization", string_match=StringMatcher(prefix="Bearer ", ignore_case=True))
    matchers = [bearer, *(HeaderMatcher(name=header, present_match=True) for header in settings.pass_headers)]
    if settings.pass_workloads:
        # No proof, and none is needed: whoever gets these letters into the header skips the login, and comes to the
        # check as nobody.
        spiffe = StringMatcher(contains="URI=spiffe://")
        matchers.append(HeaderMatcher(name=XFCC_HEADER, string_match=spiffe))
    return matchers


def _build_deny_redirect() -> list[HeaderMatcher]:
    """401 instead of a login page, for whoever cannot show one: any of these.

    A browser that navigates accepts HTML by name and says so; scripts, images, gRPC and tools do not. A request that
    changes something would come back from a login as a GET, without its body.
    """
    html = StringMatcher(contains="text/html", ignore_case=True)
    navigation = HeaderMatcher(
        name="sec-fetch-mode", string_match=StringMatcher(exact="navigate"), invert_match=True
    )  # matches only where the header is there
    script = StringMatcher(exact="XMLHttpRequest", ignore_case=True)
    return [
        HeaderMatcher(name="accept", string_match=html, invert_match=True, treat_missing_header_as_empty=True),
        navigation,
        HeaderMatcher(name="x-requested-with", string_match=script),
        HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"), invert_match=True),
    ]
