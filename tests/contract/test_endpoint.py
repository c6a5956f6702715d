# SPDX-License-Identifier: Apache-2.0
"""`HttpsEndpoint` against a real server: what is fetched, from where, and what is never sent anywhere (row 84, 85)."""

import asyncio
import gzip
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iap_authz.adapters.facts import https
from iap_authz.adapters.facts.https import CONTENT_MAX_BYTES, TOKEN_MAX_BYTES, BearerFile, HttpsEndpoint
from iap_authz.errors import ConfigInvalid, SourceUnavailable
from iap_authz.ports import Fetched
from tests.fakes.idp import Idp, Said, serving_idp

KEYS = b'{"keys": []}'


@pytest.fixture
def idp(tmp_path: Path) -> Iterator[Idp]:
    with serving_idp(tmp_path) as idp:
        idp.answers["/keys"] = Said(body=KEYS, etag='"one"')
        yield idp


def fetch(idp: Idp, path: str = "/keys", *, host: str = "127.0.0.1", etag: str = "", **options: Any) -> Fetched | None:
    endpoint = HttpsEndpoint(**{"ca_file": idp.ca_file, "private_addresses": True, **options})
    return asyncio.run(endpoint.fetch(idp.url(path, host=host), etag=etag))


def test_the_whole_content_comes_with_its_etag(idp: Idp) -> None:
    assert fetch(idp) == Fetched(content=KEYS, etag='"one"')
    assert fetch(idp, host="localhost") == Fetched(content=KEYS, etag='"one"')


def test_what_is_known_is_not_sent_again(idp: Idp) -> None:
    assert fetch(idp, etag='"one"') is None
    assert fetch(idp, etag='"zero"') == Fetched(content=KEYS, etag='"one"')
    assert idp.asked == [("/keys", '"one"'), ("/keys", '"zero"')]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_84_no_redirect_is_followed(idp: Idp, status: int) -> None:
    idp.answers["/moved"] = Said(status=status, headers={"location": idp.url("/keys")})
    with pytest.raises(SourceUnavailable, match=f"got status {status} .* no redirect is followed"):
        fetch(idp, "/moved")
    assert [path for path, _ in idp.asked] == ["/moved"]


@pytest.mark.parametrize("status", [204, 206, 304, 403, 404, 500, 503])
def test_another_status_is_no_answer(idp: Idp, status: int) -> None:
    idp.answers["/keys"] = Said(status=status, body=b"" if status in (204, 304) else KEYS)
    with pytest.raises(SourceUnavailable, match=f"got status {status}"):
        fetch(idp)


def test_84_a_private_address_is_not_connected_to(idp: Idp) -> None:
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(SourceUnavailable, match="want public addresses only"):
            fetch(idp, host=host, private_addresses=False)
    assert idp.asked == []


NOT_PUBLIC = (
    "169.254.169.254",
    "10.0.0.1",
    "::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "fd00::1",
    "fe80::1",
    "0.0.0.0",
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_84_one_address_that_is_not_public_is_enough(idp: Idp, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_loop: object, _host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in ("8.8.8.8", address)]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    with pytest.raises(SourceUnavailable, match="want public addresses only"):
        fetch(idp, host="keys.example.com", private_addresses=False)
    assert idp.asked == []


def test_84_the_name_is_resolved_once_and_that_address_is_used(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere at the second look (DNS rebinding) is not looked at twice."""
    looks = []

    async def resolve(_loop: object, host: str, port: int, **_: object) -> list[Any]:
        looks.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    assert fetch(idp, host="localhost") is not None
    assert looks == ["localhost"]


def test_an_address_that_does_not_answer_is_followed_by_the_next(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_loop: object, _host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    assert fetch(idp, host="localhost") is not None


def test_85_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    with (
        serving_idp(tmp_path, names=("keys.example.com",)) as idp,
        pytest.raises(SourceUnavailable, match="certificate"),
    ):
        fetch(idp)


def test_85_an_authority_that_does_not_count_is_refused(idp: Idp) -> None:
    with pytest.raises(SourceUnavailable, match="certificate"):
        fetch(idp, ca_file=None)
    assert idp.asked == []


def test_more_than_a_key_set_is_not_read(idp: Idp) -> None:
    idp.answers["/keys"] = Said(body=b" " * (CONTENT_MAX_BYTES + 1))
    with pytest.raises(SourceUnavailable, match="got more than"):
        fetch(idp)


def test_compressed_content_is_refused(idp: Idp) -> None:
    idp.answers["/keys"] = Said(body=gzip.compress(KEYS), headers={"content-encoding": "gzip"})
    with pytest.raises(SourceUnavailable, match="compressed"):
        fetch(idp)


def test_who_does_not_answer_is_not_waited_for(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "TOTAL_SECONDS", 0.2)
    idp.answers["/keys"] = Said(slow=True)
    with pytest.raises(SourceUnavailable, match=r"got no answer|cannot fetch"):
        fetch(idp)


@pytest.mark.parametrize("host", ["a" * 64 + ".example.com", "a..example.com", "."])
def test_a_name_that_leads_nowhere_is_unavailable(idp: Idp, host: str) -> None:
    with pytest.raises(SourceUnavailable):
        fetch(idp, host=host)
    assert idp.asked == []


@pytest.mark.parametrize("etag", ["x" * 257, '"\u00e9"', ""])
def test_an_etag_that_cannot_be_sent_back_is_not_kept(idp: Idp, etag: str) -> None:
    idp.answers["/keys"] = Said(body=KEYS, etag=etag)
    found = fetch(idp)
    assert found is not None
    assert (found.content, found.etag) == (KEYS, "")


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with serving_idp(tmp_path) as idp:
        pass
    with pytest.raises(SourceUnavailable, match="cannot fetch"):
        fetch(idp)


def test_the_environment_names_no_proxy(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(idp) is not None


def test_authorities_that_are_none_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("a letter")
    for name in ("no.pem", "absent.pem"):
        with pytest.raises(ConfigInvalid, match="authorities"):
            HttpsEndpoint(ca_file=tmp_path / name)


def test_a_token_goes_to_the_one_origin_that_it_is_for(idp: Idp, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    token = BearerFile(file=file, url=idp.url("/other"))
    assert fetch(idp, token=token) is not None
    file.write_text("two")
    assert fetch(idp, token=token) is not None
    assert fetch(idp, host="localhost", token=token) is not None
    assert fetch(idp, token=BearerFile(file=file, url="https://127.0.0.1/other")) is not None
    assert idp.tokens == ["Bearer one", "Bearer two", "", ""]


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"a b", b"a\nb", b"\xff", b"x" * (TOKEN_MAX_BYTES + 1)], ids=lambda c: c[:4]
)
def test_what_is_no_token_is_not_sent_and_not_said(idp: Idp, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(SourceUnavailable, match="got no token in") as caught:
        fetch(idp, token=BearerFile(file=tmp_path / "token", url=idp.url("/")))
    assert len(str(caught.value)) < 200
    assert idp.asked == []


def test_a_token_file_that_is_missing_is_no_fetch(idp: Idp, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="No such file"):
        fetch(idp, token=BearerFile(file=tmp_path / "none", url=idp.url("/")))
    assert idp.asked == []
