# SPDX-License-Identifier: Apache-2.0
"""`x-forwarded-client-cert` as Envoy 1.40 writes it, and a reader of it that is slow and obvious."""

from collections.abc import Mapping

from cryptography import x509

from iap_authz.facts.xfcc import XfccElement
from tests.fakes.certificates import envoy_form, fingerprint_of

Pairs = list[tuple[str, str]]
KEYS = {"by": "By", "hash": "Hash", "cert": "Cert", "chain": "Chain", "subject": "Subject", "uri": "URI", "dns": "DNS"}


def element_of(certificate: x509.Certificate, *, by: str = "", cert: bool = True, dns: bool = False) -> str:
    """What an Envoy writes of its peer; URIs and names of DNS as they are, without quotes, as Envoy does."""
    pairs = [f"By={by}"] if by else []
    pairs.append(f"Hash={fingerprint_of(certificate)}")
    pairs += [f'Cert="{envoy_form(certificate)}"'] if cert else []
    subject = certificate.subject.rfc4514_string()
    pairs.append(f'Subject="{subject}"')
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    pairs += [f"URI={uri}" for uri in uris] or ["URI="]
    pairs += [f"DNS={name}" for name in names.get_values_for_type(x509.DNSName)] if dns else []
    return ";".join(pairs)


def quoted(text: str) -> str:
    """A value in quotes, with what has to be escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def render_elements(elements: list[XfccElement], *, spell: Mapping[str, str] = KEYS) -> str:
    """The header that says `elements`, each of which says something; keys in the spelling of `spell`."""
    return ",".join(
        ";".join(
            [
                *(f"{spell['by']}={quoted(text)}" for text in element.by),
                *([f"{spell['hash']}={element.sha256}"] if element.sha256 else []),
                *([f"{spell['cert']}={quoted(element.certificate)}"] if element.certificate else []),
                *([f"{spell['chain']}={quoted(element.chain)}"] if element.chain else []),
                f"{spell['subject']}={quoted(element.subject)}",
                *([f"{spell['uri']}={quoted(text)}" for text in element.uris] or [f"{spell['uri']}="]),
                *(f"{spell['dns']}={quoted(text)}" for text in element.dns),
            ]
        )
        for element in elements
    )


def read_slowly(header: str) -> list[Pairs] | None:
    """The pairs of each element, one character at a time; None for a header that is not well formed.

    Only the marks are judged: which keys there are, how often and with which values is not.
    """
    elements: list[Pairs] = [[]]
    rest = header
    while True:
        key = ""
        while rest and rest[0] in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
            key, rest = key + rest[0], rest[1:]
        if not key or rest[:1] != "=":
            return None
        taken = _take_value(rest[1:])
        if taken is None:
            return None
        value, rest = taken
        elements[-1].append((key, value))
        if not rest:
            return elements
        mark, rest = rest[0], rest[1:]
        if mark == ",":
            elements.append([])
        elif mark != ";":
            return None


def _take_value(rest: str) -> tuple[str, str] | None:
    """The value at the start, raw, and what comes after it."""
    value = ""
    if rest[:1] != '"':
        while rest and "!" <= rest[0] <= "~" and rest[0] not in ',;="\\':
            value, rest = value + rest[0], rest[1:]
        return value, rest
    rest = rest[1:]
    while rest and " " <= rest[0] <= "~":
        if rest[0] == '"':
            return value, rest[1:]
        size = 2 if rest[0] == "\\" else 1
        if len(rest) < size or not " " <= rest[size - 1] <= "~":
            return None
        value, rest = value + rest[:size], rest[size:]
    return None


def unescape_slowly(raw: str) -> str:
    """A raw value of Subject, as Envoy reads it: a backslash before a quote or another backslash is not part of it."""
    value = ""
    while raw:
        size = 2 if raw[:2] in ('\\"', "\\\\") else 1
        value, raw = value + raw[size - 1], raw[size:]
    return value
