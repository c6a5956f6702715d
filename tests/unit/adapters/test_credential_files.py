# SPDX-License-Identifier: Apache-2.0
"""The files of revocations and of API keys, and the pepper: taken whole or not at all, and never quoted where a secret
may stand.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iap_authz.adapters.facts import api_keys as api_keys_module
from iap_authz.adapters.facts import revocations as revocations_module
from iap_authz.adapters.facts.api_keys import parse_api_keys
from iap_authz.adapters.facts.revocations import parse_revocations
from iap_authz.adapters.keys.pepper import create_pepper, load_pepper
from iap_authz.errors import ConfigInvalid, Invalid
from iap_authz.facts.revocation import Kind, Revocation
from tests.fakes.api_keys import KEY, KEY_ID, PEPPER, api_key, hash_of

ISS = "https://login.example.com/"
AUTHORITY = "CN=Example CA"
NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
REVOCATIONS = f"""\
revision: 7
revoked:
- {{issuer: "{ISS}", sub: ada, before: 2026-01-31T09:00:00Z}}
- {{issuer: "{ISS}", sid: s-1, until: "2026-01-31T09:00:00Z"}}
- {{issuer: "{ISS}", jti: "17"}}
- {{issuer: "{ISS}", kid: one}}
- {{api_key: "{KEY_ID}"}}
- {{certificate_sha256: "{"ab" * 32}"}}
- {{issuer: "CN=Example CA", certificate_serial: "0a1b", until: 2026-01-31T09:00:00Z}}
"""
WANT = (
    Revocation(kind=Kind.SUBJECT, issuer=ISS, value="ada", before=NINE),
    Revocation(kind=Kind.SESSION, issuer=ISS, value="s-1", until=NINE),
    Revocation(kind=Kind.TOKEN_ID, issuer=ISS, value="17"),
    Revocation(kind=Kind.SIGNING_KEY, issuer=ISS, value="one"),
    Revocation(kind=Kind.API_KEY, value=KEY_ID),
    Revocation(kind=Kind.CERTIFICATE, value="ab" * 32),
    Revocation(kind=Kind.SERIAL, issuer=AUTHORITY, value="0a1b", until=NINE),
)
ENTRY = {
    "id": KEY_ID,
    "name": "nightly",
    "hmac_sha256": hash_of(KEY).hex(),
    "subject": "nightly-export",
    "scopes": ["orders:read"],
    "groups": ["batch"],
    "created": "2026-02-28T12:00:00Z",
    "expires": "2026-03-30T12:00:00Z",
}


def revoked(*entries: object, revision: object = 1) -> bytes:
    return json.dumps({"revision": revision, "revoked": entries}).encode()


def faults(content: bytes) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_revocations(content, "r.json")
    return [str(fault).partition(": ")[2] for fault in caught.value.faults]


# ---- revocations


def test_both_spellings_say_the_same() -> None:
    in_yaml = parse_revocations(REVOCATIONS.encode(), "r.yaml", name="revocations")
    assert (in_yaml.revision, in_yaml.entries) == (7, WANT)
    entries = [
        {"issuer": ISS, "sub": "ada", "before": "2026-01-31T10:00:00+01:00"},
        {"issuer": ISS, "sid": "s-1", "until": "2026-01-31T09:00:00Z"},
        {"issuer": ISS, "jti": "17", "until": None},
        {"issuer": ISS, "kid": "one"},
        {"api_key": KEY_ID},
        {"certificate_sha256": "ab" * 32},
        {"issuer": AUTHORITY, "certificate_serial": "0a1b", "until": "2026-01-31T09:00:00Z"},
    ]
    assert parse_revocations(revoked(*entries, revision=7), "r.json", name="revocations") == in_yaml


def test_an_empty_list_revokes_nobody() -> None:
    assert parse_revocations(b"revision: 0\nrevoked: []\n", "r.yaml").entries == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"revision: 1\n", b"revoked: []\n", b"[]", b"revision: 1\nrevoked:\n"])
def test_a_list_says_that_it_is_empty_and_which_it_is(content: bytes) -> None:
    with pytest.raises(Invalid):
        parse_revocations(content, "r.yaml")


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({}, f"revoked[0]: got 0 of {', '.join(Kind)}, want exactly one"),
        ({"issuer": ISS}, f"revoked[0]: got 0 of {', '.join(Kind)}, want exactly one"),
        ({"issuer": ISS, "sub": "a", "sid": "b"}, "revoked[0]: got 2 of sub, sid"),
        ({"sub": "a"}, "revoked[0]: got a sub without an issuer, want the iss of its tokens"),
        ({"issuer": ISS, "api_key": KEY_ID}, "revoked[0]: got the issuer 'https://login.example.com/' of an API key"),
        (
            {"issuer": ISS, "kid": "k", "before": "2026-01-31T09:00:00Z"},
            "revoked[0]: got before for a kid, want it for",
        ),
        (
            {"issuer": ISS, "jti": "k", "before": "2026-01-31T09:00:00Z"},
            "revoked[0]: got before for a jti, want it for",
        ),
        ({"issuer": ISS, "sub": ""}, "revoked[0].sub: got 0 characters"),
        ({"issuer": ISS, "sub": 7}, "revoked[0].sub: got 7, want text (quote it)"),
        ({"issuer": ISS, "sub": ["ada"]}, "revoked[0].sub: got ['ada'], want text"),
        ({"issuer": ISS, "sub": "a\0b"}, "revoked[0].sub: got 'a\\x00b', want text without NUL"),
        ({"issuer": ISS, "jti": "a" * 4097}, "revoked[0].jti: got 4097 characters, want 1 to 4096"),
        ({"issuer": ISS, "sub": "a", "until": "tomorrow"}, "revoked[0].until: got 'tomorrow', want a time with a zone"),
        ({"issuer": ISS, "sub": "a", "untill": NINE.isoformat()}, "revoked[0].untill: unknown key"),
        ({"api_key": KEY}, "revoked[0].api_key: got another form, want the 16 lowercase hex digits after iap_"),
        ({"api_key": KEY_ID.upper()}, "revoked[0].api_key: got another form"),
        ("ada", "revoked[0]: got 'ada', want a mapping"),
        ({"certificate_serial": "0a"}, "revoked[0]: got a serial number without an issuer, want the authority's name"),
        ({"issuer": AUTHORITY, "certificate_sha256": "ab" * 32}, "revoked[0]: got the issuer 'CN=Example CA' of a"),
        ({"issuer": "Example CA", "certificate_serial": "0a"}, "revoked[0]: got 'Example CA', want a name such as CN="),
        ({"issuer": AUTHORITY, "certificate_serial": "0A"}, "revoked[0].certificate_serial: got '0A', want lowercase"),
        ({"issuer": AUTHORITY, "certificate_serial": "a"}, "revoked[0].certificate_serial: got 'a', want"),
        ({"issuer": AUTHORITY, "certificate_serial": "000a"}, "revoked[0].certificate_serial: got '000a', want"),
        ({"issuer": AUTHORITY, "certificate_serial": "0a:1b"}, "revoked[0].certificate_serial: got '0a:1b', want"),
        ({"issuer": AUTHORITY, "certificate_serial": "ab" * 65}, "revoked[0].certificate_serial: got 'ab"),
        (
            {"issuer": AUTHORITY, "certificate_serial": 17},
            "revoked[0].certificate_serial: got 17, want text (quote it)",
        ),
        ({"certificate_sha256": "AB" * 32}, "revoked[0].certificate_sha256: got 'ABAB"),
        ({"certificate_sha256": "ab" * 31}, "revoked[0].certificate_sha256: got 'abab"),
        (
            {"certificate_sha256": "ab" * 32, "before": "2026-01-31T09:00:00Z"},
            "revoked[0]: got before for a certificate_sha256, want it for sid and sub only",
        ),
    ],
    ids=str,
)
def test_an_entry_that_could_mean_something_else_is_refused(entry: object, fault: str) -> None:
    (found,) = faults(revoked(entry))
    assert found.startswith(fault)
    assert KEY[-64:] not in found


def test_all_faults_at_once_and_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(faults(revoked({}, {"sub": "a"}, revision=-1))) == 3
    assert faults(b'{"revision": 1, "revoked": [], "revoked": []}') == ["revoked: got this name twice"]
    monkeypatch.setattr(revocations_module, "ENTRIES_MAX", 2)
    assert faults(revoked(*[{"api_key": KEY_ID}] * 3)) == ["revoked: got 3 entries, want at most 2"]


# ---- API keys


def keys_file(*entries: object, **top: object) -> bytes:
    return json.dumps({"keys": entries, **top}).encode()


def test_a_whole_key() -> None:
    parsed = parse_api_keys(keys_file(ENTRY, revision=3), "k.json", pepper=PEPPER)
    assert (parsed.revision, parsed.keys) == (3, (api_key(),))
    without = {name: value for name, value in ENTRY.items() if name not in ("scopes", "groups")}
    (key,) = parse_api_keys(keys_file(without), "k.json", pepper=PEPPER).keys
    assert (key.scopes, key.groups) == (None, None)
    in_yaml = f"revision: 3\nkeys:\n- {json.dumps(ENTRY)}\n".encode()
    assert parse_api_keys(in_yaml, "k.yaml", pepper=PEPPER) == parsed


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        *(({name: None}, f"keys[0].{name}: missing") for name in ENTRY if name not in ("scopes", "groups")),
        ({"id": KEY}, "keys[0].id: got another form"),
        (
            {"id": 1234567890123456},
            "keys[0].id: got another form, want the 16 lowercase hex digits after iap_, in quotes",
        ),
        ({"hmac_sha256": KEY}, "keys[0].hmac_sha256: got another form"),
        ({"hmac_sha256": "AB" * 32}, "keys[0].hmac_sha256: got another form"),
        ({"name": "a:b"}, "keys[0].name: got 'a:b', want letters"),
        ({"subject": "a\nb"}, "keys[0].subject: got a control character"),
        ({"scopes": ["a b"]}, "keys[0].scopes: got a scope with a space"),
        ({"scopes": "a"}, "keys[0].scopes: got 'a', want a list"),
        ({"expires": ENTRY["created"]}, "keys[0].expires: got a time that is not after created"),
        ({"expires": "2026-03-30"}, "keys[0].expires: got '2026-03-30', want a time with a zone"),
        ({"key": KEY}, "keys[0].key: unknown key"),
    ],
    ids=str,
)
def test_a_key_that_is_not_whole_is_refused_and_not_quoted(change: dict[str, object], fault: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_api_keys(keys_file({**ENTRY, **change}), "k.json", pepper=PEPPER)
    assert str(caught.value).startswith(f"k.json: {fault}")
    assert KEY[-64:] not in str(caught.value)


def test_one_id_is_one_key_and_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match=r"keys\[1\].id: got the id of keys\[0\]"):
        parse_api_keys(keys_file(ENTRY, ENTRY), "k.json", pepper=PEPPER)
    monkeypatch.setattr(api_keys_module, "KEYS_MAX", 1)
    with pytest.raises(Invalid, match="got 2 keys, want at most 1"):
        parse_api_keys(keys_file(ENTRY, ENTRY), "k.json", pepper=PEPPER)


# ---- the pepper


def test_a_pepper_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    create_pepper(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(load_pepper(path)) == 32
    with pytest.raises(ConfigInvalid, match="there already"):
        create_pepper(path)
    path.chmod(0o640)
    with pytest.raises(ConfigInvalid, match="chmod 600"):
        load_pepper(path)


@pytest.mark.parametrize(
    "content", [b"", b"iap-pepper+", b"iap-pepper+c2VjcmV0", b"iap-index+" + b"A" * 43 + b"=", b"\xff"]
)
def test_what_is_no_pepper_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigInvalid, match="is no pepper") as caught:
        load_pepper(path)
    assert "c2Vj" not in str(caught.value)
