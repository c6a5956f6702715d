# SPDX-License-Identifier: Apache-2.0
"""What may be chosen about the browser login of an Envoy: a small YAML file, `kind: OAuth2`.

Invariant: settings without a fault make a login that goes to the identity provider over verified TLS, comes back to
this Envoy's own hosts only, and keeps its tokens in `__Host-` cookies. All faults are reported at once, each with line
and column. Specified by RFC 6749, RFC 7636, OpenID Connect Core 1.0 and RP-Initiated Logout 1.0; what Envoy does with
it, by envoy.extensions.filters.http.oauth2.v3.

It deliberately has no setting for a cookie domain, for plain cookies, for SameSite=None, for passing the access token
on, or for passing a request on whose login has failed. It holds no secret: Envoy reads the files itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from iap_authz.bootstrap.hosts import HOST_NAME, PORT_MAX, is_ip
from iap_authz.errors import ConfigInvalid, shown
from iap_authz.model.document import Section, parse_configuration, render_duration

KIND = "OAuth2"
HTTPS_PORT = 443
COOKIE_PREFIX_GUARD = "__Host-"
"""Browsers take such a cookie only over TLS, for all paths, and from the very host itself (RFC 6265bis, 4.1.3.2): a
neighbour under the same parent domain cannot plant one."""

SAME_SITES = ("lax", "strict")
CLIENT_AUTHENTICATIONS = ("body", "basic")
SESSION_LEAST, SESSION_MOST = timedelta(minutes=1), timedelta(days=30)
_OPENID = "openid"
_DEFAULT_SCOPES = (_OPENID, "email", "profile")

_URL = re.compile(r"https://[\x21-\x7e]{1,2000}", re.ASCII)
_CLIENT_ID = re.compile(r"[A-Za-z0-9._~:/@-]{1,256}", re.ASCII)
"""Characters that mean themselves in a query: Envoy puts the id into the logout address as it is."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}", re.ASCII)
"""A scope-token of RFC 6749, 3.3."""

_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+", re.ASCII)
"""No `%`, which Envoy would take for a command of its formatter, and nothing that path normalisation changes."""

_PREFIX = re.compile(r"[a-z0-9]{1,32}", re.ASCII)
_HEADER = re.compile(r"x-[a-z0-9][a-z0-9-]{0,61}", re.ASCII)
_HEADERS_TAKEN = re.compile(r"x-(?:iap|envoy|forwarded)-.*|x-request-id|x-requested-with", re.ASCII)
"""Headers that Envoy makes, or scripts of a browser send: matching them would leave nobody to log in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2Settings:
    """The login, for all hosts of an Envoy."""

    authorization_endpoint: str
    """Where browsers are sent to log in: https, from the discovery document of the identity provider."""
    token_endpoint: str
    """Where Envoy exchanges codes and refresh tokens: https, from the same document."""
    end_session_endpoint: str | None = None
    """Where a browser is sent after it has signed out here, so that it is signed out there too. Default: nowhere."""
    client_id: str
    """Of the client that is registered for this Envoy. The sidecar's issuer must have it among its `audiences`."""
    client_secret_file: str
    """Absolute path of a file with the client's secret, without a line end. Read by Envoy at its start."""
    hmac_secret_file: str
    """Absolute path of a file with 32 or more random bytes, the same for all Envoys of these hosts. It signs and
    encrypts the cookies. Read by Envoy at its start."""
    client_authentication: str = "body"
    """How the secret goes to the token endpoint: `body` (client_secret_post) or `basic` (client_secret_basic)."""
    scopes: tuple[str, ...] = _DEFAULT_SCOPES
    """`openid` among them. Default openid, email and profile; many providers want offline_access for `refresh`."""
    ca_file: str = "/etc/ssl/certs/ca-certificates.crt"
    """Absolute path of PEM certificates: who may vouch for the token endpoint, whose name is checked too."""
    redirect_path: str = "/oauth2/callback"
    """Where browsers come back to: register https://HOST/oauth2/callback for each host."""
    signout_path: str = "/oauth2/sign-out"
    """Where a link to sign out leads."""
    public_port: int = HTTPS_PORT
    """The port in the addresses that browsers see, when it is not that of https."""
    pass_headers: tuple[str, ...] = ("x-api-key",)
    """Requests with one of these headers are no browser's and go on to the check without a login, as those with a
    bearer token do. Default: x-api-key."""
    pass_workloads: bool = False
    """The same for requests with a client certificate that names a SPIFFE id. Not where people's devices, or proxies in
    front, have such certificates. Default false."""
    refresh: bool = True
    """Renew tokens without asking the person, while the provider allows it. The provider must send an id_token with a
    renewal, else the next check knows nobody: then say false. Default true."""
    expires_in: timedelta = timedelta(hours=1)
    """How long tokens last when the provider does not say. Default 1h."""
    refresh_expires_in: timedelta = timedelta(hours=12)
    """How long a browser keeps a refresh token that does not say itself. Default 12h."""
    cookie_prefix: str = "iap"
    """Letters and digits in the names of cookies: __Host-iap-id and others. Default iap."""
    same_site: str = "lax"
    """SameSite of the session's cookies. `strict` only where the provider is on the same site as the hosts: browsers
    would not send the cookies after a login elsewhere, and log in again without end. Default lax."""

    @property
    def own_cookies(self) -> str:
        """How the names of all cookies of the login begin."""
        return f"{COOKIE_PREFIX_GUARD}{self.cookie_prefix}-"


def sample_settings() -> OAuth2Settings:
    """Those of `envoy/oauth2.yaml` and `envoy/edge-oauth2.yaml`."""
    return OAuth2Settings(
        authorization_endpoint="https://login.example.com/authorize",
        token_endpoint="https://login.example.com/token",  # noqa: S106 -- an address
        end_session_endpoint="https://login.example.com/logout",
        client_id="orders",
        client_secret_file="/run/iap/oauth2/client-secret",  # noqa: S106 -- a path
        hmac_secret_file="/run/iap/oauth2/hmac-secret",  # noqa: S106 -- a path
    )


def load_oauth2(path: Path) -> OAuth2Settings:
    """Raises ConfigInvalid with every fault of the file, also where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid.of_file(str(path), f"cannot be read: {error.strerror}") from None
    return parse_oauth2(content, str(path))


def parse_oauth2(content: bytes, file: str) -> OAuth2Settings:
    """Parse the file. Raises ConfigInvalid with all of its faults."""
    root, faults = parse_configuration(content, file, kind=KIND)
    settings = _take(root)
    root.finish()
    faulty = {fault.field.partition("[")[0] for fault in faults.found}
    for field, message in oauth2_faults(settings):
        if field not in faulty:  # what could not be read has been reported as that
            root.fault(field, message)
    faults.check(ConfigInvalid)
    return settings


def _take(root: Section) -> OAuth2Settings:
    logout = root.take_placed_text("end_session_endpoint")
    return OAuth2Settings(
        authorization_endpoint=root.take_text("authorization_endpoint"),
        token_endpoint=root.take_text("token_endpoint"),
        end_session_endpoint=logout.value if logout is not None else None,
        client_id=root.take_text("client_id"),
        client_secret_file=root.take_text("client_secret_file"),
        hmac_secret_file=root.take_text("hmac_secret_file"),
        client_authentication=root.take_text("client_authentication", "body", choices=CLIENT_AUTHENTICATIONS),
        scopes=root.take_texts("scopes", _DEFAULT_SCOPES),
        ca_file=root.take_text("ca_file", "/etc/ssl/certs/ca-certificates.crt"),
        redirect_path=root.take_text("redirect_path", "/oauth2/callback"),
        signout_path=root.take_text("signout_path", "/oauth2/sign-out"),
        public_port=root.take_integer("public_port", HTTPS_PORT, least=1, most=PORT_MAX),
        pass_headers=root.take_texts("pass_headers", ("x-api-key",)),
        pass_workloads=root.take_boolean("pass_workloads", default=False),
        refresh=root.take_boolean("refresh", default=True),
        expires_in=root.take_duration("expires_in", timedelta(hours=1), least=SESSION_LEAST, most=SESSION_MOST),
        refresh_expires_in=root.take_duration(
            "refresh_expires_in", timedelta(hours=12), least=SESSION_LEAST, most=SESSION_MOST
        ),
        cookie_prefix=root.take_text("cookie_prefix", "iap"),
        same_site=root.take_text("same_site", "lax", choices=SAME_SITES),
    )


def split_endpoint(url: str) -> tuple[str, int, bool]:
    """Host, port and whether the host is an IP address, of a URL without faults."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return host, parts.port or HTTPS_PORT, is_ip(host)


def oauth2_faults(settings: OAuth2Settings) -> Iterator[tuple[str, str]]:
    """Field and message of everything that is wrong with `settings`."""
    yield from _endpoint_faults(settings)
    yield from _file_faults(settings)
    yield from _path_faults(settings)
    if not _CLIENT_ID.fullmatch(settings.client_id):
        yield "client_id", f"got {shown(settings.client_id)}, want 1 to 256 letters, digits and ._~:/@-"
    if _OPENID not in settings.scopes:
        yield "scopes", "got no openid, want it: without it there is no ID token"
    for scope in settings.scopes:
        if not _SCOPE.fullmatch(scope):
            yield "scopes", f"got {shown(scope)}, want a scope of RFC 6749"
    for header in settings.pass_headers:
        if not _HEADER.fullmatch(header) or _HEADERS_TAKEN.fullmatch(header):
            yield "pass_headers", f"got {shown(header)}, want a name x-... in lower case that no browser or Envoy sends"
    if not _PREFIX.fullmatch(settings.cookie_prefix):
        yield "cookie_prefix", f"got {shown(settings.cookie_prefix)}, want 1 to 32 lower-case letters and digits"
    yield from _choice_faults(settings)


def _choice_faults(settings: OAuth2Settings) -> Iterator[tuple[str, str]]:
    """What the file's own reader refuses already, for settings that come from elsewhere."""
    if settings.client_authentication not in CLIENT_AUTHENTICATIONS:
        got = shown(settings.client_authentication)
        yield "client_authentication", f"got {got}, want one of {', '.join(CLIENT_AUTHENTICATIONS)}"
    if settings.same_site not in SAME_SITES:
        yield "same_site", f"got {shown(settings.same_site)}, want one of {', '.join(SAME_SITES)}"
    if not 1 <= settings.public_port <= PORT_MAX:
        yield "public_port", f"got {settings.public_port}, want 1 to {PORT_MAX}"
    for field, value in (("expires_in", settings.expires_in), ("refresh_expires_in", settings.refresh_expires_in)):
        if not SESSION_LEAST <= value <= SESSION_MOST:
            want = f"{render_duration(SESSION_LEAST)} to {render_duration(SESSION_MOST)}"
            yield field, f"got {render_duration(value)}, want {want}"


def _endpoint_faults(settings: OAuth2Settings) -> Iterator[tuple[str, str]]:
    for field, url, query in (
        ("authorization_endpoint", settings.authorization_endpoint, True),
        ("token_endpoint", settings.token_endpoint, False),
        ("end_session_endpoint", settings.end_session_endpoint, False),
    ):
        if url is not None and not _is_endpoint(url, query=query):
            want = "an https URL without user, fragment" + (" and empty parts" if query else " and query")
            yield field, f"got {shown(url)}, want {want}"


def _is_endpoint(url: str, *, query: bool) -> bool:
    """A query is Envoy's to extend at the authorization endpoint, and would break the others."""
    if not _URL.fullmatch(url):
        return False
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    named = bool(HOST_NAME.fullmatch(host)) or is_ip(host)
    plain = "@" not in parts.netloc and parts.netloc == parts.netloc.lower() and "#" not in url
    return named and plain and port != 0 and parts.path.startswith("/") and (query or "?" not in url)


def _file_faults(settings: OAuth2Settings) -> Iterator[tuple[str, str]]:
    for field, path in (
        ("client_secret_file", settings.client_secret_file),
        ("hmac_secret_file", settings.hmac_secret_file),
        ("ca_file", settings.ca_file),
    ):
        if not path.startswith("/") or not path.isprintable():
            yield field, f"got {shown(path)}, want the absolute path of a file"
    if settings.hmac_secret_file == settings.client_secret_file:
        yield "hmac_secret_file", "got the file of the client's secret, want another"


def _path_faults(settings: OAuth2Settings) -> Iterator[tuple[str, str]]:
    for field, path in (("redirect_path", settings.redirect_path), ("signout_path", settings.signout_path)):
        if not _PATH.fullmatch(path):
            yield (
                field,
                f"got {shown(path)}, want a path such as /oauth2/callback: letters, digits and _.~-, no / at its end",
            )
    if settings.redirect_path == settings.signout_path:
        yield "signout_path", f"got {shown(settings.signout_path)}, which is redirect_path, want another"
