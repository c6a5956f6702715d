# SPDX-License-Identifier: Apache-2.0
"""The pepper of API keys on disk: what their hashes are keyed with. It stands beside no file of hashes.

The invariant: the file is read by its owner only, and is never overwritten: with another pepper no key is good.
Whoever has it and the file of hashes can try candidates, all 2^256 of them.

    iap-pepper+<base64 of 32 random bytes>
"""

from pathlib import Path

from iap_authz.adapters.keys.secret_file import SecretFile
from iap_authz.facts.apikey import PEPPER_BYTES

_FILE = SecretFile(prefix="iap-pepper+", size_bytes=PEPPER_BYTES, name="pepper", command="iap-authz keys new pepper")


def load_pepper(path: Path) -> bytes:
    """The 32 bytes in the file, which nobody but its owner may read. Raises ConfigInvalid."""
    return _FILE.load(path)


def create_pepper(path: Path) -> None:
    """Make a pepper. A file that is there stays, and is a ConfigInvalid."""
    _FILE.create(path)
