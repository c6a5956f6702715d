# SPDX-License-Identifier: Apache-2.0
"""From the section `seal` to what seals: nothing stays open unless the configuration spells it out."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.config import SidecarConfig, load_config
from iap_authz.errors import ConfigInvalid
from iap_authz.records.seal import Seal, parse_beside
from iap_authz.records.seal_settings import SealSettings, sign_settings
from iap_authz.seal_wiring import SEAL_SETTINGS_NAME, Sealing, make_sealing
from iap_authz.sidecar.sealing import UnsafeNoSeals
from iap_authz.sidecar.subject_keys import POOL_KEYS
from iap_authz.tlog.note import NoteSigner
from tests.fakes.clock import ManualClock
from tests.fakes.journal import ORIGIN, FixedSigner, MemoryJournal
from tests.fakes.sealed import VAULT, facts_of

LOG = FixedSigner("log")
SIGNER = NoteSigner(name=ORIGIN, public_key=LOG.public_key, sign=LOG.sign)
SEALED = f"{{vault_key: {VAULT.vault_key().render()}}}"


def config(folder: Path, seal: str, *, has_log: bool) -> SidecarConfig:
    log = f"log: {{address: 'unix:l', verifier_key: {SIGNER.verifier().render()}, enrolment_token_file: t}}\n"
    (folder / "sidecar.yaml").write_text(
        f"kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: {ORIGIN}\npolicies: [p]\n"
        f"journal: {{directory: journal}}\nseal: {seal}\n{log if has_log else ''}"
    )
    return load_config(folder / "sidecar.yaml")


def said(seal_epoch: int) -> bytes:
    return sign_settings(SealSettings(origin=ORIGIN, seal_epoch=seal_epoch, vault=VAULT.vault_key()), [SIGNER])


def with_sealing(folder: Path, seal: str, *, has_log: bool, test: Callable[[Sealing], None]) -> None:
    async def run() -> None:
        made = make_sealing(
            config(folder, seal, has_log=has_log),
            MemoryJournal(),
            directory=folder,
            monotonic=ManualClock().monotonic,
        )
        test(made)

    asyncio.run(run())


class Ends:
    """The backlog of a writer that has trimmed nothing."""

    writers = (FixedSigner().writer,)

    def first(self, writer: bytes) -> int:
        assert writer == self.writers[0]
        return 0


@pytest.mark.parametrize("has_log", [True, False], ids=["log", "no log"])
def test_none_is_the_only_way_to_what_is_open(tmp_path: Path, has_log: bool) -> None:  # noqa: FBT001 -- a case
    def test(made: Sealing) -> None:
        assert {type(one) for one in (made.seals, made.taker)} == {UnsafeNoSeals}
        seal: Seal | None = made.seals.seal_for(facts_of())
        assert seal is None
        assert made.oldest_epoch(Ends()) == 0  # type: ignore[arg-type]

    with_sealing(tmp_path, "none", has_log=has_log, test=test)


@pytest.mark.parametrize("has_log", [True, False], ids=["log", "no log"])
def test_with_a_vaults_key_everything_is_sealed_from_the_first_check_on(
    tmp_path: Path,
    has_log: bool,  # noqa: FBT001 -- a case
) -> None:
    def test(made: Sealing) -> None:
        assert made.keys is not None
        seals = [made.seals.seal_for(facts_of(f"person-{number}")) for number in range(POOL_KEYS)]
        assert {parse_beside(seal.beside).vault_epoch for seal in seals if seal is not None} == {1}
        assert None not in seals
        assert made.keys.late == 0
        assert (made.in_force is not None) == has_log

    with_sealing(tmp_path, SEALED, has_log=has_log, test=test)


def test_s5_what_the_log_said_last_is_in_force_from_the_first_check_on(tmp_path: Path) -> None:
    CheckpointFile(tmp_path / SEAL_SETTINGS_NAME).store(said(6))

    def test(made: Sealing) -> None:
        seal = made.seals.seal_for(facts_of())
        assert seal is not None
        assert parse_beside(seal.beside).seal_epoch == 6
        assert made.oldest_epoch(Ends()) == 6  # type: ignore[arg-type]

    with_sealing(tmp_path, SEALED, has_log=True, test=test)


def test_without_a_log_nobody_can_vouch_for_what_is_stored(tmp_path: Path) -> None:
    CheckpointFile(tmp_path / SEAL_SETTINGS_NAME).store(said(6))

    def test(made: Sealing) -> None:
        seal = made.seals.seal_for(facts_of())
        assert seal is not None
        assert parse_beside(seal.beside).seal_epoch == 0
        assert made.oldest_epoch(Ends()) == 0  # type: ignore[arg-type]

    with_sealing(tmp_path, SEALED, has_log=False, test=test)


def test_what_is_stored_and_is_not_the_logs_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / SEAL_SETTINGS_NAME).write_bytes(said(6)[:-9])
    with pytest.raises(ConfigInvalid, match=f"{tmp_path}/{SEAL_SETTINGS_NAME}: holds no seal settings"):
        with_sealing(tmp_path, SEALED, has_log=True, test=lambda _: None)
