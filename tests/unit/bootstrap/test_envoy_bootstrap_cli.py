# SPDX-License-Identifier: Apache-2.0
"""`iap-authz envoy render`: options become settings, files are compared and replaced."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iap_authz.bootstrap.render import render_bootstrap
from iap_authz.bootstrap.settings import EdgeSettings, sidecar_settings
from iap_authz.cli.envoy import app
from iap_authz.errors import ConfigInvalid
from tests.fakes.envoy_config import flatten, parse_bootstrap

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["render", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def rendered(*arguments: str) -> dict[str, object]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return flatten(parse_bootstrap(result.stdout))


def values(found: dict[str, object], ending: str) -> list[object]:
    return [value for path, value in found.items() if path.endswith(ending)]


def test_the_defaults_are_the_files() -> None:
    assert run("edge").stdout == render_bootstrap(EdgeSettings(), "edge")
    assert run("sidecar").stdout == render_bootstrap(sidecar_settings(), "sidecar")


def test_options_become_settings() -> None:
    found = rendered(
        *(
            "sidecar",
            "--listen",
            "[::]:80",
            "--host",
            "a.example.com,*.a.example.com=shop",
            "--host",
            "b.example.com=shop",
        ),
        *("--upstream", "unix:/run/app.sock", "--authz", "/run/0.sock", "--authz", "127.0.0.1:9001"),
        *("--authz-timeout", "0.5", "--tls", "/c.crt,/c.key,/ca.crt", "--proxy-protocol", "--trusted-hops", "1"),
        "--forwarded-certificates",
        *("--admin", "/run/admin.sock", "--readiness", "127.0.0.1:15000", "--access-log", "/run/als.sock"),
        *("--node-id", "n-1", "--max-stream-duration", "90"),
    )
    listener = ".static_resources.listeners[0]"
    assert found[f"{listener}.address.socket_address.address"] == "::"
    assert found[f"{listener}.listener_filters[0].name"] == "envoy.filters.listener.proxy_protocol"
    assert values(found, ".context_extensions[policy]") == ["shop", "shop"]
    assert [value for path, value in found.items() if re.search(r"virtual_hosts\[[01]]\.domains", path)] == [
        "a.example.com",
        "*.a.example.com",
        "b.example.com",
        "*",  # of the readiness listener
    ]
    assert {"/run/0.sock", "/run/app.sock", "/run/admin.sock", "/run/als.sock"} <= set(values(found, ".pipe.path"))
    assert {80, 9001, 15000} <= set(values(found, ".port_value"))
    assert {"/c.crt", "/c.key", "/ca.crt"} == set(values(found, ".filename"))
    assert values(found, ".xff_num_trusted_hops") == [1]
    assert values(found, ".request_headers_to_remove[0]") == ["x-forwarded-client-cert"]
    assert values(found, ".grpc_service.timeout.nanos") == [500_000_000]
    assert found[".node.id"] == "n-1"
    assert values(found, ".max_stream_duration.seconds") == [90]


def test_options_switch_off() -> None:
    found = rendered("edge", "--tls", "off", "--readiness", "off", "--node-id", "off")
    assert not [path for path in found if "transport_socket" in path or path == ".node.id"]
    assert values(found, ".stat_prefix") == ["edge", "iap"]


def test_json_is_the_same_bootstrap() -> None:
    as_json = run("sidecar", "--json").stdout
    assert json.loads(as_json)["admin"]["address"]["pipe"]["mode"] == 0o660
    assert flatten(parse_bootstrap(as_json)) == rendered("sidecar")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "got None, want edge or sidecar"),
        (("both",), "got 'both', want edge or sidecar"),
        (("edge", "--listen", "443"), "got '443', want ADDRESS:PORT"),
        (("edge", "--listen", "127.0.0.1"), "got '127.0.0.1', want ADDRESS:PORT"),
        (("edge", "--readiness", "x"), "got 'x', want ADDRESS:PORT"),
        (("edge", "--host", "a.example.com"), "got 'a.example.com', want DOMAIN[,DOMAIN...]=POLICY"),
        (("edge", "--tls", "/a.crt"), "got '/a.crt', want CHAIN,KEY or CHAIN,KEY,CLIENT_CA"),
        (("edge", "--max-stream-duration", "inf"), "cannot convert float infinity to integer"),
        (("edge", "--check", "."), "stand alone"),
        (("--check", ".", "--write", "."), "stand alone"),
        (("--write", ".", "--upstream", "a:1"), "stand alone"),
        (("--write", ".", "-o", "file"), "stand alone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_exit_2(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_wrong_settings_are_the_exception_that_the_command_line_answers() -> None:
    result = run("edge", "--authz", "192.0.2.1:9001", "--trusted-hops", "99")
    assert isinstance(result.exception, ConfigInvalid)
    assert [fault.field for fault in result.exception.faults] == ["trusted_hops", "authz_sockets"]


@pytest.mark.parametrize("option", ["max-stream-duration", "authz-timeout"])
def test_zero_is_a_value_and_not_the_default(option: str) -> None:
    result = run("edge", f"--{option}", "0")
    assert isinstance(result.exception, ConfigInvalid)
    assert f"{option.replace('-', '_')}: got 0s" in str(result.exception)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "envoy.yaml"
    assert run("edge", "-o", str(file)).stdout == ""
    assert file.read_text() == render_bootstrap(EdgeSettings(), "edge")
    assert [path.name for path in file.parent.iterdir()] == ["envoy.yaml"]


def test_wrong_settings_leave_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text("old")
    assert run("edge", "--trusted-hops", "99", "-o", str(file)).exit_code != 0
    assert file.read_text() == "old"


def test_the_repository_is_checked() -> None:
    assert run("--check", str(ROOT / "envoy")).exit_code == 0


def test_write_then_check_then_a_difference(tmp_path: Path) -> None:
    assert run("--write", str(tmp_path)).exit_code == 0
    assert run("--check", str(tmp_path)).exit_code == 0
    edge, sidecar = tmp_path / "edge.yaml", tmp_path / "sidecar.yaml"
    edge.write_text(edge.read_text() + "\n")
    sidecar.unlink()
    result = run("--check", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"{edge}: differs",
        f"{sidecar}: is missing",
        f"to mend it: iap-authz envoy render --write {tmp_path}",
    ]
    as_json = run("--check", str(tmp_path), "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (
        1,
        {"holds": False, "differ": ["edge.yaml", "sidecar.yaml"]},
    )


def test_the_readme_speaks_of_what_is_there() -> None:
    """Each name in the first column of a table is a setting, or a value, of one of the files."""
    bootstraps = "".join((ROOT / "envoy" / f"{name}.yaml").read_text() for name in ("edge", "edge-oauth2", "sidecar"))
    lines = (ROOT / "envoy" / "README.md").read_text().splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell) if not name.endswith(".yaml")]
    unset = {"xff_num_trusted_hops"}
    assert len(names) > 40
    assert [name for name in names if name not in bootstraps] == sorted(unset)
