# SPDX-License-Identifier: Apache-2.0
"""A vault on a token: private keys that a PKCS #11 library uses and never shows (PROTOCOL rules S3 and S7).

The invariant: all that a key does is X25519 with the public key that a sealed message brings; what it opens, and the
subject key in it, are computed here (`hpke.open_by_exchange`). Nothing that is sent to the token is worth reading.

    private key   CKO_PRIVATE_KEY, X25519 (type EC_MONTGOMERY, or EC_EDWARDS as older libraries have it), CKA_DERIVE
    label         <label of the configuration> "-" <vault epoch>       vault-1, vault-2, ... as tools list them
    id            <vault epoch> "+" <day it was made, YYYY-MM-DD>      optional; another id leaves the age unknown
    public key    X25519(private key, 9), asked of the token itself; an object with the public key is not looked at

So a key may be made by hand, with `pkcs11-tool --keypairgen` or the vendor's tool, if label and kind are these. The
public key is what the private key says it is: another object cannot make writers seal to somebody else.

A session that is lost is opened again once, then the vault is unavailable. It logs in with the PIN file as it is then;
a PIN that was refused is not tried again, since a token locks itself after a few. One library has one state in a
process: opening a vault ends the sessions of every other one on the same library, which then open again.

The package `python-pkcs11` is an extra: `key_wiring` imports this module only where a token is configured.
Specifications: PKCS #11 v3.0 sections 2.3.7 and 2.3.18 (curves, ECDH); RFC 7748 section 6.1.
"""

import re
import struct
from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NoReturn

import pkcs11
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pkcs11.attributes import AttributeMapper
from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import (
    AttributeSensitive,
    AttributeTypeInvalid,
    MultipleTokensReturned,
    NoSuchToken,
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
)
from pkcs11.mechanisms import KDF, KeyType, Mechanism
from pkcs11.types import DeriveMixin, Object, Session

from iap_authz.adapters.keys.file import load_private
from iap_authz.errors import BadProof, ConfigInvalid, IapError, Invalid, Malformed, NotFound, SourceUnavailable, shown
from iap_authz.records.hpke import KEY_BYTES, open_by_exchange
from iap_authz.records.seal_settings import VaultKey
from iap_authz.records.vault_file import KEYS_MAX

PIN_MAX_BYTES = 256
"""Longer than any token takes."""

_MONTGOMERY = 0x41
"""CKK_EC_MONTGOMERY (PKCS #11 v3.0 section 2.3.4), which the package has no name for."""

KEY_TYPES = frozenset({_MONTGOMERY, int(KeyType.EC_EDWARDS)})
"""Of X25519 keys: what the standard calls them, and what libraries from before it do."""

_X25519_OID = bytes.fromhex("06032b656e")
_CURVES = frozenset({_X25519_OID, b"\x13\x0acurve25519", bytes.fromhex("060a2b060104019755010501")})
"""EC_PARAMS of X25519: its OID 1.3.101.110 (RFC 8410), its printed name, and the OID that was used before."""

BASE_POINT = (9).to_bytes(KEY_BYTES, "little")
"""RFC 7748 section 4.1."""

_PROBE = X25519PrivateKey.from_private_bytes(bytes(range(KEY_BYTES)))
"""Any key: a point of low order gives zero with each of them."""

_BAD_PIN = (PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked)
ULONG = struct.Struct("L")
"""How a library writes a CK_ULONG."""

_ID = re.compile(rb"[0-9]+\+([0-9]{4}-[0-9]{2}-[0-9]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPlace:
    """Where a vault's keys are: library, label of the token, what the keys' labels begin with, file with the PIN."""

    module: Path
    token: str
    label: str
    pin_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _TokenKey:
    """A key on the token, as of one session."""

    handle: DeriveMixin
    public_key: bytes
    created: date | None


class Pkcs11Vault:
    """Satisfies the port `Vault` with keys that stay on their token."""

    def __init__(self, place: TokenPlace) -> None:
        """Log in and find the keys. Raises ConfigInvalid or SourceUnavailable."""
        self._place = place
        self._refused: Invalid | None = None
        self._lost = False
        self._keys = self._open()

    @property
    def epochs(self) -> Many[int]:
        """Rising; those that were there when the session was opened."""
        return tuple(sorted(self._keys))

    def public_key(self, epoch: int) -> bytes:
        """32 bytes. Raises NotFound."""
        return self._key(epoch).public_key

    def created(self, epoch: int) -> date | None:
        """The day the key of an epoch was made, where its id says so. Raises NotFound."""
        return self._key(epoch).created

    def open(self, sealed: bytes, *, epoch: int, info: bytes) -> bytes:
        """What was sealed. Raises NotFound, BadProof or SourceUnavailable."""
        public_key = self.public_key(epoch)
        return open_by_exchange(lambda enc: self._exchange(epoch, enc), sealed, public_key=public_key, info=info)

    def _exchange(self, epoch: int, enc: bytes) -> bytes:
        """Ask the token, of which only points are asked that cannot make it fail."""
        try:
            _PROBE.exchange(X25519PublicKey.from_public_bytes(enc))
        except ValueError:
            raise BadProof("got a message that was sealed with a point of low order") from None
        if not self._lost:
            try:
                return exchange(self._key(epoch).handle, enc)
            except PKCS11Error:
                self._lost = True
        self._reopen()
        try:
            return exchange(self._key(epoch).handle, enc)
        except PKCS11Error as error:
            self._lost = True
            raise SourceUnavailable(_failed(self._place, error)) from None

    def _reopen(self) -> None:
        """Raises SourceUnavailable, and then the next opening tries again, unless it was the PIN that was refused."""
        if self._refused is not None:
            raise SourceUnavailable(f"{self._refused}; it is not tried again: restart the log")
        try:
            self._keys = self._open()
        except ConfigInvalid as error:
            raise SourceUnavailable(str(error)) from None
        self._lost = False

    def _open(self) -> Mapping[int, _TokenKey]:
        try:
            keys = _find_keys(log_in(self._place), self._place)
        except _BAD_PIN as error:
            self._refused = _problem_of_pin(self._place, error)
            raise self._refused from None
        except PKCS11Error as error:
            raise _problem_of(self._place, error) from None
        if not keys:
            raise ConfigInvalid.of_file(self._place.module, f"got {_missing(self._place)}")
        return keys

    def _key(self, epoch: int) -> _TokenKey:
        if epoch not in self._keys:
            raise NotFound(f"got vault epoch {epoch}, want one of {sorted(self._keys)}")
        return self._keys[epoch]

    def __repr__(self) -> str:
        return f"<Pkcs11Vault {self._place.label} {sorted(self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token's session stays in its process")


def create_token_key(place: TokenPlace) -> VaultKey:
    """Make the key of the next vault epoch on the token, which never gives it away. Returns its public half.

    Raises ConfigInvalid or SourceUnavailable. Whether it stays after a power cut is the token's promise.
    """
    try:
        session = log_in(place, writing=True)
        keys = _find_keys(session, place)
        if len(keys) == KEYS_MAX:
            message = f"got {KEYS_MAX} keys labelled {shown(place.label)}, want one less: delete an old one first"
            raise ConfigInvalid.of_file(place.module, message)
        epoch = max(keys, default=0) + 1
        _generate(session, place, epoch)
        return VaultKey(epoch=epoch, public_key=_find_keys(session, place)[epoch].public_key)
    except _BAD_PIN as error:
        raise _problem_of_pin(place, error) from None
    except PKCS11Error as error:
        raise _problem_of(place, error) from None


def parse_pin(content: bytes) -> str:
    """The PIN of a file: one line, with or without its newline. Raises Malformed, which quotes nothing of it."""
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    if not 1 <= len(line) <= PIN_MAX_BYTES or not line.isascii() or not line.decode("ascii").isprintable():
        raise Malformed(f"got no PIN, want 1 to {PIN_MAX_BYTES} printable ASCII characters on one line")
    return line.decode("ascii")


def log_in(place: TokenPlace, *, writing: bool = False) -> Session:
    """A new session, logged in, whatever this process had open on the library before."""
    pin = load_private(place.pin_file, parse_pin)
    try:
        library = pkcs11.lib(str(place.module))
        library.reinitialize()
    except PKCS11Error as error:
        raise ConfigInvalid.of_file(place.module, f"cannot be used as a PKCS #11 library: {_said(error)}") from None
    mapper = AttributeMapper()
    mapper.register_handler(Attribute.KEY_TYPE, ULONG.pack, lambda value: int(ULONG.unpack(value)[0]))
    mapper.register_handler(Attribute.LABEL, str.encode, lambda value: value.decode(errors="replace"))
    return library.get_token(token_label=place.token).open(rw=writing, user_pin=pin, attribute_mapper=mapper)


def _find_keys(session: Session, place: TokenPlace) -> Mapping[int, _TokenKey]:
    """The vault's keys by epoch. Raises ConfigInvalid for one that cannot be used, and PKCS11Error."""
    pattern, keys = re.compile(re.escape(place.label) + r"-([1-9][0-9]{0,8})", re.ASCII), {}
    for each in list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})):
        label = str(_read(each, Attribute.LABEL) or "")
        found = pattern.fullmatch(label)
        if found is None:
            continue
        epoch = int(found[1])
        if epoch in keys:
            raise ConfigInvalid.of_file(place.module, f"got two private keys labelled {shown(label)}, want one")
        if not isinstance(each, DeriveMixin) or not _is_x25519(each):
            message = f"got a private key {shown(label)} of another kind, want X25519 that may derive (CKA_DERIVE)"
            raise ConfigInvalid.of_file(place.module, message)
        keys[epoch] = _TokenKey(handle=each, public_key=exchange(each, BASE_POINT), created=_created(each))
    return keys


def _is_x25519(key: Object) -> bool:
    return _read(key, Attribute.KEY_TYPE) in KEY_TYPES and _read(key, Attribute.EC_PARAMS) in _CURVES


def _created(key: Object) -> date | None:
    stored = _read(key, Attribute.ID)
    found = _ID.fullmatch(stored) if isinstance(stored, bytes) else None
    try:
        return date.fromisoformat(found[1].decode()) if found else None
    except ValueError:
        return None


def _read(key: Object, attribute: Attribute) -> object:
    """An attribute, None where the token has none or keeps it to itself."""
    try:
        return key[attribute]
    except (AttributeSensitive, AttributeTypeInvalid):
        return None


def exchange(key: DeriveMixin, public_key: bytes) -> bytes:
    """X25519 on the token. The result is read once and taken off it again, whatever happens."""
    derived = key.derive_key(
        KeyType.GENERIC_SECRET,
        8 * KEY_BYTES,
        mechanism=Mechanism.ECDH1_DERIVE,
        mechanism_param=(KDF.NULL, None, public_key),
        store=False,
        template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
    )
    try:
        return bytes(derived[Attribute.VALUE])
    finally:
        derived.destroy()


def _generate(session: Session, place: TokenPlace, epoch: int) -> None:
    if Mechanism.EC_EDWARDS_KEY_PAIR_GEN not in session.token.slot.get_mechanisms():
        message = f"got a token that makes no X25519 key this way: make one labelled {place.label}-{epoch} by its tool"
        raise ConfigInvalid.of_file(place.module, message)
    curve = {Attribute.EC_PARAMS: _X25519_OID}
    session.create_domain_parameters(KeyType.EC_EDWARDS, curve, local=True).generate_keypair(
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        store=True,
        label=f"{place.label}-{epoch}",
        id=f"{epoch}+{datetime.now(UTC).date().isoformat()}".encode(),
        capabilities=MechanismFlag.DERIVE,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True},
    )


def _problem_of_pin(place: TokenPlace, error: PKCS11Error) -> Invalid:
    message = f"the token {shown(place.token)} does not take this PIN ({_said(error)}); a few more tries may lock it"
    return ConfigInvalid.of_file(place.pin_file, message)


def _problem_of(place: TokenPlace, error: PKCS11Error) -> IapError:
    if isinstance(error, NoSuchToken):
        return SourceUnavailable(f"{place.module}: got no token labelled {shown(place.token)}")
    if isinstance(error, MultipleTokensReturned):
        return ConfigInvalid.of_file(place.module, f"got several tokens labelled {shown(place.token)}, want one")
    return SourceUnavailable(_failed(place, error))


def _failed(place: TokenPlace, error: PKCS11Error) -> str:
    return f"{place.module}: the token {shown(place.token)} failed: {_said(error)}"


def _missing(place: TokenPlace) -> str:
    first = shown(f"{place.label}-1")
    return f"no private key labelled {first} or above on the token: make one (`iap-authz keys new vault`)"


def _said(error: PKCS11Error) -> str:
    """What the package says: often the name of the class alone."""
    name = type(error).__name__
    return f"{name}: {shown(str(error))}" if str(error) else name
