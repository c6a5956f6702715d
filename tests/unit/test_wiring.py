# SPDX-License-Identifier: Apache-2.0
"""From a configuration to sources and snapshots: what refuses to start, and what a missing source means."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from iap_authz.adapters.keys.pepper import create_pepper
from iap_authz.config import load_config
from iap_authz.errors import ConfigInvalid, IapError, Invalid, Malformed, PolicyInvalid, SourceUnavailable
from iap_authz.facts.forwarded import Forwarding
from iap_authz.facts.revocation import RevocationList
from iap_authz.facts.xfcc import XFCC_HEADER
from iap_authz.shipping_wiring import load_token
from iap_authz.tlog.note import VerifierKey
from iap_authz.wiring import Slots, build_snapshot, load_slots, make_slots
from tests.fakes.authority import TestAuthority
from tests.fakes.journal import FixedSigner
from tests.fakes.tokens import jwk, rsa_key

CONFIG = """\
kind: Sidecar
listen: unix:authz.sock
log_origin: audit.example.com/demo
journal: {directory: journal}
policies: [policy.yaml]
seal: none
identity:
  issuers:
  - {name: corp, issuer: "https://issuer.example", audiences: [orders], algorithms: [RS256], jwks_file: jwks.json}
device: {inventory_file: devices.json}
location: {networks_file: networks.yaml}
"""
POLICY = "kind: Policy\nname: p\nroutes:\n- {name: r, match: {paths: ['/a']}, durability: journal}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sidecar.yaml").write_text(CONFIG)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk(rsa_key("one"), kid="one")]}))
    (tmp_path / "devices.json").write_text('{"revision": 1, "taken": "2026-01-01T00:00:00Z", "devices": []}')
    (tmp_path / "networks.yaml").write_text('networks: {office: ["192.0.2.0/24"]}\n')
    return tmp_path


def loaded(folder: Path) -> Slots:
    slots = make_slots(load_config(folder / "sidecar.yaml"))
    load_slots(slots, 0.0)
    return slots


def test_everything_is_loaded_into_one_snapshot(folder: Path) -> None:
    snapshot = build_snapshot(load_config(folder / "sidecar.yaml"), loaded(folder))
    assert snapshot.policy.name == "p"
    assert snapshot.issuers[0].keys is not None
    assert snapshot.inventory is not None
    assert not snapshot.location.geography_configured


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("policy.yaml", "kind: Policy\n", PolicyInvalid),
        ("policy.yaml", POLICY.replace("journal", "log"), PolicyInvalid),
        ("jwks.json", "{}", Malformed),
        ("devices.json", "[]", IapError),
        ("networks.yaml", "networks: {office: [10.0.0.1/8]}", IapError),
    ],
)
def test_bad_file_refuses_to_start(folder: Path, name: str, content: str, kind: type[Exception]) -> None:
    (folder / name).write_text(content)
    with pytest.raises(kind):
        loaded(folder)


def test_durability_that_cannot_be_kept_is_named(folder: Path) -> None:
    (folder / "policy.yaml").write_text(POLICY.replace("journal", "log"))
    with pytest.raises(PolicyInvalid, match="got durability log for r and no audit log, want durability journal"):
        loaded(folder)


ASSERTED = POLICY.replace("durability: journal", "on_allow: {assertion: true}")
SECTION = "assertion: {issuer: iap, listen: '127.0.0.1:0'}\n"


@pytest.mark.parametrize(
    ("policy", "section", "message"),
    [
        (ASSERTED, "", "got assertion for r and no section assertion in the configuration, want one"),
        (ASSERTED, SECTION, "got assertion for r without an audience, want one in the route or configured"),
        (ASSERTED.replace("true", "{request_binding: false}"), SECTION, "got assertion for r without an audience"),
        (ASSERTED, SECTION.replace("listen", "audience: orders, listen"), None),
        (ASSERTED.replace("true", "{audience: orders}"), SECTION, None),
        (POLICY, SECTION, None),
    ],
)
def test_an_assertion_that_cannot_be_made_is_no_promise(
    folder: Path, policy: str, section: str, message: str | None
) -> None:
    (folder / "policy.yaml").write_text(policy)
    (folder / "sidecar.yaml").write_text(CONFIG + section)
    if message is None:
        assert loaded(folder).policy.served is not None
        return
    with pytest.raises(PolicyInvalid, match=message):
        loaded(folder)


def test_missing_policy_refuses_to_start(folder: Path) -> None:
    (folder / "policy.yaml").unlink()
    with pytest.raises(SourceUnavailable):
        loaded(folder)


@pytest.mark.parametrize("name", ["jwks.json", "devices.json", "networks.yaml"])
def test_missing_source_is_an_error_of_its_facts(folder: Path, name: str) -> None:
    (folder / name).unlink()
    snapshot = build_snapshot(load_config(folder / "sidecar.yaml"), loaded(folder))
    missing = {
        "jwks.json": snapshot.issuers[0].keys is None,
        "devices.json": snapshot.inventory is None,
        "networks.yaml": snapshot.location.geography_configured and snapshot.geography is None,
    }
    assert missing == {other: other == name for other in missing}


def test_tokens_are_kept_while_the_issuers_are_the_same(folder: Path) -> None:
    config, slots = load_config(folder / "sidecar.yaml"), loaded(folder)
    first = build_snapshot(config, slots)
    assert build_snapshot(config, slots, previous=first).tokens is first.tokens
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk(rsa_key("two"), kid="two")]}))
    assert slots.keys["corp"].refresh(1.0)
    assert build_snapshot(config, slots, previous=first).tokens is not first.tokens


CREDENTIALS = """\
  revocations: {file: revoked.yaml, max_stale: 1m}
  api_keys: {file: keys.json, pepper_file: pepper}
"""


@pytest.fixture
def credentials(folder: Path) -> Path:
    """The folder, with revocations and API keys."""
    (folder / "sidecar.yaml").write_text(CONFIG.replace("device:", f"{CREDENTIALS}device:"))
    (folder / "revoked.yaml").write_text("revision: 7\nrevoked: []\n")
    (folder / "keys.json").write_text('{"revision": 1, "keys": []}')
    create_pepper(folder / "pepper")
    return folder


def test_what_is_not_configured_revokes_nobody_and_takes_no_key(folder: Path) -> None:
    snapshot = build_snapshot(load_config(folder / "sidecar.yaml"), loaded(folder))
    assert snapshot.revocations == RevocationList()
    assert snapshot.api_keys is None


def test_the_header_of_api_keys_is_kept_from_the_upstream(credentials: Path) -> None:
    snapshot = build_snapshot(load_config(credentials / "sidecar.yaml"), loaded(credentials))
    assert "x-api-key" in snapshot.policy.headers_set


@pytest.mark.parametrize("name", ["revoked.yaml", "keys.json"])
def test_missing_credentials_are_errors_and_not_nobody(credentials: Path, name: str) -> None:
    (credentials / name).unlink()
    snapshot = build_snapshot(load_config(credentials / "sidecar.yaml"), loaded(credentials))
    assert (snapshot.revocations is None) is (name == "revoked.yaml")
    assert snapshot.api_keys is not None
    assert (snapshot.api_keys.keys is None) is (name == "keys.json")


@pytest.mark.parametrize(
    ("name", "content"),
    [("revoked.yaml", "revoked: []"), ("keys.json", "{}"), ("pepper", "x"), ("pepper", None)],
)
def test_bad_credentials_refuse_to_start(credentials: Path, name: str, content: str | None) -> None:
    (credentials / name).unlink() if content is None else (credentials / name).write_text(content)
    with pytest.raises(Invalid):
        loaded(credentials)


def test_a_policy_that_reads_the_header_of_api_keys_is_refused(credentials: Path) -> None:
    allow = """allow: [{id: a, when: 'request.headers["x-api-key"] == "s"'}]"""
    (credentials / "policy.yaml").write_text(POLICY.replace("durability: journal", allow))
    with pytest.raises(PolicyInvalid, match="reads x-api-key, which credentials come in"):
        loaded(credentials)


@pytest.mark.parametrize(
    ("condition", "read"),
    [
        ('request.headers["x-iap-id-token"] == "s"', "x-iap-id-token"),
        ('request.query_parameters["t"] == "s"', "t"),
        ('request.headers["referer"] == "s"', "referer"),
    ],
)
def test_a_policy_that_reads_where_tokens_stand_is_refused(credentials: Path, condition: str, read: str) -> None:
    config = (credentials / "sidecar.yaml").read_text()
    loaded(credentials)
    places = "token_sources: [{header: x-iap-id-token}, {query: t}]"
    (credentials / "sidecar.yaml").write_text(config.replace("identity:\n", f"identity:\n  {places}\n"))
    (credentials / "policy.yaml").write_text(
        POLICY.replace("durability: journal", f"allow: [{{id: a, when: '{condition}'}}]")
    )
    with pytest.raises(PolicyInvalid, match=f"reads {read}, which credentials come in"):
        loaded(credentials)


FRONT = "client_certificate: {proxies: ['spiffe://example.org/front'], trusted_hops: 2}\n"


@pytest.fixture
def fronted(folder: Path) -> Path:
    """The folder, with a proxy in front."""
    domains = "  trust_domains: [{name: example.org, bundle_file: bundle.pem}]\ndevice:"
    (folder / "sidecar.yaml").write_text(CONFIG.replace("device:", domains) + FRONT)
    (folder / "bundle.pem").write_bytes(TestAuthority().pem())
    return folder


def test_proxies_in_front_are_those_of_the_configuration_and_their_header_ends_here(fronted: Path) -> None:
    snapshot = build_snapshot(load_config(fronted / "sidecar.yaml"), loaded(fronted))
    assert snapshot.forwarding == Forwarding(proxies=frozenset({"spiffe://example.org/front"}), trusted_hops=2)
    assert XFCC_HEADER in snapshot.policy.headers_set


READS_XFCC = """allow: [{id: a, when: 'request.headers["x-forwarded-client-cert"] != ""'}]"""


def test_a_policy_that_reads_the_header_of_a_proxy_is_refused(fronted: Path) -> None:
    (fronted / "policy.yaml").write_text(POLICY.replace("durability: journal", READS_XFCC))
    with pytest.raises(PolicyInvalid, match="reads x-forwarded-client-cert, which credentials come in"):
        loaded(fronted)


def test_without_proxies_in_front_their_header_is_one_like_any_other(folder: Path) -> None:
    (folder / "policy.yaml").write_text(POLICY.replace("durability: journal", READS_XFCC))
    snapshot = build_snapshot(load_config(folder / "sidecar.yaml"), loaded(folder))
    assert snapshot.forwarding is None
    assert XFCC_HEADER not in snapshot.policy.headers_set


def test_an_assertion_is_not_bound_to_a_target_with_a_token_in_it(credentials: Path) -> None:
    config = (credentials / "sidecar.yaml").read_text()
    asserting = "assertion: {issuer: iap, audience: a, listen: 'unix:keys.sock'}\n"
    (credentials / "sidecar.yaml").write_text(
        config.replace("identity:\n", "identity:\n  token_sources: [{query: t}]\n") + asserting
    )
    for binding, is_taken in (("true", False), ("{request_binding: true}", False), ("{request_binding: false}", True)):
        on_allow = f"allow: [{{id: a, when: 'true'}}], on_allow: {{assertion: {binding}}}"
        (credentials / "policy.yaml").write_text(POLICY.replace("durability: journal", on_allow))
        if is_taken:
            loaded(credentials)
            continue
        with pytest.raises(PolicyInvalid, match=r"want request_binding: false, or no token_sources with query: t"):
            loaded(credentials)


def test_tokens_are_kept_over_revocations_and_dropped_with_api_keys(credentials: Path) -> None:
    config, slots = load_config(credentials / "sidecar.yaml"), loaded(credentials)
    revocations, api_keys = slots.credentials.revocations, slots.credentials.api_keys
    assert revocations is not None
    assert api_keys is not None
    first = build_snapshot(config, slots)
    (credentials / "revoked.yaml").write_text('revision: 8\nrevoked: [{issuer: "https://issuer.example", sub: ada}]\n')
    assert revocations.refresh(1.0)
    second = build_snapshot(config, slots, previous=first)
    assert second.tokens is first.tokens
    assert second.revocations is not None
    assert len(second.revocations.entries) == 1
    (credentials / "keys.json").write_text('{"revision": 2, "keys": []}')
    assert api_keys.refresh(1.0)
    assert build_snapshot(config, slots, previous=second).tokens is not first.tokens


@pytest.mark.parametrize("content", ["revision: 6\nrevoked: []\n", "nonsense", None])
def test_a_list_that_is_older_broken_or_gone_leaves_the_last_one_up_to_max_stale(
    credentials: Path, content: str | None
) -> None:
    slots = loaded(credentials)
    revocations = slots.credentials.revocations
    assert revocations is not None
    path = credentials / "revoked.yaml"
    path.unlink() if content is None else path.write_text(content)
    looks = []
    for seconds in (60.0, 60.1, 61.0):
        if seconds > 60.1:
            path.write_text("revision: 7\nrevoked: []\n")
        looks.append((revocations.refresh(seconds), revocations.served and revocations.served.revision))
    assert looks == [(False, 7), (True, None), (True, 7)]


@pytest.mark.parametrize("content", [None, "nonsense", "mysql://u:s3cret@h/d"])
def test_a_database_url_that_cannot_be_used_refuses_to_start(credentials: Path, content: str | None) -> None:
    config = (credentials / "sidecar.yaml").read_text().replace("file: revoked.yaml", "database_url_file: url")
    (credentials / "sidecar.yaml").write_text(config)
    if content is not None:
        (credentials / "url").touch(mode=0o600)
        (credentials / "url").write_text(content)
    with pytest.raises(ConfigInvalid) as caught:
        loaded(credentials)
    assert "s3cret" not in str(caught.value)


def test_a_database_that_is_away_is_an_error_and_not_nobody(credentials: Path) -> None:
    config = (credentials / "sidecar.yaml").read_text().replace("file: revoked.yaml", "database_url_file: url")
    (credentials / "sidecar.yaml").write_text(config)
    (credentials / "url").touch(mode=0o600)
    (credentials / "url").write_text(f"postgresql://u@/d?host={credentials}/no-server")
    slots = loaded(credentials)
    assert build_snapshot(load_config(credentials / "sidecar.yaml"), slots).revocations is None
    slots.credentials.close()


def test_workloads_and_certificates_are_not_issuers_that_nobody_configured(
    credentials: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = (credentials / "sidecar.yaml").read_text()
    domain = "identity:\n  trust_domains: [{name: example.org, bundle_file: bundle.pem}]\n"
    (credentials / "sidecar.yaml").write_text(config.replace("identity:\n", domain))
    (credentials / "revoked.yaml").write_text(
        "revision: 8\nrevoked:\n- {issuer: spiffe://example.org, sub: spiffe://example.org/a}\n"
        '- {issuer: "CN=Example CA", certificate_serial: "0a"}\n'
    )
    loaded(credentials)
    assert [record for record in caplog.records if "not configured here" in record.message] == []


def test_issuers_that_nobody_configured_are_said(credentials: Path, caplog: pytest.LogCaptureFixture) -> None:
    (credentials / "revoked.yaml").write_text("revision: 8\nrevoked: [{issuer: corp, sub: ada}]\n")
    loaded(credentials)
    (record,) = [record for record in caplog.records if "not configured here" in record.message]
    assert record.__dict__["issuers"] == ["corp"]


def test_revocations_and_keys_wait_for_no_other_source(credentials: Path) -> None:
    *firsts, others = loaded(credentials).apart()
    assert [[slot.name for slot in first] for first in firsts] == [["revocations"], ["api-keys"]]
    assert [slot.name for slot in others][-1] == "policy"


def test_with_a_log_a_policy_may_ask_for_it(folder: Path) -> None:
    key = VerifierKey(name="audit.example.com/demo", public_key=FixedSigner("log").public_key).render()
    log = f"log: {{address: 'unix:log.sock', verifier_key: {key}, enrolment_token_file: token}}\n"
    (folder / "sidecar.yaml").write_text(CONFIG + log)
    (folder / "policy.yaml").write_text(POLICY.replace("journal", "log"))
    assert build_snapshot(load_config(folder / "sidecar.yaml"), loaded(folder)).policy.name == "p"


def test_token_is_read_without_white_space(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  let-me-in\n")
    assert load_token(tmp_path / "token") == "let-me-in"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"x" * 1_025])
def test_token_that_is_none_refuses_to_start_and_is_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigInvalid, match="got no enrolment token") as caught:
        load_token(tmp_path / "token")
    assert "lines" not in str(caught.value)


def test_missing_token_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_token(tmp_path / "token")


def test_a_sidecar_without_fetching_assertions_and_a_database_loads_no_library_for_them() -> None:
    """They take as long to import as a fifth of all the rest."""
    unwanted = {"httpx", "starlette", "uvicorn", "sqlalchemy", "psycopg"}
    script = f"import sys, iap_authz.wiring; sys.exit(bool({unwanted} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
