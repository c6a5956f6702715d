# SPDX-License-Identifier: Apache-2.0
"""API keys of machines: one header, one spelling, and a keyed hash of which nothing can be guessed.

    iap_<16 lower-case hex digits: the id>_<64 lower-case hex digits: 256 random bits>      85 characters, ASCII

The invariant: `verify_api_key` returns a key only for its whole text, exactly, while it has not expired. The file holds
HMAC-SHA256(pepper, label || text): whoever reads it and not the pepper cannot even try candidates, and the hash of one
key is not that of another, id included. The id is no secret: it is what a key is found and revoked by.

A key comes in one header of its own, and it is the only credential of its request: an `authorization` header of any
scheme beside it is ambiguous, because somebody behind us may believe the other one. So is a second value; a comma is
one, since Envoy joins two headers with it.

Whether a key was wrong or has expired is told only to who has shown its secret. Deliberately not here: keys in the
query, in cookies or in `authorization`; counting the use of a key.
"""

import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from iap_authz.errors import Invalid, InvalidCredential, SourceUnavailable
from iap_authz.facts.revision import check_revision
from iap_authz.model.reason import Reason

ID_HEX_DIGITS: Final = 16
"""64 random bits: ids are drawn on different machines and must not meet."""

SECRET_HEX_DIGITS: Final = 64
"""256 random bits: nobody guesses one."""

PEPPER_BYTES: Final = 32
"""As long as the hash whose key it is: HMAC-SHA256 (RFC 2104 section 3)."""

FUTURE_SKEW: Final = timedelta(seconds=60)
"""How far the clock of the machine that made a key may be ahead of ours."""

_LABEL: Final = b"iap-authz/api-key/v1\x00"
_API_KEY = re.compile(rf"iap_([0-9a-f]{{{ID_HEX_DIGITS}}})_[0-9a-f]{{{SECRET_HEX_DIGITS}}}", re.ASCII)
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of one key. `scopes` and `groups`: None is not known, () is known to have none."""

    id: str
    name: str
    hmac_sha256: bytes = field(repr=False)
    subject: str
    scopes: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    created: datetime
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys:
    """All keys that are given out. Raises Invalid where two have one id."""

    name: str = "api-keys"
    revision: int | None
    keys: tuple[ApiKey, ...] = field(repr=False)
    pepper: bytes = field(repr=False)
    _by_id: dict[str, ApiKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the index."""
        if len(self.pepper) != PEPPER_BYTES:
            raise ValueError(f"got a pepper of {len(self.pepper)} bytes, want {PEPPER_BYTES}")
        by_id = {key.id: key for key in self.keys}
        if len(by_id) != len(self.keys):
            raise Invalid.of_file(self.name, "got one id on two API keys, want one")
        object.__setattr__(self, "_by_id", by_id)

    def find(self, key_id: str) -> ApiKey | None:
        """The key with this id."""
        return self._by_id.get(key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyAccess:
    """That API keys are taken: in which header (lower case), and which. `keys` None: the file cannot be used."""

    header: str
    keys: ApiKeys | None


def check_succession(keys: ApiKeys, previous: ApiKeys | None) -> None:
    """Raise Invalid if this file is older than the one in use: one put back would revive keys that were taken out.

    A revision, once there, must stay and must not go down. Without one a file cannot be told from an older one.
    """
    if previous is not None:
        check_revision(keys.name, keys.revision, previous.revision)


def verify_api_key(text: str, keys: ApiKeys | None, *, now: datetime) -> ApiKey:
    """The key whose text this is, good at `now`. Raises InvalidCredential, or SourceUnavailable without keys."""
    match = _API_KEY.fullmatch(text)
    if match is None:
        raise InvalidCredential(Reason.BAD_API_KEY, "got a key that is not iap_<id>_<secret>")
    if keys is None:
        raise SourceUnavailable("got no API keys, want them before one is judged")
    key = keys.find(match[1])
    # An id that nobody has costs the same as a wrong secret.
    is_same = hmac.compare_digest(hash_api_key(text, keys.pepper), key.hmac_sha256 if key is not None else _NO_HASH)
    if key is None or not is_same:
        raise InvalidCredential(Reason.BAD_API_KEY, "got a key that nobody was given")
    if now >= key.expires:
        raise InvalidCredential(Reason.EXPIRED, "the API key has expired")
    if key.created > now + FUTURE_SKEW:
        raise InvalidCredential(Reason.NOT_YET_VALID, "the API key is made in the future")
    return key


def hash_api_key(text: str, pepper: bytes) -> bytes:
    """What the file holds of a key with this text."""
    return hmac.digest(pepper, _LABEL + text.encode("ascii"), sha256)


def render_api_key(key_id: str, secret: bytes) -> str:
    """The text of a key, to be shown once."""
    text = f"iap_{key_id}_{secret.hex()}"
    if not _API_KEY.fullmatch(text):
        raise ValueError("got an id or a secret of another form")
    return text
