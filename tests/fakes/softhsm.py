# SPDX-License-Identifier: Apache-2.0
"""A real token in software (SoftHSM), in a folder of the test. A test that needs one is skipped where there is none."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pkcs11
import pytest
from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism

from iap_authz.adapters.keys.vault_pkcs11 import Pkcs11Vault, TokenPlace, create_token_key

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)
"""Where Debian, Fedora and a build from source put it."""

TOKEN, LABEL, PIN, SO_PIN = "audit", "vault", "4711-0815", "87654321"
X25519 = bytes.fromhex("06032b656e")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftToken:
    """The folder of one token, and where a vault finds it."""

    folder: Path
    place: TokenPlace

    def make_keys(self, count: int) -> None:
        """The keys of so many vault epochs, as `iap-authz keys new vault` makes them."""
        for _ in range(count):
            create_token_key(self.place)

    def vault(self) -> Pkcs11Vault:
        """The vault of its keys."""
        return Pkcs11Vault(self.place)

    def session(self) -> pkcs11.Session:
        """A session of the test's own, after which every vault has lost its own."""
        library = pkcs11.lib(str(self.place.module))
        library.reinitialize()
        return library.get_token(token_label=self.place.token).open(rw=True, user_pin=PIN)

    def make_by_hand(self, label: str, **changes: object) -> None:
        """A key as another tool could have made it; `changes` are attributes of the private key."""
        template = {Attribute[name.upper()]: value for name, value in changes.items()}
        domain = self.session().create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: X25519}, local=True)
        domain.generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            store=True,
            label=label,
            capabilities=MechanismFlag.DERIVE,
            private_template=template,
        )

    def delete(self, label: str) -> None:
        """Delete the private key of this label."""
        found = self.session().get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: label})
        for each in list(found):
            each.destroy()


def make_soft_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """A new token without keys, which SoftHSM finds for the rest of the test."""
    module = next((path for path in MODULES if path.is_file()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed (Debian: softhsm2)")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
    add_token(TOKEN)
    pin_file = folder / "vault.pin"
    pin_file.write_text(f"{PIN}\n")
    pin_file.chmod(0o600)
    place = TokenPlace(module=module, token=TOKEN, label=LABEL, pin_file=pin_file)
    return SoftToken(folder=folder, place=place)


def add_token(label: str) -> None:
    """One more token in the folder that SoftHSM is told of."""
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
