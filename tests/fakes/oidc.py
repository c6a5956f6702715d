# SPDX-License-Identifier: Apache-2.0
"""An OpenID provider on loopback that asserts what RFC 6749, RFC 7636 and OpenID Connect want of a client.

It logs anybody in without asking. What a client got wrong is an answer that ends the login, and stands in `wrong`.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from tests.fakes.idp import make_tls
from tests.fakes.tokens import forge, jwk, rsa_key

CLIENT_ID, CLIENT_SECRET = "orders", "s3cret/+"
SIGNING_KEY = "provider"


@dataclass(slots=True, kw_only=True)
class Provider:
    """What it knows, what it hands out next, and what it has seen."""

    ca_file: Path
    port: int = 0
    redirect_uris: tuple[str, ...] = ()
    subject: str = "ada"
    token_seconds: int = 600
    """How long the tokens of the next answer last."""
    padding: int = 0
    """Characters of a claim that makes ID tokens longer."""
    in_body: bool = True
    """Whether it wants the client's secret in the body, or in HTTP Basic (RFC 6749, 2.3.1)."""
    renews: bool = True
    """Whether it hands out refresh tokens."""
    renews_identity: bool = True
    """Whether a renewal brings an ID token (OpenID Connect Core 12.2 lets it be left out)."""
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    refresh_tokens: list[str] = field(default_factory=list)
    """Those that are good, the last one last. Each may be used once."""
    id_tokens: list[str] = field(default_factory=list)
    access_tokens: list[str] = field(default_factory=list)
    grants: list[str] = field(default_factory=list)
    logouts: list[Mapping[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def authorize(self, asked: Mapping[str, str]) -> str:
        """Where the browser goes next. RFC 6749, 4.1.1; RFC 7636, 4.3."""
        wants = {"response_type": "code", "client_id": CLIENT_ID, "code_challenge_method": "S256"}
        self.wrong += [f"{name}={asked.get(name)}" for name, value in wants.items() if asked.get(name) != value]
        if asked["redirect_uri"] not in self.redirect_uris:
            self.wrong.append(f"redirect_uri={asked['redirect_uri']}")
        if "openid" not in asked["scope"].split() or len(asked["code_challenge"]) != 43 or not asked["state"]:
            self.wrong.append("no openid, no challenge or no state")
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def exchange(self, form: Mapping[str, str], basic: str) -> Mapping[str, object] | None:
        """What the token endpoint answers; None is `invalid_grant`. RFC 6749, 4.1.3 and 6; RFC 7636, 4.6."""
        self.grants.append(form["grant_type"])
        shown = f"{form.get('client_id')}:{form.get('client_secret')}" if self.in_body else basic
        if shown != f"{CLIENT_ID}:{CLIENT_SECRET}" or self.in_body == bool(basic):
            self.wrong.append("client credentials")
            return None
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.refresh_tokens:
                return None
            self.refresh_tokens.remove(form["refresh_token"])
            tokens = self._tokens()
            return (
                tokens
                if self.renews_identity
                else {name: value for name, value in tokens.items() if name != "id_token"}
            )
        asked = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            self.wrong.append("code, verifier or redirect_uri")
            return None
        return self._tokens()

    def token(self, *, seconds: int = 600, subject: str | None = None) -> str:
        """An ID token for the client."""
        now = int(time.time())
        said = {"iss": self.issuer, "aud": CLIENT_ID, "sub": subject or self.subject, "iat": now, "exp": now + seconds}
        if self.padding:
            said["padding"] = "x" * self.padding
        return forge(said, key=rsa_key(SIGNING_KEY), header={"kid": SIGNING_KEY})

    def _tokens(self) -> Mapping[str, object]:
        self.id_tokens.append(self.token(seconds=self.token_seconds))
        self.access_tokens.append(secrets.token_urlsafe(24))
        tokens: dict[str, object] = {
            "token_type": "Bearer",
            "expires_in": self.token_seconds,
            "access_token": self.access_tokens[-1],
            "id_token": self.id_tokens[-1],
        }
        if self.renews:
            self.refresh_tokens.append(secrets.token_urlsafe(24))
            tokens["refresh_token"] = self.refresh_tokens[-1]
        return tokens

    def document(self, path: str) -> Mapping[str, object] | None:
        """What stands at a path for everybody."""
        documents: Mapping[str, Mapping[str, object]] = {
            "/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"},
            "/keys": {"keys": [jwk(rsa_key(SIGNING_KEY), kid=SIGNING_KEY)]},
        }
        return documents.get(path)


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            if parts.path == "/authorize":
                self._answer(302, location=provider.authorize(asked))
            elif parts.path == "/logout":
                provider.logouts.append(asked)
                self._answer(302, location=asked["post_logout_redirect_uri"])
            elif (document := provider.document(parts.path)) is not None:
                self._answer(200, document)
            else:
                self._answer(404)

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["content-length"])).decode()
            basic = base64.b64decode(self.headers.get("authorization", "").removeprefix("Basic ")).decode()
            granted = provider.exchange({name: values[0] for name, values in parse_qs(form).items()}, basic)
            self._answer(400, {"error": "invalid_grant"}) if granted is None else self._answer(200, granted)

        def _answer(self, status: int, body: Mapping[str, object] | None = None, *, location: str = "") -> None:
            content = json.dumps(body).encode() if body is not None else b""
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if location:
                self.send_header("location", location)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that refuses the certificate is none of the server's business."""


@contextmanager
def serving_provider(folder: Path, *, names: tuple[str, ...] = ("127.0.0.1",)) -> Iterator[Provider]:
    """Serve until the block ends; its certificate is for `names`."""
    provider = Provider(ca_file=folder / "ca.pem")
    server, tls = _Server(("127.0.0.1", 0), _handler(provider)), make_tls(folder, list(names))
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    provider.port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
