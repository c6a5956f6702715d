# SPDX-License-Identifier: Apache-2.0
"""Hashes against known answers: the Certificate Transparency reference leaves and roots.

Origin of the vectors: the reference implementation of Certificate Transparency, also published as
`testonly/constants.go` of transparency-dev/merkle. Recomputed independently by tests/fakes/reference_tree.py.
"""

import pytest

from iap_authz.errors import Malformed
from iap_authz.tlog.hashing import (
    EMPTY_ROOT,
    SIZE_LIMIT_LEAVES,
    NodeHash,
    check_hash,
    check_index,
    check_size,
    leaf_hash,
    leaf_hashes,
    node_hash,
    parse_leaf_hash,
    parse_node_hash,
)
from iap_authz.tlog.proof import check_consistency, check_inclusion
from iap_authz.tlog.tree import CompactRange
from tests.fakes.reference_tree import ReferenceTree

CT_ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = [
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
]
CT_CONSISTENCY = [
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
]


def known(texts: list[str]) -> list[NodeHash]:
    return [parse_node_hash(bytes.fromhex(text)) for text in texts]


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_reference_leaves(size: int) -> None:
    root = CompactRange.empty().extend(leaf_hashes(CT_ENTRIES[:size])).root()
    assert root.hex() == CT_ROOTS[size]
    assert ReferenceTree(CT_ENTRIES).root(size).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("index", "size", "proof"), CT_INCLUSION)
def test_published_inclusion_proofs_hold(index: int, size: int, proof: list[str]) -> None:
    leaf = leaf_hash(CT_ENTRIES[index])
    check_inclusion(leaf, index, size=size, proof=known(proof), root=known(CT_ROOTS)[size])


@pytest.mark.parametrize(("old", "new", "proof"), CT_CONSISTENCY)
def test_published_consistency_proofs_hold(old: int, new: int, proof: list[str]) -> None:
    roots = known(CT_ROOTS)
    check_consistency(old, new, proof=known(proof), old_root=roots[old], new_root=roots[new])


def test_the_empty_root_is_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == CT_ROOTS[0]


def test_leaf_hashes_are_the_single_ones_in_order() -> None:
    assert leaf_hashes(CT_ENTRIES) == [leaf_hash(entry) for entry in CT_ENTRIES]


@pytest.mark.parametrize("value", [b"", b"x" * 31, b"x" * 33, "x" * 32, bytearray(32)], ids=repr)
def test_only_32_bytes_are_a_hash(value: bytes) -> None:
    for check in (check_hash, parse_leaf_hash, parse_node_hash):
        with pytest.raises(Malformed, match="want 32 bytes"):
            check(value)
    assert parse_leaf_hash(b"x" * 32) == b"x" * 32
    assert parse_node_hash(b"x" * 32) == b"x" * 32


@pytest.mark.parametrize("value", [-1, SIZE_LIMIT_LEAVES, 1 << 64, True, 1.0, "1", None], ids=repr)
def test_only_numbers_below_2_to_63_are_sizes(value: int) -> None:
    with pytest.raises(Malformed):
        check_size(value)
    with pytest.raises(Malformed):
        check_index(value, SIZE_LIMIT_LEAVES - 1)


def test_the_largest_size_and_index_are_accepted() -> None:
    check_size(0)
    check_size(SIZE_LIMIT_LEAVES - 1)
    check_index(SIZE_LIMIT_LEAVES - 2, SIZE_LIMIT_LEAVES - 1)
    with pytest.raises(Malformed):
        check_index(0, 0)


def test_a_node_is_not_symmetric() -> None:
    assert node_hash(EMPTY_ROOT, CT_ENTRIES[7]) != node_hash(CT_ENTRIES[7], EMPTY_ROOT)
