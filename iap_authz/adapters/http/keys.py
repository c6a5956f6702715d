# SPDX-License-Identifier: Apache-2.0
"""The application that publishes the key set of assertions, and nothing else.

    GET /.well-known/jwks.json      application/jwk-set+json (RFC 7517 section 8.5.1), cached for at most 300 s

The invariant: what is sent is the set of this moment, whole, and its entity tag is the digest of its bytes. A key is in
it for longer than the set may be cached before it signs, so a cache that keeps to that always has the key. Every other
target is 404. The keys are public; that they are ours is what the connection must say, which is why this one stays on
the machine.
"""

import hashlib

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from iap_authz.adapters.http.resource import names_tag
from iap_authz.facts.assertion import KEY_SET_MAX_AGE_SECONDS
from iap_authz.ports import KeyPublisher

KEY_SET_TARGET = b"/.well-known/jwks.json"
MEDIA_TYPE = "application/jwk-set+json"
METHODS = ("GET", "HEAD")

TAG_HEX_DIGITS = 32
"""Of SHA-256, in an entity tag."""

_CACHED = f"public, max-age={KEY_SET_MAX_AGE_SECONDS}"


class KeySetApp:
    """An ASGI application over a publisher."""

    def __init__(self, publisher: KeyPublisher) -> None:
        self._publisher = publisher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        if scope["raw_path"] != KEY_SET_TARGET or scope["query_string"]:
            return PlainTextResponse("not found\n", status_code=404, headers={"cache-control": "no-store"})
        if scope["method"] not in METHODS:
            about = {"cache-control": "no-store", "allow": ", ".join(METHODS)}
            return PlainTextResponse("method not allowed\n", status_code=405, headers=about)
        content = self._publisher.key_set()
        tag = f'"{hashlib.sha256(content).hexdigest()[:TAG_HEX_DIGITS]}"'
        about = {"etag": tag, "cache-control": _CACHED}
        if names_tag(Headers(scope=scope).getlist("if-none-match"), tag):
            return Response(status_code=304, headers=about)
        return Response(content, headers=about, media_type=MEDIA_TYPE)
