# SPDX-License-Identifier: Apache-2.0
"""The package's imports keep to the layers that `iap_authz/__init__.py` draws; planted violations are found."""

from pathlib import Path

import pytest

from tests.repo.layers import MAY_IMPORT, layer_violations, purity_violations
from tests.repo.tree import PACKAGE, ROOT


def test_the_package_keeps_to_its_layers() -> None:
    assert list(layer_violations(ROOT)) == []


def test_the_pure_layer_is_pure() -> None:
    assert list(purity_violations(ROOT)) == []


def test_the_map_names_every_part() -> None:
    text = (PACKAGE / "__init__.py").read_text()
    present = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))}
    unnamed = {part for part in present - {"__init__", "__main__", "demo"} if part not in text}
    assert unnamed == set(), "parts that the map in iap_authz/__init__.py does not draw"


def test_the_table_has_no_cycle() -> None:
    remaining = {part: set(below) - {part} for part, below in MAY_IMPORT.items()}
    while remaining:
        lowest = {part for part, below in remaining.items() if not below & remaining.keys()}
        assert lowest, f"these import one another in a circle: {sorted(remaining)}"
        remaining = {part: below for part, below in remaining.items() if part not in lowest}


def plant(root: Path, module: str, source: str) -> None:
    """Write one module of a small package; every other file of it is empty."""
    for name in ("__init__", "errors", "ports", "config", "wiring"):
        path = root / "iap_authz" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for name in (
        "model",
        "tlog",
        "records",
        "sidecar",
        "log",
        "client",
        "adapters/envoy",
        "adapters/journal",
        "cli",
        "demo",
    ):
        folder = root / "iap_authz" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    (root / "iap_authz" / "tlog" / "tree.py").touch()
    (root / "iap_authz" / module).write_text(source)


UPWARD = [
    ("model/a.py", "import iap_authz.ports", "pure stands above ports"),
    ("model/a.py", "from iap_authz import ports", "pure stands above ports"),
    ("model/a.py", "from ..ports import Clock", "pure stands above ports"),
    ("model/a.py", "from .. import ports", "pure stands above ports"),
    ("model/__init__.py", "from ..sidecar import check", "pure stands above services"),
    ("model/__init__.py", "from .. import log", "pure stands above services"),
    ("model/a.py", "if TYPE_CHECKING:\n    from iap_authz.ports import Clock", "pure stands above ports"),
    ("model/a.py", "def f():\n    import iap_authz.tlog.tree", "the pure parts stand in this order"),
    ("model/a.py", "importlib.import_module('iap_authz.ports')", "pure stands above ports"),
    ("model/a.py", "import_module('..ports', __package__)", "pure stands above ports"),
    ("model/a.py", "__import__('iap_authz.ports')", "pure stands above ports"),
    ("tlog/a.py", "from iap_authz.model.ids import AuditId", "the pure parts stand in this order"),
    ("tlog/a.py", "from iap_authz.records import record", "the pure parts stand in this order"),
    ("tlog/a.py", "from iap_authz._pb.iap.audit.v1 import record_pb2", "this pure part knows bytes only"),
    ("errors.py", "from iap_authz import model", "the pure parts stand in this order"),
    ("sidecar/a.py", "from iap_authz.log import sequencer", "services never import one another"),
    ("client/a.py", "from iap_authz.sidecar import check", "services never import one another"),
    ("sidecar/a.py", "from iap_authz.adapters.envoy import server", "a service speaks to a port"),
    ("adapters/envoy/a.py", "from iap_authz.adapters.journal import files", "an adapter is one outside thing"),
    ("adapters/envoy/a.py", "from ..journal import files", "an adapter is one outside thing"),
    ("adapters/envoy/a.py", "from iap_authz.sidecar.check import check", "an adapter takes an inbound port"),
    ("adapters/envoy/a.py", "from iap_authz import config", "adapters stands above assembly"),
    ("adapters/new.py", "from iap_authz.client import read", "an adapter takes an inbound port"),
    ("cli/a.py", "from iap_authz.adapters.envoy import server", "wiring.py is the only file"),
    ("demo/a.py", "from iap_authz.adapters.envoy import server", "wiring.py is the only file"),
    ("cli/a.py", "from iap_authz.sidecar import check", "wiring.py puts services together"),
    ("config.py", "from iap_authz import wiring", "assembly stands in this order"),
    ("__init__.py", "from iap_authz.errors import IapError", "the package's __init__ is the map"),
    ("helpers.py", "from iap_authz import errors", "helpers is not in the table"),
    ("model/a.py", "from iap_authz.helpers import x", "helpers is not in the table"),
]


@pytest.mark.parametrize(("module", "source", "reason"), UPWARD, ids=[f"{m}: {s}" for m, s, _ in UPWARD])
def test_an_upward_edge_is_found(tmp_path: Path, module: str, source: str, reason: str) -> None:
    plant(tmp_path, module, source)
    if "helpers" in source:
        (tmp_path / "iap_authz" / "helpers.py").touch()
    (violation,) = layer_violations(tmp_path)
    assert violation.startswith(f"iap_authz/{module}:")
    assert reason in violation


ALLOWED = [
    ("model/a.py", "from iap_authz.errors import Malformed\nfrom . import b\nfrom iap_authz._pb.iap import x"),
    ("records/a.py", "from iap_authz.tlog.tree import CompactRange\nfrom iap_authz import tlog"),
    ("sidecar/a.py", "from iap_authz.ports import Journal\nfrom iap_authz.client import read\nfrom ..model import ids"),
    ("adapters/envoy/a.py", "from iap_authz.adapters.envoy.request import parse\nfrom .request import parse"),
    ("wiring.py", "from iap_authz.adapters.envoy import server\nfrom iap_authz.sidecar import check"),
    ("cli/a.py", "from iap_authz import __version__, wiring\nfrom iap_authz.demo import run"),
    ("model/a.py", "import ports\nfrom ports.iap_authz import x"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED, ids=[f"{m}: {s}" for m, s in ALLOWED])
def test_a_downward_edge_is_not(tmp_path: Path, module: str, source: str) -> None:
    plant(tmp_path, module, source)
    assert list(layer_violations(tmp_path)) == []


IMPURE = [
    "import asyncio",
    "import grpc.aio",
    "from logging import getLogger",
    "import socket",
    "import os.path",
    "from pathlib import Path",
    "import time",
    "def f():\n    import subprocess",
    "if TYPE_CHECKING:\n    import asyncio",
    "now = datetime.now(tz=UTC)",
    "now = datetime.datetime.now(tz=UTC)",
    "today = date.today()",
    "content = open('x').read()",
    "print('x')",
]


@pytest.mark.parametrize("source", IMPURE)
def test_an_impure_module_is_found(tmp_path: Path, source: str) -> None:
    plant(tmp_path, "model/a.py", source)
    assert len(list(purity_violations(tmp_path))) == 1


@pytest.mark.parametrize("source", ["from datetime import datetime", "import re", "x = facts.now", "import oslo"])
def test_a_pure_module_is_not(tmp_path: Path, source: str) -> None:
    plant(tmp_path, "model/a.py", source)
    assert list(purity_violations(tmp_path)) == []


def test_errors_may_name_the_type_of_a_path(tmp_path: Path) -> None:
    plant(tmp_path, "errors.py", "from pathlib import Path")
    assert list(purity_violations(tmp_path)) == []


def test_others_may_be_impure(tmp_path: Path) -> None:
    plant(tmp_path, "sidecar/a.py", "import asyncio, time")
    assert list(purity_violations(tmp_path)) == []
