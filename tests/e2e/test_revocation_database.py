# SPDX-License-Identifier: Apache-2.0
"""Revocations in a real PostgreSQL, and a sidecar in a process of its own: from the write to the first refusal."""

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from iap_authz.facts.revocation import Kind, Revocation
from iap_authz.key_wiring import make_api_key
from iap_authz.model.reason import Reason
from iap_authz.revocation_wiring import open_table
from tests.fakes.certificates import envoy_form, fingerprint_of, make_certificate
from tests.fakes.postgres import PASSWORD, SIDECAR, SIDECAR_PASSWORD, Postgres, silent_server
from tests.fakes.revoking import (
    ALLOWED,
    BOUND_SECONDS,
    REVOKED,
    UNDECIDED,
    asking,
    bearer,
    configure,
    running_sidecar,
    seconds_until,
)
from tests.fakes.tokens import ISSUER

KEPT = "database_url_file: revocations.url"
ADA = Revocation(kind=Kind.SUBJECT, issuer=ISSUER, value="ada")


class Writer:
    """The operator's side: the owner of the tables. The sidecar's role may only read."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        self._folder = folder
        self.database = postgres.make_database()
        self.place("revocations.url", postgres.url(self.database, role=SIDECAR, password=SIDECAR_PASSWORD))
        self.place("owner.url", postgres.url(self.database))

    def place(self, name: str, url: str) -> None:
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(f"{url}\n")

    def add(self, entry: Revocation) -> None:
        with open_table(self._folder / "owner.url") as table:
            table.add(entry)

    def remove(self, entry: Revocation) -> None:
        with open_table(self._folder / "owner.url") as table:
            table.remove(entry)


@pytest.fixture
def writer(postgres: Postgres, tmp_path: Path) -> Writer:
    return Writer(postgres, tmp_path)


def test_from_the_write_to_the_first_refusal(tmp_path: Path, writer: Writer) -> None:
    text = configure(tmp_path, kept=KEPT)
    key, token, other = [("x-api-key", text)], bearer(), bearer(sub="bob", sid="s-2", jti="t-2")
    entries = (
        (token, ADA),
        (token, Revocation(kind=Kind.SUBJECT, issuer=ISSUER, value="ada", before=datetime.now(UTC))),
        (token, Revocation(kind=Kind.SESSION, issuer=ISSUER, value="s")),
        (token, Revocation(kind=Kind.TOKEN_ID, issuer=ISSUER, value="t")),
        (token, Revocation(kind=Kind.SIGNING_KEY, issuer=ISSUER, value="one")),
        (key, Revocation(kind=Kind.API_KEY, value=text.split("_")[1])),
    )

    async def measure() -> list[float]:
        found = []
        async with asking(tmp_path) as ask:
            for headers, entry in entries:
                assert [await ask(each) for each in (token, other, key)] == [ALLOWED] * 3
                writer.add(entry)
                found.append(await seconds_until(ask, headers, want=REVOKED))
                assert await ask(headers, "/open") == REVOKED
                untouched = [
                    each for each in (other, key) if each is not headers and entry.kind is not Kind.SIGNING_KEY
                ]
                assert [await ask(each) for each in untouched] == [ALLOWED] * len(untouched)
                writer.remove(entry)
                await seconds_until(ask, headers, want=ALLOWED)
        return found

    with running_sidecar(tmp_path) as sidecar:
        seconds = asyncio.run(measure())
    print(f"seconds from write to refusal: {seconds}")  # noqa: T201 -- shown by pytest -s
    assert max(seconds) < BOUND_SECONDS
    said = b"".join(path.read_bytes() for path in (tmp_path / "journal").rglob("*") if path.is_file())
    for secret in (PASSWORD, SIDECAR_PASSWORD, "postgresql://"):
        assert secret.encode() not in said + sidecar.output.read_bytes()


def test_a_certificate_is_revoked_by_the_database_too(tmp_path: Path, writer: Writer) -> None:
    configure(tmp_path, kept=KEPT, more="refresh_interval: 100ms\n")
    made = make_certificate(common_name="laptop-1", serial=0x0A1B)
    shown, refused = envoy_form(made), (403, Reason.CERTIFICATE_REVOKED.code)
    entries = (
        Revocation(kind=Kind.CERTIFICATE, value=fingerprint_of(made)),
        Revocation(kind=Kind.SERIAL, issuer="CN=laptop-1", value="0a1b"),
    )

    async def walk() -> None:
        async with asking(tmp_path) as ask:
            for entry in entries:
                assert await ask(bearer(), "/open", shown) == ALLOWED
                writer.add(entry)
                await seconds_until(lambda headers: ask(headers, "/open", shown), bearer(), want=refused)
                assert await ask(bearer(), "/open") == ALLOWED
                writer.remove(entry)
                await seconds_until(lambda headers: ask(headers, "/open", shown), bearer(), want=ALLOWED)

    with running_sidecar(tmp_path):
        asyncio.run(walk())


def test_a_server_that_is_away_is_not_an_empty_list_and_comes_back(
    tmp_path: Path, writer: Writer, postgres: Postgres
) -> None:
    configure(tmp_path, kept=KEPT, more="refresh_interval: 100ms\n", max_stale="3s")
    token, bob = bearer(), bearer(sub="bob", sid="s-2", jti="t-2")

    async def walk() -> None:
        async with asking(tmp_path) as ask:
            writer.add(ADA)
            await seconds_until(ask, token, want=REVOKED)
            with postgres.stopped():
                assert await ask(token) == REVOKED
                assert await ask(bob) == ALLOWED, "the last good list, up to max_stale"
                await seconds_until(ask, bob, want=UNDECIDED, within=20)
                assert await ask(token) == UNDECIDED
                assert await ask(token, "/open") == ALLOWED
            await seconds_until(ask, token, want=REVOKED)
            assert await ask(bob) == ALLOWED

    with running_sidecar(tmp_path):
        asyncio.run(walk())


@pytest.mark.usefixtures("writer")
def test_a_server_that_freezes_holds_up_no_other_source_and_no_end(tmp_path: Path, postgres: Postgres) -> None:
    configure(tmp_path, kept=KEPT, more="refresh_interval: 100ms\n")
    another = make_api_key(
        tmp_path / "pepper", name="weekly", subject="exporter", scopes=(), groups=(), lifetime=timedelta(days=1)
    )
    key, bad_key = [("x-api-key", another.text)], (401, Reason.BAD_API_KEY.code)

    async def walk() -> None:
        async with asking(tmp_path) as ask:
            assert await ask(key) == bad_key
            (tmp_path / "keys.json").write_text(json.dumps({"keys": [another.entry]}))
            await seconds_until(ask, key, want=ALLOWED)

    with running_sidecar(tmp_path) as sidecar, postgres.frozen():
        asyncio.run(walk())
        sidecar.signal(signal.SIGTERM)
        assert sidecar.wait_ended(20) == 0


def test_a_start_with_a_server_that_says_nothing_refuses_until_there_is_one(
    tmp_path: Path, writer: Writer, postgres: Postgres
) -> None:
    configure(tmp_path, kept=KEPT, more="refresh_interval: 100ms\n")
    with silent_server() as port:
        writer.place("revocations.url", f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/d")

        async def walk() -> None:
            async with asking(tmp_path) as ask:
                assert await ask(bearer()) == UNDECIDED
                writer.place("revocations.url", postgres.url(writer.database, role=SIDECAR, password=SIDECAR_PASSWORD))
                await seconds_until(ask, bearer(), want=ALLOWED, within=20)

        with running_sidecar(tmp_path) as sidecar:
            asyncio.run(walk())
            assert PASSWORD not in sidecar.output.read_text()
