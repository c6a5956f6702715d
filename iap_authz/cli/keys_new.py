# SPDX-License-Identifier: Apache-2.0
"""`iap-authz keys new`: keys that are made once, and tokens that are shown once."""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.errors import shown
from iap_authz.key_wiring import (
    create_index_key,
    create_key_file,
    create_pepper,
    create_token_key,
    create_vault_file,
    make_api_key,
)
from iap_authz.model.roles import Role
from iap_authz.tlog.note import VerifierKey

TOKEN_BYTES = 32
"""Nobody guesses one, so its hash may stand in a file."""

NAME_MAX_CHARS = 128
"""What the log's access file takes."""

_LIFETIME = re.compile(r"([1-9][0-9]{0,3})([dh])", re.ASCII)

new = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]
Module = Annotated[Path | None, typer.Option("--pkcs11-module", help="The PKCS #11 library of a token.")]
Token = Annotated[str | None, typer.Option(help="The token's label.")]
Label = Annotated[str | None, typer.Option(help="What the labels of the vault's keys on it begin with.")]
PinFile = Annotated[Path | None, typer.Option(help="The file with the token's PIN; mode 0600.")]


class RoleOption(StrEnum):
    """The roles as an option has them."""

    INVESTIGATOR = "investigator"
    PRIVACY_OFFICER = "privacy-officer"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions:
    """A token, by the four options that name it."""

    module: Path
    token: str
    label: str
    pin_file: Path


@new.command("log")
def new_log(
    origin: Annotated[str, typer.Option(help="The log's name, for life: audit.example.com/orders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The key file to make; one that is there stays.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make the key of a new audit log and print its verifier key, which writers and auditors pin."""
    show_verifiers([create_key_file(output, origin)], as_json=as_json)


@new.command("vault")
def new_vault(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The key file to make; one that is there stays.")
    ] = None,
    *,
    module: Module = None,
    token: Token = None,
    label: Label = None,
    pin_file: PinFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the key that personal data is sealed to, and print its public half, for `seal.vault_key` of the sidecars.

    In a file (`-o`), which must not be lost and must not leak: with it, everything that was not erased can be read.

    Or on a token (the other four options): there it can be used, and not be read. On a token the same command also
    makes each following key; then restart the log.
    """
    place = token_options(module=module, token=token, label=label, pin_file=pin_file)
    if output is not None and place is None:
        key = create_vault_file(output)
    elif output is None and place is not None:
        key = create_token_key(place)
    else:
        raise typer.BadParameter("give either --output, or the four options of a token")
    if as_json:
        typer.echo(json.dumps({"keys": [{"epoch": key.epoch, "vault_key": key.render()}]}))
        return
    typer.echo(key.render())


@new.command("index")
def new_index(
    output: Annotated[Path, typer.Option("--output", "-o", help="The key file to make; one that is there stays.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make the key that index tokens come from. It has no public half: nobody but the log ever has it."""
    create_index_key(output)
    typer.echo(json.dumps({"index_key_file": str(output)}) if as_json else f"made {output}")


@new.command("enrolment-token")
def new_enrolment_token(
    name: Annotated[str, typer.Option(help="What the log shall call whoever enrols with it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a token for writers. It is printed once; the log's enrolment file gets its name and hash only."""
    token, digest = _new_token()
    if as_json:
        typer.echo(json.dumps({"name": name, "token": token, "sha256": digest}))
        return
    typer.echo(f"token, for the file that a sidecar's log.enrolment_token_file names:\n{token}\n")
    typer.echo(f"entry, for `tokens:` in the log's enrolment file:\n- {{name: {json.dumps(name)}, sha256: {digest}}}")


@new.command("access-token")
def new_access_token(
    name: Annotated[str, typer.Option(help="Who it is for; stands in the record of everything they open or erase.")],
    role: Annotated[list[RoleOption], typer.Option(help="What they may; may be repeated.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a token for somebody who opens, holds, erases or retires. It is printed once; the access file has its hash.

    An investigator opens records, a privacy officer holds and erases, an admin retires writers. Under dual control two
    names are two people: give one person one name.
    """
    if not 1 <= len(name) <= NAME_MAX_CHARS or not name.isprintable():
        raise typer.BadParameter(f"want 1 to {NAME_MAX_CHARS} printable characters", param_hint="--name")
    roles = sorted({Role[one.name].value for one in role})
    token, digest = _new_token()
    if as_json:
        typer.echo(json.dumps({"name": name, "roles": roles, "token": token, "sha256": digest}))
        return
    entry = f"- {{name: {json.dumps(name)}, roles: [{', '.join(roles)}], sha256: {digest}}}"
    typer.echo(f"token, for the file that --token-file names; mode 0600:\n{token}\n")
    typer.echo(f"entry, for `tokens:` in the log's access file:\n{entry}")


@new.command("pepper")
def new_pepper(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to make; one that is there stays.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make what the hashes of API keys are keyed with, for `identity.api_keys.pepper_file` of the sidecars.

    Keep it apart from the file of hashes. Without it no API key is good any more, and nobody can make it again.
    """
    create_pepper(output)
    typer.echo(json.dumps({"pepper_file": str(output)}) if as_json else f"made {output}")


@new.command("api-key")
def new_api_key(
    name: Annotated[str, typer.Option(help="What records and policies call it; the next key may have the same.")],
    pepper_file: Annotated[Path, typer.Option(help="Made by `keys new pepper`; the one that the sidecars have.")],
    *,
    subject: Annotated[str | None, typer.Option(help="Whom it stands for. Default: its name.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="What it may; may be repeated.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="What its machine belongs to; may be repeated.")] = None,
    expires: Annotated[str, typer.Option(help="How long it is good, in days or hours: 90d, 12h.")] = "90d",
    as_json: AsJson = False,
) -> None:
    """Make an API key for a machine. It is printed once; the file of API keys gets its entry, which has a hash only."""
    made = make_api_key(
        pepper_file,
        name=name,
        subject=subject or name,
        scopes=scope or [],
        groups=group or [],
        lifetime=parse_span(expires, option="--expires"),
    )
    if as_json:
        typer.echo(json.dumps({"key": made.text, "entry": made.entry}))
        return
    typer.echo(
        f"key, for the machine; it sends it as x-api-key, or in the header that the sidecars want:\n{made.text}\n"
    )
    typer.echo(f"entry, for `keys:` in the file that identity.api_keys.file names:\n- {json.dumps(made.entry)}")


def parse_span(text: str, *, option: str) -> timedelta:
    """Days or hours, as `option` has them. Raises BadParameter."""
    match = _LIFETIME.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"got {shown(text)}, want days or hours, such as 90d or 12h", param_hint=option)
    number = int(match[1])
    return timedelta(days=number) if match[2] == "d" else timedelta(hours=number)


def token_options(
    *, module: Path | None, token: str | None, label: str | None, pin_file: Path | None
) -> TokenOptions | None:
    """The token that the options name, None where they name none. Raises BadParameter where some are missing."""
    if module is not None and token is not None and label is not None and pin_file is not None:
        return TokenOptions(module=module, token=token, label=label, pin_file=pin_file)
    if any(one is not None for one in (module, token, label, pin_file)):
        raise typer.BadParameter("a token takes all of --pkcs11-module, --token, --label and --pin-file")
    return None


def show_verifiers(keys: list[VerifierKey], *, as_json: bool) -> None:
    """Print the public halves of a log's keys."""
    if as_json:
        shown = [{"origin": key.name, "key_id": key.key_id.hex(), "verifier_key": key.render()} for key in keys]
        typer.echo(json.dumps({"keys": shown}))
        return
    for key in keys:
        typer.echo(key.render())


def _new_token() -> tuple[str, str]:
    """A token and its hash, in hex."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, hashlib.sha256(token.encode()).hexdigest()
