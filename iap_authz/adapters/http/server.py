# SPDX-License-Identifier: Apache-2.0
"""The HTTP server inside the caller's event loop: uvicorn, held to bounds it has not itself.

It serves what a log publishes, or the keys that assertions are checked with.

The invariant: a connection that does not finish a request, from its first byte to the last of the answer, within
`request_seconds` is gone, so whoever sends or reads slowly keeps a place for a bounded time only.

uvicorn is left no way out of this module: it takes no signals, loads no logging configuration, writes no access log and
reads no environment. Who may connect is not decided here; a server that the world may reach belongs behind a cache.
"""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from iap_authz.adapters.http.keys import KeySetApp
from iap_authz.adapters.http.listen import open_listener
from iap_authz.adapters.http.tiles import TileApp, TileReader
from iap_authz.ports import KeyPublisher

CONNECTIONS_MAX = 256
"""At a time; more are told 503. Times the largest bundle (16 MiB) this bounds what is held for readers."""

REQUEST_MAX_SECONDS = 60.0
"""For a request and its answer: the largest bundle at 2.3 Mbit/s."""

KEEP_ALIVE_SECONDS = 15
"""A connection without a request: long enough for a mirror's next tile."""

HEAD_MAX_BYTES = 16 * 1024
"""Of a request line and headers that have not all arrived: what other servers take, far more than a reader sends."""

STOP_SECONDS = 5
"""For answers under way when the server stops."""

READ_THREADS = 4
"""As many as a disk answers at once, few enough that compressing leaves the log its processor."""

_HEADERS = [("x-content-type-options", "nosniff")]


class HttpServer:
    """Serves one application on one address (`IP-ADDRESS:PORT` or `unix:PATH`) until stopped."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        address: str,
        request_seconds: float = REQUEST_MAX_SECONDS,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._address = address
        config = BoundedConfig(
            application,
            http=BoundedProtocol,
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # its warnings are of what clients do: theirs to write, by the thousand
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=_HEADERS,
            limit_concurrency=connections_max,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=HEAD_MAX_BYTES,
        )
        config.request_seconds = request_seconds
        self._server = EmbeddedServer(config)
        self._cleanup = ExitStack()
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Bind and serve. Returns the TCP port (0 for a Unix socket). Raises ConfigInvalid for a bad address."""
        listener = open_listener(self._address, self._cleanup)
        port = 0 if listener.family == socket.AF_UNIX else int(listener.getsockname()[1])
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="HTTP server")
        started = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._serving.done():
            await self.stop()
        return port

    async def stop(self) -> None:
        """Take nothing new, let answers under way end for a bounded time, release the address. Idempotent."""
        self._server.should_exit = True
        try:
            if self._serving is not None:
                await self._serving
        finally:
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            self._cleanup.close()


class TileServer(HttpServer):
    """Serves one log's published resources, read by threads of its own."""

    def __init__(
        self,
        reader: TileReader,
        *,
        address: str,
        serve_entries: bool,
        request_seconds: float = REQUEST_MAX_SECONDS,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tiles")
        application = TileApp(reader, threads=self._threads, serve_entries=serve_entries)
        super().__init__(application, address=address, request_seconds=request_seconds, connections_max=connections_max)

    async def stop(self) -> None:
        """Stop; what threads have not begun to read is not read. Idempotent."""
        try:
            await super().stop()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)


class KeySetServer(HttpServer):
    """Serves the key set of assertions."""

    def __init__(self, publisher: KeyPublisher, *, address: str) -> None:
        super().__init__(KeySetApp(publisher), address=address)


class EmbeddedServer(uvicorn.Server):
    """uvicorn's server as a guest: the process's signals are its host's, and it says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.listening.set()


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration and one bound more."""

    request_seconds: float


class BoundedProtocol(H11Protocol):
    """A connection that has so long for each request, the wait for its first byte and the reading of its answer too.

    uvicorn's own time-out covers the wait between two requests only.
    """

    config: BoundedConfig
    _bound: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base does
        """Begin to count."""
        super().connection_made(transport)
        self._restart()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count no more."""
        self._bound.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin again: the next request may stand in the buffer already."""
        self._bound.cancel()
        self._restart()
        super().on_response_complete()

    def _restart(self) -> None:
        self._bound = self.loop.call_later(self.config.request_seconds, self.transport.abort)
