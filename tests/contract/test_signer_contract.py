# SPDX-License-Identifier: Apache-2.0
"""What every `Signer` keeps, and what keeps a writer's key in its process (PROTOCOL W1)."""

import os
import pickle
from collections.abc import Callable

import pytest

from iap_authz.adapters.keys.memory import MemorySigner
from iap_authz.ports import Signer
from iap_authz.tlog.curve import check_public_key
from iap_authz.tlog.note import check_ed25519
from tests.fakes.journal import FixedSigner

each_signer = pytest.mark.parametrize("make", [MemorySigner, FixedSigner], ids=["memory", "fixed"])


@each_signer
def test_signatures_verify_and_repeat(make: Callable[[], Signer]) -> None:
    signer = make()
    check_public_key(signer.public_key)
    for message in (b"", b"one", bytes(100_000)):
        signature = signer.sign(message)
        check_ed25519(signer.public_key, message, signature=signature)
        assert signer.sign(message) == signature
    assert signer.public_key == signer.public_key


def test_w1_each_memory_signer_has_a_key_of_its_own() -> None:
    assert MemorySigner().public_key != MemorySigner().public_key


def test_w1_the_key_is_not_shown_and_not_copied() -> None:
    signer = MemorySigner()
    assert repr(signer) == f"<MemorySigner {signer.public_key.hex()}>"
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(signer)
    assert not hasattr(signer, "__dict__")


def test_w1_the_key_does_not_sign_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, here = MemorySigner(), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(RuntimeError, match="after the fork"):
        signer.sign(b"message")
