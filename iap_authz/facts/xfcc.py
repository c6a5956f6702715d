# SPDX-License-Identifier: Apache-2.0
r"""`x-forwarded-client-cert` (XFCC): what each TLS proxy on the way says of the certificate it was shown.

The invariant: what passes was written as Envoy writes it. A text that two readers could split in two ways, at a comma,
a semicolon or a quote, does not pass, and nothing is repaired.

    Hash=468e..;Cert="-----BEGIN%20...";Subject="CN=a\"b";URI=spiffe://x/a,By=spiffe://x/b;Hash=9ba6..;URI=spiffe://x/f
    ------------------------------ an element ----------------------------- ----- the next proxy's, after it -----

    header   = element *( "," element )          at most ELEMENTS_MAX, no white space around a mark
    element  = pair *( ";" pair )
    pair     = key "=" ( plain / quoted )        the key in any case
    plain    = printable ASCII but space , ; = " \
    quoted   = DQUOTE *( any printable ASCII but " \ , or a backslash and one character ) DQUOTE

    key      By    Hash      Cert       Chain      Subject      URI         DNS
    times    any   one       one        one        one          any         any
    value    text  64 hex    text       text       any, quoted  text, or    text
                                                                once none

Envoy quotes Cert, Chain and Subject; it writes By, URI and DNS as the certificate has them. So whoever gets a
certificate with a comma or a semicolon in a URI can end the element there and write another one: each reader of such a
header has to know how many elements there must be (`forwarded`). A backslash escapes what follows it, in Subject only.

Specification: Envoy's reference, "HTTP header manipulation", x-forwarded-client-cert; what it leaves open was measured
on Envoy 1.40. Deliberately not here: whether a word of it is true.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from iap_authz.errors import InvalidCredential
from iap_authz.model.reason import Reason

XFCC_HEADER: Final = "x-forwarded-client-cert"
"""In lower case, as all names of headers here."""

XFCC_MAX_CHARS: Final = 64 * 1024
"""Envoy's own bound for all headers of a request is 60 KiB."""

ELEMENTS_MAX: Final = 16
"""More proxies than anybody has in a row."""

_PAIR = re.compile(
    r"""([A-Za-z]+)=(?:"([ !#-\[\]-~]*+(?:\\[ -~][ !#-\[\]-~]*+)*+)"|([!#-+\x2d-:<>-\[\]-~]*+))""",
    re.ASCII,
)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ESCAPE = re.compile(r'\\(["\\])')

_FIELDS: Final[Mapping[str, str]] = {
    "by": "by",
    "hash": "sha256",
    "cert": "certificate",
    "chain": "chain",
    "subject": "subject",
    "uri": "uris",
    "dns": "dns",
}
_MANY: Final = frozenset({"by", "uri", "dns"})
_MAY_BE_EMPTY: Final = frozenset({"subject", "uri"})


@dataclass(frozen=True, slots=True, kw_only=True)
class XfccElement:
    """What one proxy says of its peer. Empty: not said, or said to be empty.

    `certificate` and `chain` are URL-encoded PEM; `subject` is RFC 2253 text, of no further use.
    """

    by: tuple[str, ...] = ()
    sha256: str = ""
    certificate: str = ""
    chain: str = ""
    subject: str = ""
    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()

    @property
    def says_nothing(self) -> bool:
        """Whether it speaks of no certificate at all."""
        return not (self.sha256 or self.certificate or self.chain or self.subject or self.uris or self.dns)


def parse_xfcc(header: str) -> tuple[XfccElement, ...]:
    """The elements, the nearest proxy's last. Raises InvalidCredential(MALFORMED_XFCC) and nothing else."""
    if len(header) > XFCC_MAX_CHARS:
        raise _malformed(f"{len(header)} characters, want at most {XFCC_MAX_CHARS}")
    elements: list[XfccElement] = []
    pairs: list[tuple[str, str]] = []
    place = 0
    while True:
        match = _PAIR.match(header, place)
        if match is None:
            raise _malformed(f"no pair at character {place}, want key=value")
        pairs.append((match[1].lower(), _value(match)))
        place = match.end() + 1
        mark = header[place - 1 : place]
        if mark not in ("", ",", ";"):
            raise _malformed(f"a character that cannot stand at {place - 1}")
        if mark != ";":
            elements.append(_element(pairs))
            pairs.clear()
        if not mark:
            return tuple(elements)
        if len(elements) == ELEMENTS_MAX:
            raise _malformed(f"more than {ELEMENTS_MAX} elements")


def _value(match: re.Match[str]) -> str:
    quoted, plain = match[2], match[3]
    if quoted is None:
        return plain
    if "\\" not in quoted:
        return quoted
    if match[1].lower() != "subject":
        raise _malformed(f"a backslash at {match.start()}, want none outside of Subject")
    return _ESCAPE.sub(r"\1", quoted)


def _element(pairs: Sequence[tuple[str, str]]) -> XfccElement:
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        if key not in _FIELDS:
            raise _malformed("a key that Envoy does not write")
        values.setdefault(key, []).append(value)
    for key, found in values.items():
        if len(found) > 1 and key not in _MANY:
            raise _malformed(f"{len(found)} values of {key}, want one")
        if "" in found and (len(found) > 1 or key not in _MAY_BE_EMPTY):
            raise _malformed(f"an empty value of {key}")
    if "hash" in values and not _HASH.fullmatch(values["hash"][0]):
        raise _malformed("a hash that is not 64 lower-case hex digits")
    return XfccElement(
        **{  # type: ignore[arg-type]
            _FIELDS[key]: tuple(text for text in found if text) if key in _MANY else found[0]
            for key, found in values.items()
        }
    )


def _malformed(what: str) -> InvalidCredential:
    return InvalidCredential(Reason.MALFORMED_XFCC, f"got an {XFCC_HEADER} with {what}")
