# SPDX-License-Identifier: Apache-2.0
"""What is shipped: the wheel and the source archive have what they should and nothing else, and the wheel works."""

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import iap_authz
from tests.repo.tree import PACKAGE, ROOT, files, shown


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    result = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (path,) = built.glob("*.whl")
    return path


def metadata_of(wheel: Path, name: str) -> str:
    """A file of the wheel's dist-info."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"iap_authz-{iap_authz.__version__}.dist-info/{name}").decode()


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {shown(path) for path in files() if path.is_relative_to(PACKAGE)}
    assert {"iap_authz/py.typed", "iap_authz/_pb/iap/audit/v1/record_pb2.pyi"} <= names


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    metadata = HeaderParser().parsestr(metadata_of(wheel, "METADATA"))
    assert metadata["Name"] == "iap-authz"
    assert metadata["Version"] == iap_authz.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {*metadata["Requires-Python"].split(",")} == {">=3.11", "<3.14"}
    assert "Tag: py3-none-any" in metadata_of(wheel, "WHEEL")


def test_the_command_leads_to_a_function(wheel: Path) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(metadata_of(wheel, "entry_points.txt"))
    assert dict(parser["console_scripts"]) == {"iap-authz": "iap_authz.cli:main"}
    ask = "import sys; sys.path.insert(0, sys.argv[1]); import iap_authz.cli as m; print(m.__file__, callable(m.main))"
    result = subprocess.run(
        [sys.executable, "-P", "-c", ask, str(wheel)], cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.split() == [f"{wheel}/iap_authz/cli/__init__.py", "True"], result.stderr


def test_the_source_archive_has_what_the_package_is_made_from(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {shown(file) for file in files() if shown(file).startswith(("iap_authz/", "proto/", "tests/", "tools/"))}
    assert wanted | {"LICENSE", "CHANGELOG.md", "Makefile", "pyproject.toml"} <= names


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_with_hashes_and_names_no_place(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", "\n" + text)[1:]
    assert entries
    unpinned = [
        entry.splitlines()[0] for entry in entries if not re.match(r"[a-z0-9.-]+==[\w.]+ .*\\\n +--hash=sha256:", entry)
    ]
    assert unpinned == []
    assert not re.search(r"://|--(extra-)?index-url|--find-links|file:", text)


def test_the_locks_agree() -> None:
    run, dev = (
        dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert run.items() <= dev.items()
    assert "pytest" not in run
