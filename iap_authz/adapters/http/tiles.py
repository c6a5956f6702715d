# SPDX-License-Identifier: Apache-2.0
"""The application behind the tile server: one request in, one resource of the store out.

The invariant: what is sent with "for ever" on it has the shape that its path says, and its entity tag is the digest of
the very bytes that are sent. A resource that is not there may come later, so an answer without one is kept by nobody.

A partial tile that is not stored is 404 even when the full one is: clients fall back to that one by themselves (C2SP
tlog-tiles). Hashes and signatures are for those to check who read; ranges of bytes are not served.
"""

import asyncio
import gzip
import hashlib
import logging
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from iap_authz.adapters.http.resource import Resource, accepts_gzip, names_tag, parse_target
from iap_authz.errors import Malformed, NotFound, Unavailable

HEALTH_TARGET = b"/healthz"
METHODS = ("GET", "HEAD")

CHUNK_BYTES = 256 * 1024
"""Given to the connection at a time: the most that a slow reader makes us hold twice."""

GZIP_LEVEL = 6
"""zlib's own default. A bundle is compressed by each cache's first request, not by each reader's."""

TAG_HEX_DIGITS = 32
"""Of SHA-256, in an entity tag: 128 bits tell two contents apart as well as 256 do."""

_FLEETING = {"cache-control": "no-store"}

_log = logging.getLogger("iap_authz.tiles")


class TileReader(Protocol):
    """What is read of a `ports.TileStore`."""

    def read(self, path: str) -> bytes | None:
        """The bytes at `path`; None if there is nothing. Blocking; called from several threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What is sent: the bytes, encoded or not, and their entity tag."""

    content: bytes
    encoded: bool
    tag: str


class TileApp:
    """An ASGI application over a reader. `threads` do the reading: their own, so that none waits for the log's."""

    def __init__(self, reader: TileReader, *, threads: Executor, serve_entries: bool) -> None:
        self._reader = reader
        self._threads = threads
        self._serve_entries = serve_entries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._answer(scope)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        target: bytes = scope["raw_path"]
        if scope["query_string"]:
            return _plain(404, "not found")
        try:
            resource = None if target == HEALTH_TARGET else parse_target(target, serve_entries=self._serve_entries)
        except (Malformed, NotFound):
            return _plain(404, "not found")
        if scope["method"] not in METHODS:
            return _plain(405, "method not allowed", allow=", ".join(METHODS))
        if resource is None:
            return _plain(200, "ok")
        return await self._read(resource, Headers(scope=scope))

    async def _read(self, resource: Resource, headers: Headers) -> Response:
        encode = resource.compressible and accepts_gzip(headers.getlist("accept-encoding"))
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._threads, _load, self._reader, resource, encode)
        except (OSError, Unavailable) as error:
            _log.error("a resource cannot be read", exc_info=error, extra={"path": resource.path})
            return _plain(503, "cannot be read now")
        except Exception as error:  # noqa: BLE001 -- damaged, or a defect of ours: neither is sent nor explained
            _log.error("a resource is not what its path says", exc_info=error, extra={"path": resource.path})
            return _plain(500, "cannot be read")
        if loaded is None:
            return _plain(404, "not found")
        return _found(resource, loaded, headers)


def _load(reader: TileReader, resource: Resource, encode: bool) -> Loaded | None:  # noqa: FBT001 -- run_in_executor has no keywords
    """Read, check and encode: everything that takes time, in a thread."""
    content = reader.read(resource.path)
    if content is None:
        return None
    resource.check(content)
    if encode:
        content = gzip.compress(content, GZIP_LEVEL, mtime=0)
    digest = hashlib.sha256(content).hexdigest()
    return Loaded(content=content, encoded=encode, tag=f'"{digest[:TAG_HEX_DIGITS]}"')


def _found(resource: Resource, loaded: Loaded, headers: Headers) -> Response:
    about = {"etag": loaded.tag, "cache-control": resource.cache_control}
    if resource.compressible:
        about["vary"] = "accept-encoding"
    if names_tag(headers.getlist("if-none-match"), loaded.tag):
        return Response(status_code=304, headers=about)
    if loaded.encoded:
        about["content-encoding"] = "gzip"
    return ChunkedResponse(loaded.content, headers=about, media_type=resource.media_type)


def _plain(status: int, text: str, **headers: str) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status, headers=_FLEETING | headers)


class ChunkedResponse(Response):
    """A response that is written piece by piece: the next one when the connection has taken the last."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's signature
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = b"" if scope["method"] == "HEAD" else bytes(self.body)
        for at in range(0, len(body), CHUNK_BYTES):
            await send({"type": "http.response.body", "body": body[at : at + CHUNK_BYTES], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
