# SPDX-License-Identifier: Apache-2.0
"""A browser for tests, as far as logins need one: a cookie jar that obeys RFC 6265bis, and redirects that are followed.

Every name leads to loopback, and its certificate is checked; hosts that the test does not know are an error.
"""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

TIMEOUT_SECONDS = 20
REDIRECTS_MAX = 10
COOKIE_MAX_BYTES = 4096
"""Of name and value together: browsers drop what is longer."""

NAVIGATION = (("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), ("sec-fetch-mode", "navigate"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One that was set, with its attributes in lower case. `expires` is a time of `time.time`."""

    name: str
    value: str
    attributes: Mapping[str, str]
    expires: float | None

    @property
    def gone(self) -> bool:
        return self.expires is not None and self.expires <= time.time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer."""

    url: str
    status: int
    headers: Mapping[str, str]
    set_cookies: tuple[Cookie, ...]
    body: bytes

    @property
    def location(self) -> str:
        return self.headers.get("location", "")


def parse_cookie(text: str) -> Cookie:
    """One Set-Cookie header."""
    pair, *rest = (part.strip() for part in text.split(";"))
    name, _, value = pair.partition("=")
    split = (part.partition("=") for part in rest)
    attributes = {key.strip().lower(): content.strip() for key, _, content in split}
    expires = None
    if re.fullmatch(r"-?\d+", attributes.get("max-age", "")):
        expires = time.time() + int(attributes["max-age"])
    elif "expires" in attributes:
        expires = parsedate_to_datetime(attributes["expires"]).timestamp()
    return Cookie(name=name, value=value, attributes=attributes, expires=expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server on loopback, and who vouches for it."""

    port: int
    ca_file: Path


@dataclass(slots=True, kw_only=True)
class Browser:
    """`places` maps host names to what stands for them on loopback, whatever port an address names."""

    places: Mapping[str, Place]
    certificate: Path | None = None
    """A client certificate and its key, for whoever asks for one."""
    cookies: dict[tuple[str, str], Cookie] = field(default_factory=dict)
    """By host and name."""
    dropped: list[Cookie] = field(default_factory=list)
    """What a browser would not keep: too long, or `__Host-` without its conditions."""

    def get(self, url: str, *, headers: tuple[tuple[str, str], ...] = NAVIGATION, method: str = "GET") -> Page:
        """One request, without following anything."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection = http.client.HTTPConnection(host)
        connection.sock = self._connect(host)
        try:
            connection.putrequest(method, parts._replace(scheme="", netloc="").geturl() or "/", skip_host=True)
            for name, value in (("host", parts.netloc), *self._cookie_header(host), *headers):
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            set_cookies = tuple(parse_cookie(text) for text in response.headers.get_all("set-cookie") or ())
            self._keep(host, set_cookies)
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Page(url=url, status=response.status, headers=fields, set_cookies=set_cookies, body=response.read())
        finally:
            connection.close()

    def visit(self, url: str) -> list[Page]:
        """Navigate: all answers from the first to one that leads nowhere else."""
        pages = [self.get(url)]
        while pages[-1].location:
            assert len(pages) <= REDIRECTS_MAX, [page.url for page in pages]
            pages.append(self.get(urljoin(pages[-1].url, pages[-1].location)))
        return pages

    def names(self, host: str) -> set[str]:
        """The cookies that it has for a host."""
        return {name for (place, name), cookie in self.cookies.items() if place == host and not cookie.gone}

    def plant(self, host: str, name: str, value: str) -> None:
        """Set a cookie by hand, as whoever owns the browser can."""
        self.cookies[host, name] = Cookie(name=name, value=value, attributes={}, expires=None)

    def _connect(self, host: str) -> ssl.SSLSocket:
        place = self.places[host]
        context = ssl.create_default_context(cafile=str(place.ca_file))
        if self.certificate is not None:
            context.load_cert_chain(self.certificate)
        plain = socket.create_connection(("127.0.0.1", place.port), timeout=TIMEOUT_SECONDS)
        return context.wrap_socket(plain, server_hostname=host)

    def _cookie_header(self, host: str) -> list[tuple[str, str]]:
        live = [cookie for (place, _), cookie in self.cookies.items() if place == host and not cookie.gone]
        return [("cookie", "; ".join(f"{cookie.name}={cookie.value}" for cookie in live))] if live else []

    def _keep(self, host: str, set_cookies: tuple[Cookie, ...]) -> None:
        for cookie in set_cookies:
            bound = {"secure", "path"} <= cookie.attributes.keys() and "domain" not in cookie.attributes
            named = cookie.name.startswith("__Host-")
            if len(cookie.name) + len(cookie.value) > COOKIE_MAX_BYTES or (
                named and not (bound and cookie.attributes["path"] == "/")
            ):
                self.dropped.append(cookie)
            elif cookie.gone:
                self.cookies.pop((host, cookie.name), None)
            else:
                self.cookies[host, cookie.name] = cookie
