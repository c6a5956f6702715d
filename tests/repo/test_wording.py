# SPDX-License-Identifier: Apache-2.0
"""No file speaks of the place it was written at: absolute paths of a workplace, or the hosts of package registries.

The words are put together here, so that this file has none of them.
"""

import re

import pytest

from tests.repo.tree import files, shown

REGISTRIES = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("debian", "org"),
    ("proxy", "golang", "org"),
)

PATTERNS = {
    "a path of a workplace": "|".join(re.escape("/".join(parts)) for parts in (("", "work", ""), ("", "tmp", "w")))
    + r"\b",
    "a folder outside the tree": r"(?<![\w/.-])\.{0,2}/?" + "sha" + r"red/(?=\w+\.\w|[A-Z])",
    "the host of a package registry": "|".join(re.escape(".".join(parts)) for parts in REGISTRIES),
}

BINARY_SUFFIXES = frozenset({".mmdb", ".png", ".bin", ".pb"})


def words_found(text: str) -> list[str]:
    """What of the above stands in a text."""
    return [name for name, pattern in PATTERNS.items() if re.search(pattern, text)]


def test_no_file_speaks_of_where_it_was_written() -> None:
    found = []
    for path in files():
        if path.suffix not in BINARY_SUFFIXES:
            text = path.read_text(errors="replace")
            found += [f"{shown(path)}: {name}" for name in words_found(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("see /" + "work/main", "a path of a workplace"),
        ("/" + "tmp/w/v", "a path of a workplace"),
        ("see sha" + "red/DESIGN.md", "a folder outside the tree"),
        ("`../sha" + "red/FORMATS.md`", "a folder outside the tree"),
        ("https://pypi" + ".org/simple", "the host of a package registry"),
        ("deb.debian" + ".org", "the host of a package registry"),
    ],
)
def test_each_is_found(text: str, name: str) -> None:
    assert words_found(text) == [name]


@pytest.mark.parametrize("text", ["a shared/exclusive lock", "the work/life", "/tmp/world", "/network/", "/tmp/w8"])
def test_neighbours_are_not(text: str) -> None:
    assert words_found(text) == []
