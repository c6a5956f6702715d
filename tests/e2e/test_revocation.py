# SPDX-License-Identifier: Apache-2.0
"""A sidecar as it is in production: how long a token or an API key lives after its revocation was written."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

from iap_authz.model.reason import Reason
from tests.fakes.revoking import (
    ALLOWED,
    BOUND_SECONDS,
    REVOKED,
    UNDECIDED,
    bearer,
    configure,
    seconds_until,
    serving,
)
from tests.fakes.tokens import ISSUER


class Revocations:
    """The file of revocations, replaced whole as a careful writer does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "revoked.json"
        self.revision = 0
        self.write()

    def write(self, *entries: dict[str, str]) -> None:
        self.revision += 1
        new = self.path.with_name("new")
        new.write_text(json.dumps({"revision": self.revision, "revoked": entries}))
        new.replace(self.path)


def test_from_the_write_to_the_first_refusal(tmp_path: Path) -> None:
    async def measure() -> list[float]:
        text = configure(tmp_path)
        revocations = Revocations(tmp_path)
        key, token, other = [("x-api-key", text)], bearer(), bearer(sub="bob", sid="s-2", jti="t-2")
        soon = datetime.now(UTC).isoformat()
        found = []
        async with serving(tmp_path) as ask:
            for headers, entry in (
                (token, {"issuer": ISSUER, "sub": "ada"}),
                (token, {"issuer": ISSUER, "sub": "ada", "before": soon}),
                (token, {"issuer": ISSUER, "sid": "s"}),
                (token, {"issuer": ISSUER, "jti": "t"}),
                (token, {"issuer": ISSUER, "kid": "one"}),
                (key, {"api_key": text.split("_")[1]}),
            ):
                assert [await ask(each) for each in (token, other, key)] == [ALLOWED] * 3
                revocations.write(entry)
                found.append(await seconds_until(ask, headers, want=REVOKED))
                assert await ask(headers, "/open") == REVOKED
                untouched = [each for each in (other, key) if each is not headers and "kid" not in entry]
                assert [await ask(each) for each in untouched] == [ALLOWED] * len(untouched)
                revocations.write()
                await seconds_until(ask, headers, want=ALLOWED)
        return found

    seconds = asyncio.run(measure())
    print(f"seconds from write to refusal: {seconds}")  # noqa: T201 -- shown by pytest -s
    assert max(seconds) < BOUND_SECONDS
    held = b"".join(path.read_bytes() for path in (tmp_path / "journal").rglob("*") if path.is_file())
    assert json.loads((tmp_path / "keys.json").read_text())["keys"][0]["id"].encode() in held
    assert b"iap_" not in held


def test_an_inventory_that_takes_long_holds_up_no_revocation(tmp_path: Path) -> None:
    async def measure() -> float:
        configure(tmp_path, more="device: {inventory_file: devices.yaml}\n")
        revocations, token = Revocations(tmp_path), bearer()
        top = "taken: 2026-01-31T09:00:00Z\ndevices:\n"
        (tmp_path / "devices.yaml").write_text(f"{top}- {{id: d}}\n")
        async with serving(tmp_path) as ask:
            assert await ask(token) == ALLOWED
            (tmp_path / "devices.yaml").write_text(top + "".join(f"- {{id: d-{n}}}\n" for n in range(20_000)))
            await asyncio.sleep(1.2)
            revocations.write({"issuer": ISSUER, "sub": "ada"})
            return await seconds_until(ask, token, want=REVOKED)

    assert asyncio.run(measure()) < BOUND_SECONDS


def test_a_list_that_is_gone_is_not_an_empty_one(tmp_path: Path) -> None:
    async def walk() -> None:
        text = configure(tmp_path, more="refresh_interval: 100ms\n", max_stale="500ms")
        revocations, key, token = Revocations(tmp_path), [("x-api-key", text)], bearer()
        async with serving(tmp_path) as ask:
            assert [await ask(each) for each in (token, key)] == [ALLOWED] * 2
            revocations.path.unlink()
            for headers in (token, key):
                await seconds_until(ask, headers, want=UNDECIDED)
            assert await ask([]) == (401, Reason.IDENTITY_ABSENT.code)
            assert await ask(token, "/open") == ALLOWED
            assert (await ask([("x-api-key", "iap_")])) == (401, Reason.BAD_API_KEY.code)
            revocations.write({"issuer": ISSUER, "sub": "ada"})
            await seconds_until(ask, token, want=REVOKED)
            assert await ask(key) == ALLOWED

    asyncio.run(walk())


def test_a_start_without_the_list_refuses_until_it_is_there(tmp_path: Path) -> None:
    async def walk() -> None:
        configure(tmp_path, more="refresh_interval: 100ms\n")
        async with serving(tmp_path) as ask:
            token = bearer()
            assert await ask(token) == UNDECIDED
            Revocations(tmp_path)
            await seconds_until(ask, token, want=ALLOWED)

    asyncio.run(walk())
