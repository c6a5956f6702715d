# SPDX-License-Identifier: Apache-2.0
"""`identity.token_sources`: which places can be named, and what is said of those that cannot."""

import pytest

from iap_authz.config import parse_config
from iap_authz.config_identity import KubernetesConfig
from iap_authz.facts.credential import DEFAULT_SOURCES
from iap_authz.facts.issuer import Cluster
from iap_authz.identity_wiring import make_issuer
from tests.unit.test_config import FILE, GOOD, faults


def with_sources(sources: str) -> str:
    return f"{GOOD}  token_sources: {sources}\n"


def test_without_the_list_authorization_is_read() -> None:
    assert parse_config(GOOD.encode(), FILE).token_sources == DEFAULT_SOURCES


def test_each_place() -> None:
    sources = (
        "[{header: authorization}, {header: x-iap-id-token}, {header: x-token}, {cookie: __Host-a.b}, {query: t-1}]"
    )
    found = parse_config(with_sources(sources).encode(), FILE).token_sources
    assert [source.label for source in found] == [
        *("header:authorization", "header:x-iap-id-token", "header:x-token", "cookie:__Host-a.b", "query:t-1"),
    ]


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ("[]", "identity.token_sources: got an empty list, want at least one place"),
        ("[{}]", "identity.token_sources[0]: got 0 of header, cookie, query, want exactly one"),
        ("[{header: authorization, query: a}]", "got 2 of header, cookie, query, want exactly one"),
        (
            "[{header: Authorization}]",
            "identity.token_sources[0].header: got 'Authorization', want authorization, x-iap",
        ),
        ("[{header: cookie}]", "identity.token_sources[0].header: got 'cookie', want authorization"),
        ("[{header: x-iap-other}]", "got 'x-iap-other'"),
        ("[{header: x-forwarded-access-token}]", "got 'x-forwarded-access-token'"),
        ("[{header: x-real-ip}]", "got 'x-real-ip'"),
        ("[{cookie: 'a b'}]", "identity.token_sources[0].cookie: got 'a b', want 1 to 64 letters"),
        ("[{query: 'a[b]'}]", "identity.token_sources[0].query: got 'a[b]', want 1 to 64 letters"),
        ("[{query: a}, {query: a}]", "identity.token_sources: got query:a twice"),
        ("[{form: a}]", "identity.token_sources[0].form: unknown key"),
    ],
)
def test_faults(sources: str, fault: str) -> None:
    assert any(fault in found for found in faults(with_sources(sources))), faults(with_sources(sources))


def with_issuer(more: str) -> str:
    return GOOD.replace("jwks_file: jwks.json}", f"{more}}}")


def test_an_issuer_may_be_a_cluster() -> None:
    more = "fetch: {token_file: t}, kubernetes: {}, email_domains: [corp.example, xn--crp-0na.example]"
    (issuer,) = parse_config(with_issuer(more).encode(), FILE).issuers
    assert (issuer.kubernetes, issuer.email_domains) == (
        KubernetesConfig(bound_to="pod"),
        ("corp.example", "xn--crp-0na.example"),
    )
    assert issuer.fetch is not None
    assert issuer.fetch.token_file == FILE.parent / "t"
    assert make_issuer(issuer, None).cluster == Cluster(want_pod=True)
    (other,) = parse_config(with_issuer("jwks_file: j, kubernetes: {bound_to: any}").encode(), FILE).issuers
    assert make_issuer(other, None).cluster == Cluster(want_pod=False)
    (people,) = parse_config(GOOD.encode(), FILE).issuers
    assert (make_issuer(people, None).cluster, people.email_domains) == (None, ())


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("kubernetes: {bound_to: node}", "kubernetes.bound_to: got 'node', want one of pod, any"),
        ("email_domains: [Corp.example]", "email_domains: got 'Corp.example', want a domain in lower-case ASCII"),
        ("email_domains: ['@corp.example']", "got '@corp.example'"),
        ("email_domains: ['']", "got ''"),
        ("kubernetes: {}, groups_claim: groups", "groups_claim: got one for a cluster, want none"),
        ("email_domains: ['c\u00f6rp.example']", "want a domain in lower-case ASCII"),
    ],
)
def test_faults_of_issuers(more: str, fault: str) -> None:
    assert any(fault in found for found in faults(with_issuer(f"jwks_file: j, {more}")))


def test_the_header_of_api_keys_is_not_that_of_tokens() -> None:
    text = with_sources("[{header: x-api-key}]") + "  api_keys: {file: k, pepper_file: p}\n"
    assert any("got 'x-api-key', which API keys come in" in fault for fault in faults(text))


@pytest.mark.parametrize(
    "line",
    [
        *("  revocations:", "  api_keys: ~", "  token_sources: null", "  trust_domains:", "device:", "assertion:"),
        *("client_certificate:", "location:", "log:", "instance:"),
    ],
)
def test_a_key_with_nothing_after_it_is_not_a_key_left_out(line: str) -> None:
    """Whoever has commented the lines below it out does not see that nobody is revoked any more."""
    key = line.strip().partition(":")[0]
    assert any(f"{key}: got nothing, want a value" in fault for fault in faults(f"{GOOD}{line}\n"))


@pytest.mark.parametrize("more", ["kubernetes: ", "max_age: ~", "email_domains: "])
def test_nor_is_one_of_an_issuer(more: str) -> None:
    key = more.partition(":")[0]
    assert any(f"{key}: got nothing" in fault for fault in faults(with_issuer(f"jwks_file: j, {more}")))


def test_a_list_of_words_is_told_what_it_wants() -> None:
    (fault,) = faults(with_sources("[authorization]"))
    assert "identity.token_sources[0]: got 'authorization', want a mapping" in fault
