# SPDX-License-Identifier: Apache-2.0
"""`HttpsEndpoint`: fetches what issuers publish, as the port `Endpoint` wants it.

The invariant: nothing is sent to an address that was not judged. The name is resolved here, every address that it has
must be public (unless that is configured otherwise), and the connection goes to one of these very addresses; so a name
that answers differently the next time (DNS rebinding) changes nothing. The certificate is checked for the name.

    name -> addresses -> all public? -> connect to one of them, TLS for the name -> 200, bounded in size and time
                                                                                    304 where an ETag was given

Redirects are not followed, to whichever host. Proxies and other settings of the environment are not looked at. Content
that is compressed is refused: nobody asked for it, and a small answer must not become a large one.

A token for the server (a Kubernetes API server wants one) is read from its file for each fetch, because the kubelet
renews it, and goes to the one origin that the operator named, never to where a document points.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx

from iap_authz.errors import ConfigInvalid, MalformedRequest, SourceUnavailable
from iap_authz.facts.address import parse_address
from iap_authz.ports import Fetched

TOTAL_SECONDS = 10.0
"""For one fetch, from the name to the last byte."""

CONTENT_MAX_BYTES = 1 << 20
"""As large as a key set may be (`facts.keyset`)."""

ETAG_MAX_CHARS = 256
"""Longer ones, and such as cannot be sent back, are not kept: the next fetch is a whole one."""

ADDRESSES_MAX = 4
"""Of one name that are tried: an address of each kind, and another one."""

TOKEN_MAX_BYTES = 16 * 1024
"""Of a token file; projected tokens have 1 to 2 KiB."""

_HTTPS_PORT = 443
_OK, _NOT_MODIFIED = 200, 304


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerFile:
    """A file with a token, and a URL of the one origin that it is for."""

    file: Path
    url: str


class HttpsEndpoint:
    """For one issuer. Each fetch is a connection of its own: there is one every few minutes."""

    def __init__(
        self, *, ca_file: Path | None = None, private_addresses: bool = False, token: BearerFile | None = None
    ) -> None:
        """`ca_file`: the authorities that count, in the place of the public ones. Raises ConfigInvalid for it."""
        self._private_addresses = private_addresses
        self._token = token
        self._tls = _make_context(ca_file)

    async def fetch(self, url: str, *, etag: str = "") -> Fetched | None:
        """See `Endpoint`."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                return await self._fetch(url, etag)
        except TimeoutError:
            raise SourceUnavailable(f"got no answer from {url} within {TOTAL_SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # ValueError: a name that no DNS has
            raise SourceUnavailable(f"cannot fetch {url}: {str(error) or type(error).__name__}") from error

    async def _fetch(self, url: str, etag: str) -> Fetched | None:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        headers |= {"if-none-match": etag} if etag else {}
        if self._token is not None and _origin_of(url) == _origin_of(self._token.url):
            headers["authorization"] = f"Bearer {await asyncio.to_thread(_read_token, self._token.file)}"
        transport = _CheckedTransport(self._tls, private_addresses=self._private_addresses)
        async with (
            httpx.AsyncClient(transport=transport, trust_env=False, timeout=TOTAL_SECONDS) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code == _NOT_MODIFIED and etag:
                return None
            if response.status_code != _OK:
                status = response.status_code
                raise SourceUnavailable(f"got status {status} from {url}, want 200; no redirect is followed")
            if "content-encoding" in response.headers:
                raise SourceUnavailable(f"got compressed content from {url}, want it as it is")
            content = await _read(response, url)
            said = response.headers.get("etag", "")
        is_kept = len(said) <= ETAG_MAX_CHARS and said.isascii() and said.isprintable()
        return Fetched(content=content, etag=said if is_kept else "")


class _CheckedTransport(httpx.AsyncBaseTransport):
    """Sends a request to an address that was judged; the name stays in the Host header and in the TLS handshake."""

    def __init__(self, tls: ssl.SSLContext, *, private_addresses: bool) -> None:
        self._inner = httpx.AsyncHTTPTransport(verify=tls, retries=0)
        self._private_addresses = private_addresses

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Try the addresses in the order that the resolver gives them."""
        url, host = request.url, request.url.host
        *others, last = await self._addresses_of(host, url.port or _HTTPS_PORT)
        request.extensions = {**request.extensions, "sni_hostname": host}
        for address in others:
            request.url = url.copy_with(host=address)
            with contextlib.suppress(httpx.ConnectError):
                return await self._inner.handle_async_request(request)
        request.url = url.copy_with(host=last)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Release the connection."""
        await self._inner.aclose()

    async def _addresses_of(self, host: str, port: int) -> list[str]:
        """The addresses of `host`, at least one. Raises SourceUnavailable unless all of them are public."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(where[0]) for *_, where in found))
        refused = [one for one in addresses if not self._private_addresses and not _is_public(one)]
        if refused or not addresses:
            got = f"got {host} at {', '.join(refused) or 'no address'}"
            raise SourceUnavailable(f"{got}, want public addresses only (`private_addresses: true` lets others pass)")
        return addresses[:ADDRESSES_MAX]


def _origin_of(url: str) -> tuple[str, int]:
    parsed = httpx.URL(url)
    return parsed.host, parsed.port or _HTTPS_PORT


def _read_token(file: Path) -> str:
    """Raises SourceUnavailable, which quotes nothing of the file."""
    with file.open("rb") as opened:
        content = opened.read(TOKEN_MAX_BYTES + 1)
    token = content.strip()
    if not 0 < len(token) <= TOKEN_MAX_BYTES or not re.fullmatch(rb"[!-~]+", token):
        raise SourceUnavailable(f"got no token in {file}, want one line of at most {TOKEN_MAX_BYTES} bytes")
    return token.decode("ascii")


def _is_public(address: str) -> bool:
    try:
        return parse_address(address).scope == "public"
    except MalformedRequest:
        return False


async def _read(response: httpx.Response, url: str) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > CONTENT_MAX_BYTES:
            raise SourceUnavailable(f"got more than {CONTENT_MAX_BYTES} bytes from {url}")
    return bytes(content)


def _make_context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid.of_file(ca_file, f"got no certificates of authorities: {error.strerror or error}") from None
