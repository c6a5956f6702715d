# SPDX-License-Identifier: Apache-2.0
"""`iap-authz envoy render`: make an Envoy bootstrap, or check the ones in a folder against the defaults.

Files are replaced whole or not at all. The builder takes a second to import: only the command itself pays for it.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from iap_authz.bootstrap.oauth2_settings import load_oauth2, sample_settings
from iap_authz.bootstrap.settings import (
    EdgeSettings,
    HostSettings,
    TlsSettings,
    check_settings,
    sidecar_settings,
)
from iap_authz.errors import shown

app = typer.Typer(no_args_is_help=True)

DEFAULTS: Mapping[str, Callable[[], EdgeSettings]] = {"edge": EdgeSettings, "sidecar": sidecar_settings}
"""Each kind of Envoy, with the settings of the file that has its name."""

OFF = "off"
NOT_THE_SAME = 1
"""Exit code of --check when a file is missing or other than it should be."""

Kind = Annotated[str | None, typer.Argument(help="`edge`: TLS, in front of all. `sidecar`: plain HTTP, in a pod.")]
Listen = Annotated[str | None, typer.Option(help="ADDRESS:PORT to listen on.")]
Host = Annotated[list[str] | None, typer.Option(help="An application: DOMAIN[,DOMAIN...]=POLICY. Repeat for more.")]
Upstream = Annotated[str | None, typer.Option(help="Where the application listens: HOST:PORT or unix:/PATH.")]
Authz = Annotated[
    list[str] | None,
    typer.Option(help="Where a worker of the sidecar listens: unix:/PATH or 127.0.0.1:PORT. Repeat for more."),
]
AuthzTimeout = Annotated[float | None, typer.Option(help="Seconds that one check may take; 503 after them.")]
Tls = Annotated[
    str | None,
    typer.Option(help="CHAIN,KEY[,CLIENT_CA]: PEM files of the listener; `off`: plain HTTP. Default: in /run/iap/tls."),
]
ProxyProtocol = Annotated[
    bool, typer.Option("--proxy-protocol", help="A load balancer in front starts every connection with a PROXY header.")
]
TrustedHops = Annotated[int | None, typer.Option(help="Proxies in front whose X-Forwarded-For is believed.")]
ForwardedCertificates = Annotated[
    bool,
    typer.Option(
        "--forwarded-certificates",
        help="TLS proxies in front say whose certificate they saw. Needs CLIENT_CA in --tls.",
    ),
]
Admin = Annotated[str | None, typer.Option(help="Unix socket of Envoy's admin interface.")]
Readiness = Annotated[str | None, typer.Option(help="ADDRESS:PORT that answers GET /ready; `off`: none.")]
AccessLog = Annotated[str | None, typer.Option(help="Where an access log service listens: unix:/PATH.")]
OAuth2 = Annotated[
    Path | None, typer.Option("--oauth2", help="Let browsers log in: a file `kind: OAuth2`, see docs/configuration.md.")
]
StreamDuration = Annotated[
    float | None,
    typer.Option(
        "--max-stream-duration", help="Seconds that one request may last, WebSockets too: 1 to 86400. Default 3600."
    ),
]
NodeId = Annotated[str | None, typer.Option(help="Name of this Envoy; `off`: --service-node says it.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write instead of standard output.")]
Check = Annotated[Path | None, typer.Option(help="Compare a folder's files with those of the defaults.")]
Write = Annotated[Path | None, typer.Option(help="Write the files of the defaults to a folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="The bootstrap, or the report of --check, as JSON.")]


@app.callback()
def _envoy() -> None:
    pass


@app.command("render")
def render(  # noqa: PLR0913 -- one parameter an option; they become one value at once
    kind: Kind = None,
    *,
    listen: Listen = None,
    host: Host = None,
    upstream: Upstream = None,
    authz: Authz = None,
    authz_timeout: AuthzTimeout = None,
    tls: Tls = None,
    proxy_protocol: ProxyProtocol = False,
    trusted_hops: TrustedHops = None,
    forwarded_certificates: ForwardedCertificates = False,
    admin: Admin = None,
    readiness: Readiness = None,
    access_log: AccessLog = None,
    oauth2: OAuth2 = None,
    max_stream_duration: StreamDuration = None,
    node_id: NodeId = None,
    output: Output = None,
    check: Check = None,
    write: Write = None,
    as_json: AsJson = False,
) -> None:
    """Make the bootstrap of an `edge` or a `sidecar`; or --check, or --write, the files of the defaults."""
    options: dict[str, object] = {"listen": listen, "host": host, "upstream": upstream, "authz": authz, "tls": tls}
    options |= {"authz_timeout": authz_timeout, "proxy_protocol": proxy_protocol, "trusted_hops": trusted_hops}
    options |= {"forwarded_certificates": forwarded_certificates}
    options |= {"admin": admin, "readiness": readiness, "access_log": access_log, "node_id": node_id}
    options |= {"oauth2": oauth2, "max_stream_duration": max_stream_duration}
    given = {name: value for name, value in options.items() if value is not None and value is not False and value != []}
    if check is None and write is None:
        _render_one(kind, given, output=output, as_json=as_json)
    elif kind or given or output or (check and write):
        raise typer.BadParameter("--check and --write are about the defaults and stand alone")
    elif check is not None:
        _check_folder(check, as_json=as_json)
    elif write is not None:
        _write_folder(write)


def _render_one(kind: str | None, given: Mapping[str, object], *, output: Path | None, as_json: bool) -> None:
    if kind is None or kind not in DEFAULTS:
        raise typer.BadParameter(f"got {shown(kind)}, want {' or '.join(DEFAULTS)}", param_hint="KIND")
    settings = DEFAULTS[kind]()
    for name, value in given.items():
        try:
            changes = _OPTIONS[name](value)
        except (ValueError, OverflowError) as error:  # the second: an infinity of seconds
            raise typer.BadParameter(str(error), param_hint=f"--{name.replace('_', '-')}") from None
        settings = replace(settings, **changes)
    check_settings(settings)
    text = _rendered(settings, kind, as_json=as_json)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _store(output, text)


def _rendered(settings: EdgeSettings, kind: str, *, as_json: bool = False) -> str:
    from iap_authz.bootstrap.render import render_bootstrap, to_document  # noqa: PLC0415 -- slow to import

    return json.dumps(to_document(settings), indent=2) + "\n" if as_json else render_bootstrap(settings, kind)


def _default_files() -> dict[str, str]:
    files = {f"{kind}.yaml": _rendered(settings(), kind) for kind, settings in DEFAULTS.items()}
    with_login = replace(EdgeSettings(), oauth2=sample_settings())
    return files | {"edge-oauth2.yaml": _rendered(with_login, "edge --oauth2 envoy/oauth2.yaml")}


def _check_folder(folder: Path, *, as_json: bool) -> None:
    differ = [name for name, text in _default_files().items() if _content(folder / name) != text.encode()]
    if as_json:
        typer.echo(json.dumps({"holds": not differ, "differ": differ}))
    elif differ:
        for name in differ:
            typer.echo(f"{folder / name}: {'differs' if (folder / name).is_file() else 'is missing'}", err=True)
        typer.echo(f"to mend it: iap-authz envoy render --write {folder}", err=True)
    if differ:
        raise typer.Exit(NOT_THE_SAME)


def _write_folder(folder: Path) -> None:
    for name, text in _default_files().items():
        _store(folder / name, text)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _store(path: Path, text: str) -> None:
    """Replace the file at `path` whole: an Envoy that starts meanwhile reads the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _split_listen(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    if not (address and port.isascii() and port.isdecimal()):
        raise ValueError(f"got {shown(text)}, want ADDRESS:PORT")
    return address.removeprefix("[").removesuffix("]"), int(port[:6])


def _parse_listen(text: str) -> dict[str, Any]:
    address, port = _split_listen(text)
    return {"listener_address": address, "listener_port": port}


def _parse_readiness(text: str) -> dict[str, Any]:
    if text == OFF:
        return {"readiness_port": None}
    address, port = _split_listen(text)
    return {"readiness_address": address, "readiness_port": port}


def _parse_hosts(texts: list[str]) -> dict[str, Any]:
    hosts: list[HostSettings] = []
    for text in texts:
        domains, equals, policy = text.partition("=")
        if not (domains and equals and policy):
            raise ValueError(f"got {shown(text)}, want DOMAIN[,DOMAIN...]=POLICY")
        name = policy if policy not in [host.name for host in hosts] else f"{policy}-{len(hosts)}"
        hosts.append(HostSettings(name=name, domains=tuple(domains.split(",")), policy=policy))
    return {"hosts": tuple(hosts)}


def _parse_tls(text: str) -> dict[str, Any]:
    if text == OFF:
        return {"tls": None}
    match text.split(","):
        case [chain, key]:
            return {"tls": TlsSettings(certificate_chain=chain, private_key=key, client_ca=None)}
        case [chain, key, ca]:
            return {"tls": TlsSettings(certificate_chain=chain, private_key=key, client_ca=ca)}
        case _:
            raise ValueError(f"got {shown(text)}, want CHAIN,KEY or CHAIN,KEY,CLIENT_CA")


_OPTIONS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "listen": _parse_listen,
    "host": _parse_hosts,
    "upstream": lambda text: {"upstream": text},
    "authz": lambda texts: {"authz_sockets": tuple(texts)},
    "authz_timeout": lambda seconds: {"authz_timeout": timedelta(seconds=seconds)},
    "tls": _parse_tls,
    "proxy_protocol": lambda asked: {"proxy_protocol": asked},
    "trusted_hops": lambda count: {"trusted_hops": count},
    "forwarded_certificates": lambda asked: {"forwarded_certificates": asked},
    "admin": lambda text: {"admin_socket": text},
    "readiness": _parse_readiness,
    "access_log": lambda text: {"access_log_socket": text},
    "oauth2": lambda path: {"oauth2": load_oauth2(path)},
    "max_stream_duration": lambda seconds: {"max_stream_duration": timedelta(seconds=seconds)},
    "node_id": lambda text: {"node_id": None if text == OFF else text},
}
"""What each option changes. Raises ValueError for a text that cannot be read; what it says is checked afterwards."""
