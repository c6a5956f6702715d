# SPDX-License-Identifier: Apache-2.0
"""The published log over HTTP, spoken by hand on a real socket: what is there, how it is labelled, and what is not."""

import asyncio
import gzip
import hashlib
import logging
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from iap_authz.adapters.http.resource import accepts_gzip, names_tag
from iap_authz.adapters.http.server import HEAD_MAX_BYTES, TileServer
from iap_authz.errors import ConfigInvalid, Corrupt, LogUnavailable
from iap_authz.tlog.tiles import parse_bundle_path, parse_tile_path, render_bundle
from tests.fakes.log_service import FakeTiles

NOTE = "log.example\n3\nAAAA\n\n\u2014 log.example c2ln\n".encode()
FULL = bytes(range(256)) * 32
PARTIAL = bytes(range(96))
ENTRIES = [b"entry %d " % index * 20 for index in range(256)]
FULL_BUNDLE = render_bundle(ENTRIES)
PARTIAL_BUNDLE = render_bundle(ENTRIES[:3])

CONTENTS = {
    "checkpoint": NOTE,
    "tile/0/000": FULL,
    "tile/0/001.p/3": PARTIAL,
    "tile/0/x001/x234/067": FULL,
    "tile/entries/000": FULL_BUNDLE,
    "tile/entries/001.p/3": PARTIAL_BUNDLE,
}
PRIVATE = {
    "stage/00000000000000000003-00": b"SECRET",
    "head": b"SECRET",
    "lock": b"SECRET",
    "tile/0/..": b"SECRET",
    "tile": b"SECRET",
    "tile/": b"SECRET",
    "": b"SECRET",
}

FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer as it came. Header names are lower case; none may come twice."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(kw_only=True)
class World:
    """A server over a reader, and a way to speak to it."""

    tiles: FakeTiles
    server: TileServer
    address: str

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.startswith("unix:"):
            return await asyncio.open_unix_connection(self.address.removeprefix("unix:"))
        host, _, port = self.address.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))

    async def say(self, raw: bytes) -> bytes:
        """Everything that comes back until the server closes the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(raw)
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def ask(self, target: str, *headers: str, method: str = "GET") -> Answer:
        """One request on a connection of its own."""
        lines = [f"{method} {target} HTTP/1.1", "host: log.example", "connection: close", *headers]
        return parsed(await self.say(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")))


def parsed(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    assert len(dict(pairs)) == len(pairs), "a header comes twice"
    return Answer(status=int(first.split(" ")[1]), headers=dict(pairs), body=body)


def public(path: str) -> bool:
    """What the store may be asked for: said a second time, apart from the server."""
    if path == "checkpoint":
        return True
    assert ".." not in path
    assert path.startswith("tile/")
    return bool(parse_bundle_path(path) if path.startswith("tile/entries/") else parse_tile_path(path))


@asynccontextmanager
async def world(address: str = "127.0.0.1:0", **arguments: Any) -> AsyncIterator[World]:
    tiles = FakeTiles({**CONTENTS, **PRIVATE}, may_read=public)
    server = TileServer(tiles, address=address, **{"serve_entries": True, **arguments})
    port = await server.start()
    where = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    try:
        yield World(tiles=tiles, server=server, address=where)
    finally:
        await server.stop()


Test = Callable[[World], Awaitable[None]]
Standing = Callable[[Test], None]


def served(test: Test, **arguments: Any) -> None:
    """Run a test with a server of its own."""

    async def run() -> None:
        async with world(**arguments) as made:
            await test(made)

    asyncio.run(run())


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    """Runs a test with one server that stands for all of them: uvicorn takes its time to stop."""
    with asyncio.Runner() as runner:
        context = world()
        made = runner.run(context.__aenter__())

        def run(test: Test) -> None:
            made.tiles.contents = {**CONTENTS, **PRIVATE}
            made.tiles.error = None
            made.tiles.read_paths.clear()
            runner.run(test(made))  # type: ignore[arg-type] # an async function's result is a coroutine

        yield run
        runner.run(context.__aexit__(None, None, None))


def tag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


# ---- what is there


@pytest.mark.parametrize("path", CONTENTS)
def test_a_resource_is_sent_whole_and_labelled(standing: Standing, path: str) -> None:
    async def test(made: World) -> None:
        answer = await made.ask(f"/{path}")
        assert (answer.status, answer.body) == (200, CONTENTS[path])
        headers = dict(answer.headers)
        assert headers.pop("date")
        expected = {
            "content-length": str(len(CONTENTS[path])),
            "etag": tag_of(CONTENTS[path]),
            "x-content-type-options": "nosniff",
            "connection": "close",
        }
        if path == "checkpoint":
            expected |= {"content-type": "text/plain; charset=utf-8", "cache-control": "no-cache"}
        else:
            expected |= {"content-type": "application/octet-stream", "cache-control": FOREVER}
        if path.startswith("tile/entries/"):
            expected["vary"] = "accept-encoding"
        assert headers == expected

    standing(test)


@pytest.mark.parametrize("path", [*CONTENTS, "healthz", "tile/0/002"])
def test_head_is_get_without_its_body(standing: Standing, path: str) -> None:
    async def test(made: World) -> None:
        get, head = await made.ask(f"/{path}"), await made.ask(f"/{path}", method="HEAD")
        without_date = [{**answer.headers, "date": ""} for answer in (get, head)]
        assert (head.status, without_date[0], head.body) == (get.status, without_date[1], b"")

    standing(test)


def test_the_checkpoint_is_read_anew_each_time(standing: Standing) -> None:
    async def test(made: World) -> None:
        first = await made.ask("/checkpoint")
        made.tiles.contents["checkpoint"] = NOTE + b"\xe2\x80\x94 witness c2ln\n"
        second = await made.ask("/checkpoint", f"if-none-match: {first.headers['etag']}")
        assert (second.status, second.body) == (200, made.tiles.contents["checkpoint"])
        third = await made.ask("/checkpoint", f"if-none-match: {second.headers['etag']}")
        assert (third.status, third.body) == (304, b"")
        del made.tiles.contents["checkpoint"]
        assert (await made.ask("/checkpoint")).status == 404

    standing(test)


@pytest.mark.parametrize("path", CONTENTS)
def test_what_the_client_has_already_is_not_sent(standing: Standing, path: str) -> None:
    async def test(made: World) -> None:
        tag = tag_of(CONTENTS[path])
        for line in (tag, f"W/{tag}", "*", f'"other", {tag}', f'"a,b",W/"c" ,  {tag} '):
            answer = await made.ask(f"/{path}", f"if-none-match: {line}")
            assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
            assert answer.headers["cache-control"] == (FOREVER if path != "checkpoint" else "no-cache")
            assert {"content-type", "content-encoding"} & answer.headers.keys() == set()
        for line in ('"other"', tag.strip('"'), tag[:-2] + '"', "", '"'):
            assert (await made.ask(f"/{path}", f"if-none-match: {line}")).status == 200
        two = await made.ask(f"/{path}", 'if-none-match: "other"', f"if-none-match: {tag}")
        assert two.status == 304

    standing(test)


@pytest.mark.parametrize("path", ["tile/entries/000", "tile/entries/001.p/3"])
def test_bundles_are_compressed_for_those_who_ask(standing: Standing, path: str) -> None:
    async def test(made: World) -> None:
        answer = await made.ask(f"/{path}", "accept-encoding: br, gzip")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.headers["vary"] == "accept-encoding"
        assert gzip.decompress(answer.body) == CONTENTS[path]
        assert answer.headers["etag"] == tag_of(answer.body) != tag_of(CONTENTS[path])
        again = await made.ask(f"/{path}", "accept-encoding: gzip")
        assert again.body == answer.body
        kept = await made.ask(f"/{path}", "accept-encoding: gzip", f"if-none-match: {answer.headers['etag']}")
        assert (kept.status, kept.headers["vary"]) == (304, "accept-encoding")
        plain = await made.ask(f"/{path}", f"if-none-match: {answer.headers['etag']}")
        assert (plain.status, plain.body) == (200, CONTENTS[path])
        assert "content-encoding" not in plain.headers

    standing(test)


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/0/001.p/3"])
def test_hashes_and_the_checkpoint_are_never_compressed(standing: Standing, path: str) -> None:
    async def test(made: World) -> None:
        answer = await made.ask(f"/{path}", "accept-encoding: gzip")
        assert answer.body == CONTENTS[path]
        assert {"content-encoding", "vary"} & answer.headers.keys() == set()

    standing(test)


@pytest.mark.parametrize(
    ("lines", "accepted"),
    [
        ([], False),
        (["gzip"], True),
        (["GZIP"], True),
        (["x-gzip"], True),
        (["*"], True),
        (["br", "gzip;q=0.5"], True),
        (["br,\tgzip ; Q=1.000"], True),
        (["identity"], False),
        (["gzip;q=0"], False),
        (["gzip;q=0.000"], False),
        (["*, gzip;q=0"], False),
        (["gzip;q=-1"], False),
        (["gzip;q=nan"], False),
        (["gzip;q=1e9"], False),
        (["gzip;q="], False),
        (["gzip;level=9"], False),
        (["gzip;q=\u0661"], False),
        (["xgzip"], False),
        ([""], False),
    ],
)
def test_accept_encoding_is_read_by_its_grammar(lines: list[str], accepted: bool) -> None:  # noqa: FBT001
    assert accepts_gzip(lines) is accepted


def test_no_header_names_no_tag() -> None:
    assert not names_tag([], '"a"')


def test_row_247_the_largest_bundle_arrives_whole(standing: Standing) -> None:
    largest = render_bundle([bytes([index]) * 65_535 for index in range(256)])

    async def test(made: World) -> None:
        made.tiles.contents["tile/entries/000"] = largest
        answer = await made.ask("/tile/entries/000")
        assert answer.headers["content-length"] == str(len(largest))
        assert answer.body == largest

    standing(test)


def test_two_requests_on_one_connection_pipelined(standing: Standing) -> None:
    async def test(made: World) -> None:
        one = b"GET /tile/0/001.p/3 HTTP/1.1\r\nhost: a\r\n\r\n"
        last = b"GET /checkpoint HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        raw = await made.say(one + one + last)
        assert raw.count(b"HTTP/1.1 200") == 3
        assert raw.count(PARTIAL) == 2
        assert raw.endswith(NOTE)

    standing(test)


def test_health(standing: Standing) -> None:
    async def test(made: World) -> None:
        answer = await made.ask("/healthz")
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, b"ok\n", "no-store")
        assert made.tiles.read_paths == []

    standing(test)


# ---- what is not

NOT_THERE = [
    "/",
    "//",
    "*",
    "/index.html",
    "/Checkpoint",
    "/CHECKPOINT",
    "//checkpoint",
    "/checkpoint/",
    "/checkpoint.",
    "/%63heckpoint",
    "/checkpoint%00",
    "/checkpoint?",
    "/checkpoint?x=1",
    "/checkpoint;x",
    "/./checkpoint",
    "/tile/../checkpoint",
    "checkpoint",
    "http://log.example/checkpoint",
    "/healthz/",
    "/healthz?x",
    "/stage",
    "/stage/",
    "/stage/00000000000000000003-00",
    "/head",
    "/lock",
    "/tile",
    "/tile/",
    "/tile/0",
    "/tile/0/",
    "/tile/0/..",
    "/tile/0/%2e%2e/head",
    "/tile/0/../../head",
    "/tile/0/..%2f..%2fhead",
    "/tile//0/000",
    "/tile/0//000",
    "/Tile/0/000",
    "/TILE/0/000",
    "/tile/0/000/",
    "/tile/0/000?x=1",
    "/tile/00/000",
    "/tile/-1/000",
    "/tile/+0/000",
    "/tile/64/000",
    "/tile/0/0",
    "/tile/0/00",
    "/tile/0/0000",
    "/tile/0/-01",
    "/tile/0/x000/001",
    "/tile/0/X001/234",
    "/tile/0/x001",
    "/tile/0/x001/..",
    "/tile/0/1000",
    "/tile/0/x999/x999/x999/x999/x999/x999/999",
    "/tile/0/001.p/0",
    "/tile/0/001.p/03",
    "/tile/0/001.p/256",
    "/tile/0/001.p/3/",
    "/tile/0/001.P/3",
    "/tile/0/001%2ep/3",
    "/tile/0/001.p%2f3",
    "/tile/0/001.p",
    "/tile/0/001.p/",
    "/tile/0/\u00b2\u00b2\u00b2",
    "/tile/entries",
    "/tile/entries/",
    "/tile/Entries/000",
    "/tile/entries/000.p/0",
    "/tile/entries/0",
    "/tile/data/000",
    "/tile/names/000",
    "\\tile\\0\\000",
    "/tile\\0\\000",
    "/" + "tile/0/000" * 500,
]


@pytest.mark.parametrize("target", NOT_THERE)
def test_row_245_there_is_one_spelling_and_nothing_else(standing: Standing, target: str) -> None:
    async def test(made: World) -> None:
        for method in ("GET", "HEAD", "PUT"):
            answer = await made.ask(target, method=method)
            if target == "/checkpoint?" and method != "PUT":
                assert answer.status == 200  # an empty query is none: uvicorn does not tell them apart
            elif target == "/checkpoint?":
                assert answer.status == 405
            else:
                assert answer.status in {400, 404}, method
            assert b"SECRET" not in answer.body
            if answer.status == 404:
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["x-content-type-options"] == "nosniff"
        assert set(made.tiles.read_paths) <= {"checkpoint"}

    standing(test)


@pytest.mark.parametrize("path", ["/tile/0/002", "/tile/0/000.p/3", "/tile/0/001", "/tile/0/001.p/4", "/tile/63/000"])
def test_what_is_not_stored_is_404_and_kept_by_no_cache(standing: Standing, path: str) -> None:
    """A partial whose full tile is there: clients ask for that one themselves (C2SP tlog-tiles)."""

    async def test(made: World) -> None:
        answer = await made.ask(path)
        assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")
        assert "etag" not in answer.headers

    standing(test)


def test_entries_can_be_kept_back() -> None:
    async def test(made: World) -> None:
        for path in ("/tile/entries/000", "/tile/entries/001.p/3"):
            for method in ("GET", "HEAD", "POST"):
                assert (await made.ask(path, method=method)).status == 404
        assert made.tiles.read_paths == []
        assert (await made.ask("/tile/0/000")).body == FULL

    served(test, serve_entries=False)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND"])
@pytest.mark.parametrize("path", ["/checkpoint", "/tile/0/000", "/tile/entries/000", "/healthz"])
def test_other_methods_are_told_which_there_are(standing: Standing, method: str, path: str) -> None:
    async def test(made: World) -> None:
        answer = await made.ask(path, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.headers["cache-control"] == "no-store"
        assert made.tiles.read_paths == []

    standing(test)


def test_headers_that_would_change_the_request_change_nothing(standing: Standing) -> None:
    async def test(made: World) -> None:
        for line in (
            "range: bytes=0-1",
            "x-http-method-override: DELETE",
            "x-original-url: /head",
            "x-forwarded-host: evil.example",
            "upgrade: websocket",
            "connection: upgrade",
        ):
            answer = await made.ask("/tile/0/000", line)
            assert (answer.status, answer.body) == (200, FULL)
            assert "evil" not in repr(answer.headers)

    standing(test)


# ---- a store that fails


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("checkpoint", b""),
        ("checkpoint", bytes(65 * 1024)),
        ("tile/0/000", b""),
        ("tile/0/000", FULL[:-1]),
        ("tile/0/000", FULL[:-32]),
        ("tile/0/001.p/3", PARTIAL + bytes(32)),
        ("tile/entries/000", FULL_BUNDLE[:-1]),
        ("tile/entries/000", FULL_BUNDLE + b"\0"),
        ("tile/entries/001.p/3", FULL_BUNDLE),
        ("tile/entries/001.p/3", b""),
    ],
)
def test_row_274_what_has_lost_its_shape_is_not_sent(
    standing: Standing, path: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: World) -> None:
        made.tiles.contents[path] = content
        answer = await made.ask(f"/{path}")
        assert (answer.status, answer.body) == (500, b"cannot be read\n")
        assert (answer.headers["cache-control"], "etag" in answer.headers) == ("no-store", False)

    standing(test)
    (record,) = caplog.records
    assert (record.levelno, vars(record)["path"]) == (logging.ERROR, path)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(5, "SECRET"), 503),
        (LogUnavailable("SECRET"), 503),
        (Corrupt("SECRET", "SECRET"), 500),
        (ValueError("SECRET"), 500),
    ],
)
def test_a_store_that_fails_is_not_explained(
    standing: Standing, error: BaseException, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: World) -> None:
        made.tiles.error = error
        answer = await made.ask("/tile/0/000")
        assert (answer.status, answer.headers["cache-control"]) == (status, "no-store")
        assert b"SECRET" not in answer.body
        made.tiles.error = None
        assert (await made.ask("/tile/0/000")).status == 200

    standing(test)
    assert len(caplog.records) == 1


# ---- hostile clients


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /checkpoint\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
        b"GET /check point HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /tile/0/\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\nhost: a\r\nx: " + b"a" * HEAD_MAX_BYTES,
        b"GET /" + b"a" * (HEAD_MAX_BYTES + 1),
    ],
)
def test_what_is_no_request_ends_the_connection(
    standing: Standing, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: World) -> None:
        answer = await made.say(raw)
        # The preface of HTTP/2 passes as a request for `*`, which is not there.
        assert answer.startswith(b"HTTP/1.1 404 " if raw.startswith(b"PRI") else b"HTTP/1.1 400 ")
        assert made.tiles.read_paths == []
        assert (await made.ask("/checkpoint")).status == 200

    standing(test)
    assert caplog.records == []


def test_a_body_with_a_request_is_not_read(standing: Standing) -> None:
    async def test(made: World) -> None:
        answer = await made.ask("/checkpoint", "content-length: 999999999")
        assert (answer.status, answer.body) == (200, NOTE)

    standing(test)


@pytest.mark.parametrize("raw", [b"", b"GET /chec", b"GET /checkpoint HTTP/1.1\r\nhost: a\r\n"])
def test_row_284_who_never_finishes_a_request_is_gone(raw: bytes) -> None:
    async def test(made: World) -> None:
        assert await made.say(raw) == b""

    served(test, request_seconds=0.05)


def test_row_284_who_never_reads_the_answer_is_gone() -> None:
    async def test(made: World) -> None:
        made.tiles.contents["tile/entries/000"] = render_bundle([bytes(65_535)] * 256)
        reader, writer = await made.connect()
        writer.write(b"GET /tile/entries/000 HTTP/1.1\r\nhost: a\r\n\r\n")
        start = await reader.readexactly(15)  # and then what asyncio and the kernel buffer, and no more
        connections = made.server._server.server_state.connections  # noqa: SLF001 -- nobody outside can see it go
        (slow,) = connections
        while slow in connections:
            await made.ask("/healthz")
        with suppress(ConnectionResetError):
            assert len(start + await reader.read()) < 16_000_000
        writer.close()
        assert (await made.ask("/checkpoint")).status == 200

    served(test, request_seconds=0.3)


def test_row_284_each_request_on_a_connection_has_its_own_time() -> None:
    async def test(made: World) -> None:
        reader, writer = await made.connect()
        connections = made.server._server.server_state.connections  # noqa: SLF001 -- a timer has no other side
        bounds = []
        for _ in range(3):
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            await reader.readuntil(b"ok\n")
            bounds += [connection._bound for connection in connections]  # type: ignore[union-attr] # noqa: SLF001
        assert [bound.cancelled() for bound in bounds] == [True, True, False]
        writer.close()
        (gone,) = connections
        while gone in connections:
            await made.ask("/healthz")
        assert bounds[-1].cancelled()

    served(test)


def test_row_284_connections_over_the_limit_are_told_so() -> None:
    async def test(made: World) -> None:
        idle = [await made.connect() for _ in range(4)]
        answer = await made.ask("/checkpoint")
        assert answer.status == 503
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        while (await made.ask("/checkpoint")).status == 503:
            pass

    served(test, connections_max=4)


# ---- where it listens, and how it ends


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "unix:{folder}/s"], ids=["v4", "v6", "unix"])
def test_it_serves_on_each_kind_of_address(
    tmp_path: Path, address: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def run() -> None:
        async with world(address.format(folder=tmp_path)) as made:
            assert (await made.ask("/checkpoint")).body == NOTE
            assert (await made.ask("/tile/entries/000")).body == FULL_BUNDLE

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def test_row_185_socket_is_for_owner_and_group_and_one_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(path))
    left_behind.close()

    async def run() -> None:
        async with world(f"unix:{path}") as made:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            second = TileServer(made.tiles, address=f"unix:{path}", serve_entries=True)
            with pytest.raises(ConfigInvalid, match="another process serves on this socket"):
                await second.start()
            await second.stop()
            assert (await made.ask("/checkpoint")).status == 200
        assert not path.exists()
        path.write_text("precious")
        third = TileServer(made.tiles, address=f"unix:{path}", serve_entries=True)
        with pytest.raises(ConfigInvalid, match="is no socket"):
            await third.start()
        await third.stop()
        assert path.read_text() == "precious"

    before = os.umask(0o022)
    os.umask(before)
    asyncio.run(run())
    assert os.umask(before) == before


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8080",
        ":8080",
        "localhost:8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:-1",
        "127.0.0.1:65536",
        "127.0.0.1:\u0661",
        "[127.0.0.1]:80",
        "::1:8080",
        "[::1]",
        "192.0.2.1:0",
        "unix:/nonexistent/folder/s",
        "unix:" + "/tmp/" + "a" * 200,
    ],
)
def test_an_address_that_cannot_be_had_is_said(address: str) -> None:
    async def run() -> None:
        server = TileServer(FakeTiles({}, may_read=public), address=address, serve_entries=True)
        with pytest.raises(ConfigInvalid):
            await server.start()
        await server.stop()

    asyncio.run(run())


def test_a_port_that_is_taken_is_said(standing: Standing) -> None:
    async def test(made: World) -> None:
        second = TileServer(made.tiles, address=made.address, serve_entries=True)
        with pytest.raises(ConfigInvalid, match="cannot listen"):
            await second.start()
        await second.stop()

    standing(test)


def test_signals_and_loggers_stay_the_hosts() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)

    async def run() -> None:
        before = [signal.getsignal(number) for number in numbers]
        async with world() as made:
            assert (await made.ask("/checkpoint")).status == 200
            assert [signal.getsignal(number) for number in numbers] == before

    asyncio.run(run())
    assert [logging.getLogger(name).handlers for name in ("uvicorn", "uvicorn.error", "uvicorn.access")] == [[], [], []]


def test_a_stop_ends_idle_connections_and_is_idempotent() -> None:
    async def run() -> None:
        async with world() as made:
            reader, writer = await made.connect()
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
            await made.server.stop()
            assert await reader.read() == b""
            writer.close()
            await made.server.stop()
            with pytest.raises(OSError):  # noqa: PT011 -- refused or reset, as the kernel likes
                await made.connect()

    asyncio.run(run())
