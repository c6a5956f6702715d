# SPDX-License-Identifier: Apache-2.0
"""Properties of the log. Each docstring quotes, or names, the sentence of the specification that it tests."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iap_authz.errors import BadProof, IapError, Malformed, NotProven
from iap_authz.tlog.batch import Stage, parse_stage, plan, render_stage
from iap_authz.tlog.checkpoint import Checkpoint, parse_checkpoint, render_checkpoint
from iap_authz.tlog.cosign import CosignerKey
from iap_authz.tlog.edge import EMPTY_EDGE
from iap_authz.tlog.hashing import EMPTY_ROOT, SIZE_LIMIT_LEAVES, NodeHash, leaf_hash
from iap_authz.tlog.note import Note, SignatureLine, VerifierKey, check_note, parse_note, render_note, sign_note
from iap_authz.tlog.proof import check_consistency, check_inclusion, check_range, prove_range
from iap_authz.tlog.proof_file import ProofFile, parse_proof_file, render_proof_file
from iap_authz.tlog.tiles import (
    Bundle,
    Tile,
    new_tiles,
    parse_bundle,
    parse_bundle_path,
    parse_tile_path,
    render_bundle,
    render_bundle_path,
    render_tile_path,
    tiles_of,
)
from iap_authz.tlog.tree import CompactRange, Subtree
from tests.fakes.reference_tree import ReferenceTree
from tests.unit.tlog.tlog_keys import signed, signer

FAST = settings(max_examples=120, deadline=None)

hashes = st.binary(min_size=32, max_size=32).map(NodeHash)
sizes = st.integers(0, SIZE_LIMIT_LEAVES - 1)
names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp", "Cs"), exclude_characters="+"),
    min_size=1,
    max_size=60,
)
lines = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cs")), max_size=40)
texts = st.lists(lines, min_size=1, max_size=5).map(lambda found: ("\n".join(found) + "\n").encode())
signature_lines = st.builds(
    SignatureLine, name=names, key_id=st.binary(min_size=4, max_size=4), signature=st.binary(min_size=1, max_size=80)
)
notes = st.builds(Note, text=texts, signatures=st.lists(signature_lines, min_size=1, max_size=64).map(tuple))
checkpoints = st.builds(
    lambda origin, size, root: Checkpoint(origin=origin, size=size, root=root if size else EMPTY_ROOT),
    names,
    sizes,
    hashes,
)
tiles = st.builds(Tile, st.integers(0, 63), sizes, st.integers(1, 256))
bundles = st.builds(Bundle, sizes, st.integers(1, 256))
entries = st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=40)
proof_files = st.builds(
    ProofFile,
    index=st.integers(0, SIZE_LIMIT_LEAVES - 2),
    proof=st.lists(hashes, max_size=63).map(tuple),
    checkpoint_note=notes.map(render_note),
    extra_untrusted=st.binary(max_size=60),
)

VALUES: list[tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (notes, render_note, parse_note),
    (checkpoints, render_checkpoint, parse_checkpoint),
    (tiles, lambda tile: render_tile_path(tile).encode(), lambda data: parse_tile_path(data.decode("latin-1"))),
    (bundles, lambda one: render_bundle_path(one).encode(), lambda data: parse_bundle_path(data.decode("latin-1"))),
    (proof_files, render_proof_file, parse_proof_file),
    (entries.map(tuple), render_bundle, lambda data: parse_bundle(data, data[0] or 1)),
]
ROUND_TRIPS = pytest.mark.parametrize(
    ("values", "render", "parse"), VALUES[:5], ids=["note", "checkpoint", "tile", "bundle path", "proof file"]
)


@ROUND_TRIPS
@given(data=st.data())
@FAST
def test_what_is_rendered_parses_back(
    values: st.SearchStrategy[Any], render: Callable[[Any], bytes], parse: Callable[[bytes], Any], data: st.DataObject
) -> None:
    """parse(render(value)) == value, for every value that can exist."""
    value = data.draw(values)
    assert parse(render(value)) == value


@ROUND_TRIPS
@given(data=st.data())
@FAST
def test_what_parses_renders_back_to_the_same_bytes(
    values: st.SearchStrategy[Any], render: Callable[[Any], bytes], parse: Callable[[bytes], Any], data: st.DataObject
) -> None:
    """A parser accepts one spelling: whatever is done to good bytes, what still parses renders to itself."""
    good = render(data.draw(values))
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(
        st.sampled_from([b"", b"\n", b" ", b"0", b"=", b"A", b"\r", b"x", b"+", b"\xe2\x80\x94 ", b"/", b"."])
    )
    damaged = good[:at] + put + good[at + cut :]
    try:
        value = parse(damaged)
    except Malformed:
        return
    assert render(value) == damaged


@given(found=entries)
@FAST
def test_bundles_parse_back(found: list[bytes]) -> None:
    """Entry bundles are sequences of big-endian uint16 length-prefixed log entries (C2SP tlog-tiles)."""
    content = render_bundle(found)
    assert parse_bundle(content, len(found)) == tuple(found)
    for width in {len(found) - 1, len(found) + 1} - {0}:
        with pytest.raises(Malformed):
            parse_bundle(content, width)


@given(data=st.binary(max_size=200))
@FAST
def test_no_parser_raises_anything_else(data: bytes) -> None:
    """Bytes that do not parse raise Malformed: never another exception, whatever the bytes."""
    text = data.decode("latin-1")
    parsers: list[Callable[[], object]] = [
        lambda: parse_note(data),
        lambda: parse_checkpoint(data),
        lambda: parse_proof_file(data),
        lambda: parse_bundle(data, 2),
        lambda: parse_stage(data),
        lambda: parse_tile_path(text),
        lambda: parse_bundle_path(text),
        lambda: VerifierKey.parse(text),
        lambda: CosignerKey.parse(text),
        lambda: CompactRange.parse(0, 3, hashes=[data, data]),
    ]
    for parser in parsers:
        try:
            parser()
        except Malformed:
            continue


@given(text=texts, known=st.integers(0, 3), strangers=st.lists(signature_lines, max_size=8))
@FAST
def test_unknown_signatures_change_nothing(text: bytes, known: int, strangers: list[SignatureLine]) -> None:
    """Verifiers MUST ignore signatures from unknown keys, even if they share a name or ID (C2SP signed-note)."""
    line = signer().line(text)
    note = Note(text=text, signatures=(*strangers[:known], line, *strangers[known:]))
    assert check_note(parse_note(render_note(note)), [signer().verifier()]) == (line,)


@given(first=texts, second=texts)
@FAST
def test_a_signature_is_of_one_text(first: bytes, second: bytes) -> None:
    """The signature covers the text with its final newline (C2SP signed-note)."""
    moved = Note(text=second, signatures=sign_note(first, [signer()]).signatures)
    if first == second:
        check_note(moved, [signer().verifier()])
    else:
        with pytest.raises(NotProven):
            check_note(moved, [signer().verifier()])


@given(found=entries, steps=st.lists(st.integers(1, 40), min_size=1, max_size=6))
@FAST
def test_the_root_does_not_depend_on_the_batches(found: list[bytes], steps: list[int]) -> None:
    """The root is a function of the entries (RFC 6962 section 2.1), not of how they came."""
    tree, edge, at = CompactRange.empty(), EMPTY_EDGE, 0
    for step in [*steps, len(found)]:
        batch = found[at : at + step]
        if batch:
            made = plan(tree, batch, edge=edge)
            tree, edge, at = made.tree, made.edge, at + step
    assert tree.root() == ReferenceTree(found).root(len(found))
    assert edge.bundle == render_bundle(found)


@given(found=entries, old=entries)
@FAST
def test_stages_parse_back(found: list[bytes], old: list[bytes]) -> None:
    """A stage holds old size and root and the entries, so that recovery recomputes the rest (rule C2)."""
    made = plan(CompactRange.empty(), old, edge=EMPTY_EDGE)
    stage = Stage(edge=made.edge, root=made.tree.root(), entries=tuple(found))
    assert parse_stage(render_stage(stage)) == stage


@given(old=st.integers(0, 70_000), grown=st.integers(0, 3_000))
@settings(max_examples=40, deadline=None)
def test_new_tiles_complete_the_old_ones(old: int, grown: int) -> None:
    """The partial tile at level l for a tree of size s has floor(s / 256^l) mod 256 entries (C2SP tlog-tiles)."""
    new = old + grown
    had, have, added = set(tiles_of(old)), set(tiles_of(new)), list(new_tiles(old, new))
    assert set(added) == have - had
    assert len(added) == len(set(added))
    assert all(tile.width == 256 or tile.width == new // 256**tile.level % 256 for tile in added)


TREE = ReferenceTree.numbered(300)


@given(data=st.data(), size=st.integers(1, 300))
@FAST
def test_a_range_proof_places_its_leaves_in_one_way(data: st.DataObject, size: int) -> None:
    """Accept iff 1 <= k, 0 <= i, i + k <= n, every hash is 32 bytes and consumed, and go(0, n) is the root."""
    first = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(first + 1, size))

    def read(subtrees: Sequence[Subtree]) -> list[NodeHash]:
        return [TREE.mth(one.index << one.level, (one.index + 1) << one.level) for one in subtrees]

    proof = prove_range(first, end - first, size=size, read=read)
    leaves, root = TREE.leaves(first, end), TREE.root(size)
    check_range(leaves, first, size=size, proof=proof, root=root)
    other = data.draw(st.integers(-2, size + 2))
    cut = data.draw(st.integers(0, len(leaves)))
    if (other, cut) != (first, len(leaves)):
        with pytest.raises(BadProof):
            check_range(leaves[:cut], other, size=size, proof=proof, root=root)


@given(
    proof=st.lists(hashes, max_size=8),
    index=st.integers(-1, 40),
    size=st.integers(-1, 40),
    root=st.sampled_from([TREE.root(size) for size in range(20)]),
)
@FAST
def test_an_invented_proof_never_holds(proof: list[NodeHash], index: int, size: int, root: NodeHash) -> None:
    """No path of hashes leads from a leaf that is not in the tree to its root (RFC 6962 section 2.1)."""
    leaf = leaf_hash(b"not an entry")
    with pytest.raises(BadProof):
        check_inclusion(leaf, index, size=size, proof=proof, root=root)
    with pytest.raises(BadProof):
        check_range([leaf], index, size=size, proof=proof, root=root)
    with pytest.raises(BadProof):
        check_consistency(index, size, proof=proof, old_root=NodeHash(leaf), new_root=root)


def test_the_exceptions_of_the_log_are_those_of_the_package() -> None:
    assert issubclass(Malformed, IapError)
    assert issubclass(BadProof, NotProven)
    assert signed(TREE, 3).note.endswith(b"\n")
