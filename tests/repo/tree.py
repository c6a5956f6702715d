# SPDX-License-Identifier: Apache-2.0
"""The checkout as the tests of the repository see it: its files, and its package's Python modules."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "iap_authz"
GENERATED = PACKAGE / "_pb"

MADE_FOLDERS = frozenset(
    {".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__", "build", "dist"}
)
"""What .gitignore names, for a tree that came without git."""


@cache
def files() -> tuple[Path, ...]:
    """Every file that is tracked or would be: the tree without what .gitignore names."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not MADE_FOLDERS.intersection(path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in paths if path.is_file()))


def package_sources() -> tuple[Path, ...]:
    """The package's own Python files, without the generated ones."""
    return tuple(path for path in files() if path.suffix == ".py" and is_ours(path))


def is_ours(path: Path) -> bool:
    """Whether a file lies in the package and was written by hand."""
    return path.is_relative_to(PACKAGE) and not path.is_relative_to(GENERATED)


def shown(path: Path) -> str:
    """A path as a message names it."""
    return str(path.relative_to(ROOT))
