# SPDX-License-Identifier: Apache-2.0
"""`iap-authz keys`: the key of an audit log, the keys of its vault, and the tokens of writers and officers.

A log's key file and a vault's are told apart by their first line. What is printed is public, but for the tokens of
`keys new`. Nothing here reads a private key out of a file to show it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.cli.keys_new import AsJson, Label, Module, PinFile, Token, new, show_verifiers, token_options
from iap_authz.cli.keys_used import used
from iap_authz.errors import ConfigInvalid, Conflict
from iap_authz.key_wiring import (
    DatedVault,
    add_key,
    add_vault_key,
    check_may_drop,
    count_sealed,
    drop_key,
    drop_vault_key,
    holds_vault_keys,
    load_verifiers,
    open_token,
    open_vault_file,
    public_keys,
    stopped_log,
)
from iap_authz.log_config import load_log_config

app = typer.Typer(no_args_is_help=True)
app.add_typer(new, name="new", help="Make a key or a token.")
app.command("used")(used)

KeyFile = Annotated[Path, typer.Argument(help="The key file of a log or of a vault.")]


@app.command("show")
def show(
    file: Annotated[Path | None, typer.Argument(help="The key file of a log or of a vault.")] = None,
    *,
    module: Module = None,
    token: Token = None,
    label: Label = None,
    pin_file: PinFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the public halves of a log's or a vault's keys, the newest last, for sidecars and auditors.

    Of a log's key file, the verifier keys: one, or two while a key is rotated. Of a vault's key file, or of a token
    (the four options): a key for each vault epoch; writers seal to the last.
    """
    place = token_options(module=module, token=token, label=label, pin_file=pin_file)
    if (file is None) == (place is None):
        raise typer.BadParameter("give either a key file, or the four options of a token")
    if place is not None:
        _show_vault(open_token(place), as_json=as_json)
    elif file is not None and holds_vault_keys(file):
        _show_vault(open_vault_file(file), as_json=as_json)
    elif file is not None:
        show_verifiers(list(load_verifiers(file)), as_json=as_json)


@app.command("rotate")
def rotate(
    file: KeyFile,
    *,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the log's older key, for good.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change the key of a log without an hour at which everybody must change at once.

    1. `keys rotate FILE`, then restart the log. Safe at any time: every checkpoint now carries both signatures, and
    whoever pins either key goes on.

    2. Give the new verifier key to every sidecar and auditor. Safe for each of them once it has seen a checkpoint with
    both signatures: what it has kept from before the restart has the old one only.

    3. `keys rotate --finish FILE`, then restart the log. Safe when nobody pins the old key any more. The old
    private key is gone for good; its verifier key stays in the file, since the log must read what it has signed.

    Of a vault's key file: add the key of the next epoch, then restart the log. It tells the writers by itself, and
    seals the subject keys it has to the new key. When none is left of an old epoch: `keys drop`.
    """
    if holds_vault_keys(file):
        _rotate_vault(file, finish=finish, as_json=as_json)
        return
    if finish:
        dropped, kept = drop_key(file)
        typer.echo(f"dropped {dropped.render()}: keep it, to verify what it has signed", err=True)
        show_verifiers([kept], as_json=as_json)
        return
    added = add_key(file)
    typer.echo("restart the log; then give out the new verifier key, the last one here", err=True)
    older = [key for key in load_verifiers(file) if key != added]
    show_verifiers([*older, added], as_json=as_json)


@app.command("drop")
def drop(
    file: Annotated[Path, typer.Argument(help="The key file of a vault.")],
    epoch: Annotated[int, typer.Option(help="The vault epoch whose private key goes.")],
    config: Annotated[Path, typer.Option(help="The log.yaml of its log, which does not run meanwhile.")],
    *,
    lose: Annotated[int, typer.Option(help="So many keys and holds may be lost with it; as many as are refused.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without, only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop the private key of an old vault epoch, when the log has nothing left that is sealed to it.

    What was erased from the log but is still in a backup of its trail can be read as long as some copy of the old key
    is left: dropping it, here and in every backup of FILE, is what makes an erasure reach those backups.

    Refused for the newest epoch, while the log runs, since it would take records that are sealed to this key to the
    last, and while its trail has a subject key or a legal hold of this epoch: the log seals them anew after `keys
    rotate` and a restart. What it cannot open, because its writer made it wrong, stays: the log says so, and `--lose`
    lets it go. A writer that has been cut off since may still hold records that are sealed to the old key; they are
    refused once it is gone, so wait for every writer, or retire it. A sidecar that starts with the old
    `seal.vault_key` is such a writer too.

    FILE is replaced. The disk may keep the bytes of the old file until it needs the room, and backups keep them. The
    keys of a token are deleted with the token's own tool, while the log is stopped.
    """
    if not holds_vault_keys(file):
        raise ConfigInvalid.of_file(file, "got a log's key file, want a vault's: see `iap-authz keys rotate --finish`")
    vault, log = open_vault_file(file), load_log_config(config)
    if log.vault is None or log.vault.key_file is None or log.vault.key_file.resolve() != file.resolve():
        raise ConfigInvalid.of_file(config, f"got a log with another vault than {file}, want that of this key file")
    check_may_drop(file, epoch, epochs=vault.epochs)
    with stopped_log(log.trail_file, log.directory):
        _check_unused(epoch, trail=log.trail_file, epochs=vault.epochs, lose=lose)
        if yes:
            drop_vault_key(file, epoch)
    (row,) = [row for row in _rows(vault) if row.epoch == epoch]
    if as_json:
        typer.echo(json.dumps({"dropped": yes, "key": row.render()}))
        return
    done = "dropped: start the log, and see to the backups of this file" if yes else "would be dropped: say --yes"
    typer.echo(f"{row.vault_key} {done}")


def _check_unused(epoch: int, *, trail: Path, epochs: Sequence[int], lose: int) -> None:
    """Raise Conflict unless nothing in the trail is sealed to this epoch, or will be, but so many that may be lost."""
    counts, in_force = count_sealed(trail)
    if in_force not in epochs or counts.keys() - set(epochs):
        known = sorted({*counts, in_force})
        message = f"got a trail with vault epochs {known}, want some of {list(epochs)}: is it of this vault's log?"
        raise ConfigInvalid.of_file(trail, message)
    if in_force <= epoch:
        raise Conflict(f"got a log that still seals to vault epoch {in_force}: restart it, to seal to the next")
    if counts.get(epoch, 0) != lose:
        message = f"got {counts.get(epoch, 0)} keys and holds that are sealed to vault epoch {epoch}, want {lose}"
        raise Conflict(f"{message}: the log seals them anew while it runs, and says which it cannot open")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One key of a vault, as it is shown."""

    epoch: int
    vault_key: str
    created: date | None

    @property
    def age_days(self) -> int | None:
        """Since the key was made."""
        return None if self.created is None else (datetime.now(UTC).date() - self.created).days

    def render(self) -> dict[str, object]:
        """For JSON."""
        made = None if self.created is None else self.created.isoformat()
        return {"epoch": self.epoch, "vault_key": self.vault_key, "created": made, "age_days": self.age_days}


def _rows(vault: DatedVault) -> list[_Row]:
    return [
        _Row(epoch=key.epoch, vault_key=key.render(), created=vault.created(key.epoch)) for key in public_keys(vault)
    ]


def _show_vault(vault: DatedVault, *, as_json: bool) -> None:
    rows = _rows(vault)
    if as_json:
        typer.echo(json.dumps({"keys": [row.render() for row in rows]}))
        return
    for row in rows:
        typer.echo(row.vault_key)
        made = "on a day that is not known" if row.created is None else f"{row.created}, {row.age_days} days ago"
        typer.echo(f"epoch {row.epoch} was made {made}", err=True)


def _rotate_vault(file: Path, *, finish: bool, as_json: bool) -> None:
    if finish:
        raise ConfigInvalid.of_file(file, "got a vault's key file, want a log's: see `iap-authz keys drop`")
    add_vault_key(file)
    typer.echo("restart the log; it tells the writers, and seals what it has to the new key", err=True)
    _show_vault(open_vault_file(file), as_json=as_json)
