# SPDX-License-Identifier: Apache-2.0
"""The configuration file: every fault is named with its place, all at once."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from iap_authz.config import load_config, parse_config
from iap_authz.errors import ConfigInvalid
from iap_authz.tlog.note import VerifierKey
from tests.fakes.journal import FixedSigner
from tests.fakes.sealed import VAULT
from tests.fakes.shipping import Witness

FILE = Path("/etc/iap/sidecar.yaml")
GOOD = """\
kind: Sidecar
listen: unix:authz.sock
log_origin: audit.example.com/demo
journal: {directory: journal}
policies: [policy.yaml]
seal: none
identity:
  issuers:
  - {name: corp, issuer: "https://login.example.com/", audiences: [orders], algorithms: [ES256], jwks_file: jwks.json}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text.encode(), FILE)
    return [str(fault) for fault in caught.value.faults]


def test_defaults_and_relative_paths() -> None:
    config = parse_config(GOOD.encode(), FILE)
    assert config.listen == "unix:/etc/iap/authz.sock"
    assert config.journal.directory == Path("/etc/iap/journal")
    assert config.journal.bound_bytes == 1024**3
    assert config.deadline == timedelta(milliseconds=150)
    assert config.issuers[0].skew == timedelta(seconds=30)
    assert config.issuers[0].groups_claim == ("groups",)
    assert config.issuers[0].max_age is None
    assert config.device is None
    assert config.location.client_address == "envoy"


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("kind: Sidecar", "kind: Sidecart", "1:7: kind: got 'Sidecart', want one of Sidecar (did you mean Sidecar?)"),
        (
            "unix:authz.sock",
            "0.0.0.0:9001",
            "2:9: listen: got '0.0.0.0:9001', want unix:PATH or a loopback ADDRESS:PORT",
        ),
        (
            "unix:authz.sock",
            "127.0.0.1:٩",
            "2:9: listen: got '127.0.0.1:\\u0669', want unix:PATH or a loopback ADDRESS:PORT",
        ),
        ("audit.example.com/demo", "a b", "3:13: log_origin: got 'a b', want a name without spaces and plus signs"),
        ("audit.example.com/demo", "a+b", "3:13: log_origin: got 'a+b', want a name without spaces and plus signs"),
        ("[policy.yaml]", "[]", "5:11: policies: got an empty list, want at least one file"),
        (
            "[ES256]",
            "[HS256]",
            "9:89: identity.issuers[0].algorithms: got 'HS256', want some of RS256, RS384, RS512, ES256, ES384",
        ),
        (
            "[ES256]",
            "[ES256, RS256]",
            "9:89: identity.issuers[0].algorithms: got 2 key families, want algorithms of exactly one (RS... or ES...)",
        ),
        ("[orders]", "[]", "9:67: identity.issuers[0].audiences: got an empty list, want at least one audience"),
        (
            "jwks.json}",
            "jwks.json, skew: 6m}",
            "9:126: identity.issuers[0].skew: got '6m', want a duration from 0ms to 5m",
        ),
        (
            "jwks.json}",
            "jwks.json, claims: [email]}",
            "9:128: identity.issuers[0].claims: got email or an empty name, want other claims (a verified",
        ),
        (
            "{directory: journal}",
            "{directory: journal, bound: 1}",
            "4:38: journal.bound: got '1', want a size from 1048576",
        ),
        (
            "jwks.json}",
            "jwks.json, max_stale: 1s}\nrefresh_interval: 2s",
            "10:19: refresh_interval: got more than max_stale of issuer 'corp', want at most that",
        ),
        ("kind: Sidecar", "kind: Sidecar\ndeadlin: 1s", "2:10: deadlin: unknown key, want one of"),
    ],
)
def test_fault_names_its_place(before: str, after: str, fault: str) -> None:
    assert before in GOOD
    assert faults(GOOD.replace(before, after))[0].startswith(f"{FILE}:{fault}")


def test_all_faults_at_once() -> None:
    found = faults(GOOD.replace("kind: Sidecar", "kind: x").replace("[orders]", "[]").replace("unix:authz.sock", "x"))
    assert len(found) == 3


def test_two_issuers_with_one_name_or_iss() -> None:
    line = GOOD.splitlines()[-1]
    assert [fault.partition("issuers: ")[2] for fault in faults(GOOD + line + "\n")] == [
        "got name 'corp' twice",
        "got issuer 'https://login.example.com/' twice",
    ]


CREDENTIALS = """\
  revocations: {file: revoked.yaml}
  api_keys: {file: keys.yaml, pepper_file: pepper}
"""


def test_revocations_and_api_keys() -> None:
    config = parse_config((GOOD + CREDENTIALS).encode(), FILE)
    assert config.revocations is not None
    assert config.revocations.file == Path("/etc/iap/revoked.yaml")
    assert config.revocations.database_url_file is None
    assert config.revocations.max_stale == timedelta(hours=1)
    text = (GOOD + CREDENTIALS).replace("file: revoked.yaml", "database_url_file: revocations.url")
    in_database = parse_config(text.encode(), FILE).revocations
    assert in_database is not None
    assert (in_database.file, in_database.database_url_file) == (None, Path("/etc/iap/revocations.url"))
    assert config.api_keys is not None
    assert config.api_keys.file == Path("/etc/iap/keys.yaml")
    assert config.api_keys.pepper_file == Path("/etc/iap/pepper")
    assert config.api_keys.header == "x-api-key"
    bare = parse_config(GOOD.encode(), FILE)
    assert (bare.revocations, bare.api_keys) == (None, None)


def test_api_keys_are_enough_and_revocations_alone_are_not() -> None:
    alone = GOOD.partition("identity:")[0]
    keys = parse_config(f"{alone}identity: {{api_keys: {{file: k, pepper_file: p}}}}\n".encode(), FILE)
    assert (keys.issuers, keys.api_keys is not None) == ((), True)
    (fault,) = faults(f"{alone}identity: {{revocations: {{file: r}}}}\n")
    assert "identity.issuers: missing" in fault


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (
            "{file: revoked.yaml}",
            "{}",
            "identity.revocations.file: got neither of file and database_url_file, want one",
        ),
        (
            "{file: revoked.yaml}",
            "{file: r, database_url_file: u}",
            "identity.revocations.file: got both of file and database_url_file, want one",
        ),
        (
            "{file: revoked.yaml}",
            "{file: r, max_stale: 8d}",
            "identity.revocations.max_stale: got '8d', want a duration",
        ),
        ("{file: revoked.yaml}", "{file: r, maxstale: 8d}", "identity.revocations.maxstale: unknown key"),
        ("{file: revoked.yaml}", "{file: r, max_stale: 1ms}", "refresh_interval: got more than max_stale of the revoc"),
        (", pepper_file: pepper", "", "identity.api_keys.pepper_file: missing"),
        ("file: keys.yaml, ", "", "identity.api_keys.file: missing"),
        *(
            ("pepper_file: pepper", f"pepper_file: p, header: '{name}'", "identity.api_keys.header: got ")
            for name in (
                *("authorization", "cookie", "api-key", "X-Api-Key", "x-api_key", "x-", "x-a b", "x-request-id"),
                *("x-iap-key", "x-envoy-key", "x-forwarded-for", "x-real-ip", "x-original-url", "x-a\u00e9", ":path"),
            )
        ),
    ],
)
def test_faults_of_revocations_and_api_keys(before: str, after: str, fault: str) -> None:
    assert before in CREDENTIALS
    found = faults(GOOD + CREDENTIALS.replace(before, after))
    assert any(f": {fault}" in one for one in found), found


def test_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read: No such file or directory"):
        load_config(tmp_path / "none.yaml")


ORIGIN = "audit.example.com/demo"
KEY = VerifierKey(name=ORIGIN, public_key=FixedSigner("log").public_key).render()
WITNESS = Witness("w.example/one").key.render()
LOG = f"""\
log:
  address: unix:log.sock
  verifier_key: {KEY}
  enrolment_token_file: token
  witnesses: ["{WITNESS}"]
  quorum: 1
"""


def test_log_section() -> None:
    log = parse_config((GOOD + LOG).encode(), FILE).log
    assert log is not None
    assert log.address == "unix:/etc/iap/log.sock"
    assert log.verifier_key.render() == KEY
    assert log.enrolment_token_file == Path("/etc/iap/token")
    assert (log.on_log_fault, log.cosign_deadline) == ("continue", timedelta(seconds=60))
    assert ([witness.render() for witness in log.witnesses], log.quorum) == ([WITNESS], 1)


def test_log_section_is_optional_and_so_are_its_witnesses() -> None:
    assert parse_config(GOOD.encode(), FILE).log is None
    log = parse_config((GOOD + LOG.partition("  witnesses")[0]).encode(), FILE).log
    assert log is not None
    assert (log.witnesses, log.quorum) == ((), 0)


@pytest.mark.parametrize("address", ["log.example.com:9000", "127.0.0.1:1", "[::1]:65535"])
def test_log_address(address: str) -> None:
    log = parse_config((GOOD + LOG.replace("unix:log.sock", f"'{address}'")).encode(), FILE).log
    assert log is not None
    assert log.address == address


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("unix:log.sock", "log.example.com", "log.address: got 'log.example.com', want unix:PATH or HOST:PORT"),
        ("unix:log.sock", "h:70000", "log.address: got 'h:70000', want unix:PATH or HOST:PORT"),
        ("unix:log.sock", "h:0", "log.address: got 'h:0', want unix:PATH or HOST:PORT"),
        ("unix:log.sock", "'dns:///h:1'", "log.address: got 'dns:///h:1', want unix:PATH or HOST:PORT"),
        (f"verifier_key: {KEY}", "verifier_key: nonsense", "log.verifier_key: got "),
        (
            f"verifier_key: {KEY}",
            f"verifier_key: {VerifierKey(name='other.example/log', public_key=FixedSigner('log').public_key).render()}",
            "log.verifier_key: got a key of 'other.example/log', want one of 'audit.example.com/demo', the log_origin",
        ),
        (f"  verifier_key: {KEY}\n", "", "log.verifier_key: missing"),
        ("  enrolment_token_file: token\n", "", "log.enrolment_token_file: missing"),
        ("quorum: 1", "quorum: 2", "log.quorum: got 2, want at most 1: the different witnesses"),
        ("quorum: 1", "quorum: -1", "log.quorum: got '-1', want a whole number from 0"),
        (f'["{WITNESS}"]', f'["{KEY}"]', "log.witnesses: got "),
        ("quorum: 1", "on_log_fault: stop", "log.on_log_fault: got 'stop', want one of continue, refuse"),
        ("quorum: 1", "cosign_deadline: 0s", "log.cosign_deadline: got '0s', want a duration from 1s to 1d"),
        ("quorum: 1", "quorumm: 1", "log.quorumm: unknown key"),
    ],
)
def test_faults_of_the_log_section(before: str, after: str, fault: str) -> None:
    assert before in LOG
    found = faults(GOOD + LOG.replace(before, after))
    assert any(f": {fault}" in one for one in found), found


def test_a_journal_beside_a_log_has_two_segments() -> None:
    (fault,) = faults(GOOD.replace("{directory: journal}", "{directory: journal, bound: 1 MiB}") + LOG)
    assert "journal: got a bound of 1048576 bytes beside a log, want at least 2097152" in fault


VAULT_KEY = VAULT.vault_key().render()
SEAL = f"seal: {{vault_key: {VAULT_KEY}}}"


def test_seal_section() -> None:
    seal = parse_config(GOOD.replace("seal: none", SEAL).encode(), FILE).seal
    assert seal is not None
    assert seal.vault_key.render() == VAULT_KEY
    assert parse_config(GOOD.encode(), FILE).seal is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "1:1: seal: missing, want {vault_key: ...}, which `iap-authz keys show` prints of the file that"),
        ("seal:", "7:1: seal: missing, want {vault_key: ...}"),
        ("seal: null", "6:7: seal: missing, want {vault_key: ...}"),
        ("seal: None", "6:7: seal: got 'None', want {vault_key: ...}"),
        ("seal: off", "6:7: seal: got 'off', want {vault_key: ...}"),
        ("seal: false", "6:7: seal: got 'false', want a mapping"),
        ("seal: [none]", "6:7: seal: got a list, want a mapping"),
        ("seal: {}", "6:7: seal.vault_key: missing"),
        ("seal: {vault_key: none}", "6:19: seal.vault_key: got 'none', want iap-vault+epoch+base64"),
        ("seal: {vault_key: iap-vault+0+" + VAULT_KEY[12:] + "}", "6:19: seal.vault_key: got a vault key of epoch 0"),
        ("seal: {vault_key: iap-vault+1+" + "A" * 43 + "=}", "6:19: seal.vault_key: got iap-vault+1+AAAA"),
        (f"seal: {{vault_key: {VAULT_KEY}, optional: yes}}", "6:87: seal.optional: unknown key"),
    ],
)
def test_nothing_is_written_in_the_open_by_mistake(line: str, fault: str) -> None:
    (found,) = faults(GOOD.replace("seal: none\n", f"{line}\n" if line else ""))
    assert found.startswith(f"{FILE}:{fault}"), found


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("", "got neither of jwks_file and fetch"),
        ("jwks_file: k, fetch: {}", "got both of jwks_file and fetch"),
        ("fetch: {jwks_url: 'http://h/k'}", "want an https URL"),
        ("fetch: {jwks_url: 'https://u@h/k'}", "want an https URL"),
        ("fetch: {interval: 40m}", "got 1h, want at least 80m: twice fetch.interval"),
        ("fetch: {intervall: 5m}", "did you mean interval"),
        ("fetch: {private_addresses: 'yes'}", "true or false"),
    ],
)
def test_there_is_one_way_to_an_issuers_keys_and_it_leads_somewhere(keys: str, message: str) -> None:
    text = (
        "kind: Sidecar\nlisten: unix:s\nlog_origin: x\njournal: {directory: j}\nseal: none\npolicies: [p]\n"
        "identity: {issuers: [{name: a, issuer: 'https://i.example.com', audiences: [c], algorithms: [RS256], "
        f"{keys}}}]}}\n"
    )
    with pytest.raises(ConfigInvalid, match=message):
        parse_config(text.encode(), Path("/x/sidecar.yaml"))


def test_an_issuer_that_is_no_url_has_no_discovery_document() -> None:
    text = (
        "kind: Sidecar\nlisten: unix:s\nlog_origin: x\njournal: {directory: j}\nseal: none\npolicies: [p]\n"
        "identity: {issuers: [{name: a, issuer: corp, audiences: [c], algorithms: [RS256], fetch: {}}]}\n"
    )
    with pytest.raises(ConfigInvalid, match=r"or give fetch\.jwks_url"):
        parse_config(text.encode(), Path("/x/sidecar.yaml"))
    given = text.replace("fetch: {}", "fetch: {jwks_url: 'https://h/k'}")
    (issuer,) = parse_config(given.encode(), Path("/x/sidecar.yaml")).issuers
    assert issuer.fetch is not None
    assert issuer.jwks_file is None


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ("{}", "without any nobody is ever known"),
        ("{trust_domains: [{name: a, bundle_file: f}, {name: a, bundle_file: g}]}", "got name 'a' twice"),
        ("{trust_domains: [{name: Example.org, bundle_file: f}]}", "want a trust domain such as example.org"),
        ("{trust_domains: [{name: 'spiffe://example.org', bundle_file: f}]}", "want a trust domain"),
        ("{trust_domains: [{name: example.org}]}", "bundle_file: missing"),
    ],
)
def test_trust_domains_are_named_once_and_have_authorities(identity: str, message: str) -> None:
    text = (
        "kind: Sidecar\nlisten: unix:s\nlog_origin: x\njournal: {directory: j}\nseal: none\npolicies: [p]\n"
        f"identity: {identity}\n"
    )
    with pytest.raises(ConfigInvalid, match=message):
        parse_config(text.encode(), Path("/x/sidecar.yaml"))


CERTIFICATE = (
    "kind: Sidecar\nlisten: unix:s\nlog_origin: x\njournal: {directory: j}\nseal: none\npolicies: [p]\n"
    "identity: {trust_domains: [{name: example.org, bundle_file: f}]}\nclient_certificate: "
)


def test_proxies_in_front() -> None:
    text = CERTIFICATE + "{proxies: ['spiffe://example.org/front', 'spiffe://example.org/next'], trusted_hops: 2}"
    section = parse_config(text.encode(), Path("/x/sidecar.yaml")).client_certificate
    assert section is not None
    assert (section.proxies, section.trusted_hops) == (("spiffe://example.org/front", "spiffe://example.org/next"), 2)
    text = text.replace(", trusted_hops: 2", "")
    section = parse_config(text.encode(), Path("/x/sidecar.yaml")).client_certificate
    assert section is not None
    assert section.trusted_hops == 1
    without = CERTIFICATE.rpartition("client_certificate:")[0]
    assert parse_config(without.encode(), Path("/x/sidecar.yaml")).client_certificate is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{}", "client_certificate.proxies: missing"),
        ("{proxies: []}", "got an empty list, want at least one proxy"),
        ("{proxies: [front]}", "got 'front', want spiffe://"),
        ("{proxies: ['spiffe://example.org/a/']}", "want spiffe://"),
        ("{proxies: ['spiffe://other.org/a']}", "got 'spiffe://other.org/a', want one of a trust domain of identity"),
        ("{proxies: ['spiffe://example.org/a', 'spiffe://example.org/a']}", "got 'spiffe://example.org/a' twice"),
        ("{proxies: ['spiffe://example.org/a'], trusted_hops: 0}", "from 1 to 10"),
        ("{proxies: ['spiffe://example.org/a'], trusted_hops: 11}", "from 1 to 10"),
        ("{proxies: ['spiffe://example.org/a'], hops: 1}", "client_certificate.hops: unknown key"),
    ],
)
def test_proxies_in_front_are_ids_that_can_be_proven(section: str, message: str) -> None:
    with pytest.raises(ConfigInvalid, match=re.escape(message)):
        parse_config((CERTIFICATE + section).encode(), Path("/x/sidecar.yaml"))


ASSERTION = "assertion: {issuer: iap, audience: orders, listen: 'unix:keys.sock', rotation: 1h}\n"


def test_assertion_section() -> None:
    assertion = parse_config((GOOD + ASSERTION).encode(), FILE).assertion
    assert assertion is not None
    assert (assertion.issuer, assertion.audience, assertion.listen) == ("iap", "orders", "unix:/etc/iap/keys.sock")
    assert assertion.rotation == timedelta(hours=1)


def test_assertion_section_is_optional_and_so_is_its_audience() -> None:
    assert parse_config(GOOD.encode(), FILE).assertion is None
    text = "assertion: {issuer: iap, listen: '127.0.0.1:0'}\n"
    assertion = parse_config((GOOD + text).encode(), FILE).assertion
    assert assertion is not None
    assert (assertion.audience, assertion.rotation) == ("", timedelta(days=1))


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("issuer: iap, ", "", "10:12: assertion.issuer: missing"),
        ("iap", "two words", "10:21: assertion.issuer: got 'two words', want 1 to 255 visible ASCII characters"),
        (
            "iap",
            '"https://login.example.com/"',
            "10:12: assertion: got the issuer of an identity provider, want a name",
        ),
        ("audience: orders", "audience: ", "10:12: assertion.audience: missing"),
        ("audience: orders", f"audience: {'a' * 256}", "10:36: assertion.audience: got "),
        ("unix:keys.sock", "0.0.0.0:9090", "assertion.listen: got '0.0.0.0:9090', want unix:PATH or a loopback"),
        ("unix:keys.sock", "keys.example.com:80", "want unix:PATH or a loopback ADDRESS:PORT"),
        ("1h", "9m", "assertion.rotation: got '9m', want a duration from 10m to 30d"),
        ("1h", "31d", "assertion.rotation: got '31d', want a duration from 10m to 30d"),
        ("rotation", "rotate", "assertion.rotate: unknown key, want one of audience, issuer, listen, rotation"),
    ],
)
def test_faults_of_the_assertion_section(before: str, after: str, fault: str) -> None:
    assert ASSERTION.count(before) == 1
    (found,) = faults(GOOD + ASSERTION.replace(before, after))
    assert fault in found
