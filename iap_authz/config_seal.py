# SPDX-License-Identifier: Apache-2.0
"""Section `seal` of a sidecar's configuration: whether what records say of people is sealed, and to whose key.

The invariant: nothing is written in the open because a line is missing. It takes the word `none`, spelled out.
"""

from dataclasses import dataclass

from iap_authz.errors import Malformed, shown
from iap_authz.model.document import Faults, Section
from iap_authz.records.hpke import seal_to
from iap_authz.records.seal_settings import VaultKey

_WANT = (
    "want {vault_key: ...}, which `iap-authz keys show` prints of the file that `iap-authz keys new vault` makes, "
    "or `none`, which leaves personal data open in the journal and the log for good"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealConfig:
    """`seal`: what seals the personal part of every record."""

    vault_key: VaultKey
    """Public key of the log's vault, as `iap-authz keys show` prints it. A newer one comes from the log, signed."""


def take_seal(root: Section) -> SealConfig | None:
    """The section, None for `none`; also where it is faulty, which ends the parsing later."""
    text = Section(root.node, root.path, Faults("")).take_text("seal", "")  # a mapping is no fault here
    section = root.take_section("seal") if not text else None
    if text:
        root.take_text("seal")
    if text not in ("", "none"):
        root.fault("seal", f"got {shown(text)}, {_WANT}")
    if not root.has("seal"):
        root.fault("seal", f"missing, {_WANT}")
    if section is None:
        return None
    key = _take_vault_key(section)
    section.finish()
    return SealConfig(vault_key=key) if key is not None else None


def _take_vault_key(section: Section) -> VaultKey | None:
    text = section.take_text("vault_key")
    if not text:
        return None
    try:
        key = VaultKey.parse(text)
    except Malformed as error:
        section.fault("vault_key", str(error))
        return None
    try:
        seal_to(key.public_key, b"", info=b"")
    except (Malformed, ValueError):  # a few X25519 keys make no secret with any other (RFC 7748 section 6.1)
        section.fault("vault_key", f"got {key.render()}, want a key that can be sealed to")
    return key
