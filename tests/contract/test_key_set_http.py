# SPDX-License-Identifier: Apache-2.0
"""The keys of assertions over HTTP: one target, how it is labelled, and nothing else."""

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from iap_authz.adapters.http.server import KeySetServer
from iap_authz.errors import ConfigInvalid

TARGET = "/.well-known/jwks.json"


class Publisher:
    """A publisher whose set changes when a test says so."""

    def __init__(self) -> None:
        self.content = b'{"keys":[]}'

    def key_set(self) -> bytes:
        return self.content


Ask = Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]]


def served(test: Callable[[Publisher, Ask], Awaitable[None]], address: str = "127.0.0.1:0") -> None:
    """Run a test with a server of its own."""

    async def run() -> None:
        publisher = Publisher()
        server = KeySetServer(publisher, address=address)
        port = await server.start()

        async def ask(target: str = TARGET, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
            opening = (
                asyncio.open_unix_connection(address.removeprefix("unix:"))
                if address.startswith("unix:")
                else asyncio.open_connection("127.0.0.1", port)
            )
            reader, writer = await opening
            lines = [f"{method} {target} HTTP/1.1", "host: a.example", "connection: close", *headers, "", ""]
            writer.write("\r\n".join(lines).encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            first, *rest = head.decode().split("\r\n")
            pairs = [line.partition(": ") for line in rest]
            return int(first.split(" ")[1]), {name.lower(): value for name, _, value in pairs}, body

        try:
            await test(publisher, ask)
        finally:
            await server.stop()

    asyncio.run(run())


def test_the_set_is_sent_whole_and_may_be_cached_for_five_minutes() -> None:
    async def test(publisher: Publisher, ask: Ask) -> None:
        status, headers, body = await ask()
        assert (status, body) == (200, publisher.content)
        assert headers["content-type"] == "application/jwk-set+json"
        assert headers["cache-control"] == "public, max-age=300"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-length"] == str(len(body))
        status, again, body = await ask(method="HEAD")
        assert (status, again["content-length"], body) == (200, headers["content-length"], b"")
        status, _, body = await ask(TARGET, f"if-none-match: {headers['etag']}")
        assert (status, body) == (304, b"")
        publisher.content = b'{"keys":[{}]}'
        status, changed, body = await ask(TARGET, f"if-none-match: {headers['etag']}")
        assert (status, body) == (200, publisher.content)
        assert changed["etag"] != headers["etag"]

    served(test)


def test_nothing_else_is_there() -> None:
    async def test(_publisher: Publisher, ask: Ask) -> None:
        for target in (
            "/",
            "/healthz",
            f"{TARGET}/",
            f"{TARGET}?x",
            "/.well-known/jwks%2ejson",
            f"/{TARGET}",
            "/checkpoint",
        ):
            status, headers, body = await ask(target)
            assert (target, status, headers["cache-control"], body) == (target, 404, "no-store", b"not found\n")
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, headers, _ = await ask(method=method)
            assert (status, headers["allow"]) == (405, "GET, HEAD")

    served(test)


def test_a_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    async def test(publisher: Publisher, ask: Ask) -> None:
        assert (await ask())[2] == publisher.content
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660

    served(test, f"unix:{tmp_path / 's'}")
    assert not (tmp_path / "s").exists()


def test_an_address_that_is_taken_is_said() -> None:
    async def test() -> None:
        first = KeySetServer(Publisher(), address="127.0.0.1:0")
        port = await first.start()
        second = KeySetServer(Publisher(), address=f"127.0.0.1:{port}")
        try:
            with pytest.raises(ConfigInvalid, match="cannot listen"):
                await second.start()
        finally:
            await second.stop()
            await first.stop()

    asyncio.run(test())
