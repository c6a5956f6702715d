# SPDX-License-Identifier: Apache-2.0
"""Each source file says its licence in its first line, or in its second after `#!`; the licence itself is there."""

from pathlib import Path

import pytest

from tests.repo.tree import GENERATED, ROOT, files, shown

LINE = "SPDX-License-Identifier: Apache-2.0"

SUFFIXES = frozenset({".proto", ".py", ".sh"})
NAMES = frozenset({".ci/run", ".dockerignore", ".gitignore", "Dockerfile", "Makefile", "pyproject.toml"})


def sources() -> list[Path]:
    """The files written by hand that have comments."""
    return [
        path
        for path in files()
        if (path.suffix in SUFFIXES or shown(path) in NAMES) and not path.is_relative_to(GENERATED)
    ]


def says_licence(text: str) -> bool:
    """Whether the licence stands where it should."""
    lines = text.splitlines()[:2]
    first = lines[1:] if lines and lines[0].startswith("#!") else lines[:1]
    return bool(first) and first[0] in (f"# {LINE}", f"// {LINE}")


def test_every_source_says_its_licence() -> None:
    assert [shown(path) for path in sources() if not says_licence(path.read_text())] == []


def test_the_sources_were_found() -> None:
    assert {"Makefile", "iap_authz/errors.py", "proto/iap/audit/v1/log.proto"} <= {shown(path) for path in sources()}


def test_the_licence_is_there() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("text", [f"# {LINE}\n", f"// {LINE}\n", f"#!/bin/sh\n# {LINE}\n"])
def test_it_is_seen(text: str) -> None:
    assert says_licence(text)


@pytest.mark.parametrize(
    "text", ["", "\n", f"\n# {LINE}\n", f'"""\n# {LINE}\n', "#!/bin/sh\n", "# SPDX-License-Identifier: MIT"]
)
def test_its_absence_is_seen(text: str) -> None:
    assert not says_licence(text)
