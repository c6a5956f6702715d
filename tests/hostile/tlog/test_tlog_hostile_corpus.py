# SPDX-License-Identifier: Apache-2.0
"""The hostile inputs that concern the log itself. A test's id starts with the number of its row in the corpus.

Each case is an attempt and the exception it must end in. The attempts of one row share what an honest log would have
answered, so that each is wrong in one respect only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pytest

from iap_authz.errors import BadProof, BadSignature, Fork, IapError, Malformed
from iap_authz.tlog.batch import plan
from iap_authz.tlog.checkpoint import open_checkpoint, parse_checkpoint, render_checkpoint
from iap_authz.tlog.cosign import CosignerKey, check_cosignatures, check_quorum, cosign
from iap_authz.tlog.edge import EMPTY_EDGE, Edge
from iap_authz.tlog.hashing import EMPTY_ROOT, LeafIndex, NodeHash, check_size, leaf_hash, node_hash
from iap_authz.tlog.note import (
    KeyType,
    Note,
    NoteSigner,
    SignatureLine,
    VerifierKey,
    add_signatures,
    check_note,
    parse_note,
    render_note,
    sign_note,
)
from iap_authz.tlog.proof import check_consistency, check_inclusion, check_range, prove_inclusion
from iap_authz.tlog.proof_file import ProofFile, check_proof_file, parse_proof_file, render_proof_file
from iap_authz.tlog.receipt import Receipt, check_receipt
from iap_authz.tlog.text import render_base64
from iap_authz.tlog.tiles import (
    Bundle,
    Tile,
    check_bundle_of,
    check_tile_of,
    locate,
    parse_bundle_path,
    parse_tile,
    parse_tile_path,
    render_bundle,
    tiles_of,
)
from iap_authz.tlog.tree import CompactRange, Subtree
from tests.fakes.reference_tree import ReferenceTree
from tests.unit.tlog.tlog_keys import ORIGIN, checkpoint, cosigner, ml_dsa_cosigner, signed, signer

TREE = ReferenceTree.numbered(70)
EVIL = ReferenceTree([b"evil", *TREE.entries[1:]])
SIZE, INDEX = 21, 13
LEAF, PATH, ROOT = TREE.leaf(INDEX), TREE.path(INDEX, SIZE), TREE.root(SIZE)
VERIFIER = signer().verifier()
NOTE = signed(TREE, SIZE).note
TEXT = parse_note(NOTE).text
NOW = 1_800_000_000
JUNK = NodeHash(b"\x5a" * 32)


Row = tuple[int, str, Callable[[], object], type[IapError]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attempt against row `row`, and how it must end."""

    row: int
    name: str
    attempt: Callable[[], object]
    ends_in: type[IapError]


def inclusion(**change: Any) -> Callable[[], None]:
    given: dict[str, Any] = {"leaf": LEAF, "index": INDEX, "size": SIZE, "proof": PATH, "root": ROOT, **change}
    leaf, index = given.pop("leaf"), given.pop("index")
    return lambda: check_inclusion(leaf, index, **given)


def consistency(**change: Any) -> Callable[[], None]:
    given = {"old": 6, "new": SIZE, "proof": TREE.proof(6, SIZE), "old_root": TREE.root(6), "new_root": ROOT, **change}
    old, new = given.pop("old"), given.pop("new")
    return lambda: check_consistency(old, new, **given)


def proof_cases() -> Iterator[Row]:
    for wrong in (SIZE, SIZE + 1, 1 << 40):
        yield 232, f"index {wrong} of {SIZE}", inclusion(index=wrong), BadProof
    for name, proof in {
        "too short": PATH[:-1],
        "without its head": PATH[1:],
        "empty": [],
        "too long": [*PATH, JUNK],
        "leading garbage": [JUNK, *PATH],
        "root appended": [*PATH, ROOT],
        "leaf prepended": [LEAF, *PATH],
        "node doubled": [PATH[0], *PATH],
        "node removed": [PATH[0], *PATH[2:]],
        "one bit flipped": [*PATH[:2], bytes([PATH[2][0] ^ 1]) + PATH[2][1:], *PATH[3:]],
        "hash of 31 bytes": [PATH[0][:31], *PATH[1:]],
        "hash of 33 bytes": [PATH[0] + b"\x00", *PATH[1:]],
        "two hashes glued": [PATH[0] + PATH[1], *PATH[2:]],
        "reversed": PATH[::-1],
        "64 hashes": [JUNK] * 64,
    }.items():
        yield 234, name, inclusion(proof=proof), BadProof
    for index in (INDEX ^ 2, INDEX + 1, INDEX - 1):
        yield 235, f"index {index}", inclusion(index=index), BadProof
    for size in (SIZE * 2, SIZE // 2, 16):
        yield 235, f"size {size}", inclusion(size=size), BadProof
    for name, proof in {"one hash": [JUNK], "its own root": [TREE.root(1)], "empty hash": [b""]}.items():
        alone = inclusion(leaf=TREE.leaf(0), index=0, size=1, proof=proof, root=TREE.root(1))
        yield 237, f"size 1 with {name}", alone, BadProof
    for name, change in {
        "from 22 to 21": {"old": 22},
        "from 0": {"old": 0, "old_root": EMPTY_ROOT},
        "from 0 with an empty proof": {"old": 0, "old_root": EMPTY_ROOT, "proof": []},
        "equal sizes with a proof": {"old": SIZE, "old_root": ROOT},
        "equal sizes, other roots": {"old": SIZE, "old_root": TREE.root(20), "proof": []},
        "other sizes, empty proof": {"proof": []},
        "a power of two with its own root": {
            "old": 8,
            "old_root": TREE.root(8),
            "proof": [TREE.root(8), *TREE.proof(8, SIZE)],
        },
    }.items():
        yield 238, name, consistency(**change), BadProof
    for edge in (1 << 63, (1 << 64) - 1, -1, -(1 << 63)):
        yield 240, f"inclusion size {edge}", inclusion(size=edge), BadProof
        yield 240, f"inclusion index {edge}", inclusion(index=edge), BadProof
        yield 240, f"consistency new {edge}", consistency(new=edge), BadProof
        yield 240, f"consistency old {edge}", consistency(old=edge), BadProof
        yield (
            240,
            f"range {edge}",
            lambda edge=edge: check_range([LEAF], edge, size=SIZE, proof=PATH, root=ROOT),
            BadProof,
        )
        yield 240, f"prove {edge}", lambda edge=edge: prove_inclusion(0, edge, read=lambda _: []), Malformed
        yield 240, f"size {edge}", lambda edge=edge: check_size(edge), Malformed
    yield 241, "another entry", inclusion(leaf=leaf_hash(b"substituted")), BadProof
    yield 241, "the entry beside it", inclusion(leaf=TREE.leaf(INDEX + 1)), BadProof
    yield (
        241,
        "the hash of the entry without its prefix",
        inclusion(leaf=sha256(TREE.entries[INDEX]).digest()),
        BadProof,
    )
    extra = [*TREE.leaves(INDEX, INDEX + 1), leaf_hash(b"smuggled")]
    yield (
        242,
        "a second entry beside the proven one",
        lambda: check_range(extra, INDEX, size=SIZE, proof=TREE.outside(INDEX, INDEX + 1, SIZE), root=ROOT),
        BadProof,
    )
    yield (
        242,
        "a hash that is not needed",
        lambda: check_range(TREE.leaves(0, SIZE), 0, size=SIZE, proof=[JUNK], root=ROOT),
        BadProof,
    )


def tile_cases() -> Iterator[Row]:
    yield 244, "empty tile", lambda: parse_tile(b"", 0), Malformed
    yield 244, "tile of width 0", lambda: Tile(0, 0, 0), Malformed
    yield 244, "narrower than named", lambda: parse_tile(b"x" * 32 * 111, 112), Malformed
    yield 244, "wider than named", lambda: parse_tile(b"x" * 32 * 113, 112), Malformed
    yield 244, "wider than a tile", lambda: parse_tile(b"x" * 32 * 257, 257), Malformed
    yield 244, "half a hash", lambda: parse_tile(b"x" * 48, 1), Malformed
    yield 244, "partial tile hashed upward", lambda: locate(Subtree(8, 273), 70_000), Malformed
    yield 244, "tile beyond the tree", lambda: check_tile_of(Tile(0, 273, 113), 70_000), Malformed
    yield 244, "bundle beyond the tree", lambda: check_bundle_of(Bundle(274, 1), 70_000), Malformed
    yield 244, "edge with a wider tile", lambda: Edge(size=5, tiles=(b"x" * 32 * 6,), bundle=b"x"), Malformed
    for path in (
        "tile/0/x001",
        "tile/0/x001/",
        "tile/0/001/000",
        "tile/0/x000/000",
        "tile/0/x000/x001/000",
        "tile/0/1000",
        "tile/0/1",
        "tile/0/0000",
        "tile/0/-1",
        "tile/0/-01",
        "tile/-1/000",
        "tile/00/000",
        "tile/01/000",
        "tile/+1/000",
        "tile/64/000",
        "tile/100/000",
        "tile/1e1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p/-1",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1/",
        "tile/0/000/",
        "tile/0//000",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/000 ",
        "tile/0/X001/000",
        "tile/0/x001/x000",
        "tile/0/../0/000",
        "tile/0/%30%30%30",
        "tile/0/\u0661\u0661\u0661",
        "tile/\u0661/000",
        "tile/0/x009/x223/x372/x036/x854/x775/808",
        "tile/0/" + "x999/" * 12 + "999",
        "tile/0/" + "x999/" * 10_000 + "999",
        "tile/entries/000",
        "checkpoint",
        "",
    ):
        yield 245, f"{path[:40]} ({len(path)})", lambda path=path: parse_tile_path(path), Malformed
        bundle = path.replace("tile/0/", "tile/entries/") if "entries" not in path else "tile/0/000"
        yield 245, f"bundle {bundle[:40]} ({len(bundle)})", lambda bundle=bundle: parse_bundle_path(bundle), Malformed
    for length in (0, 65_536, 100 << 20):
        make = lambda length=length: plan(CompactRange.empty(), [bytes(length)], edge=EMPTY_EDGE)  # noqa: E731
        yield 247, f"leaf of {length} bytes", make, Malformed


def receipt_of(tree: ReferenceTree, size: int, last: int) -> Receipt:
    return Receipt(
        first_index=LeafIndex(3),
        count=2,
        range_proof=tuple(tree.outside(3, 5, size)),
        checkpoint_note=signed(tree, size).note,
        consistency_proof=tuple(tree.proof(*sorted((last, size)))),
    )


def head_cases() -> Iterator[Row]:
    def received(tree: ReferenceTree, size: int, last: int) -> Callable[[], object]:
        return lambda: check_receipt(
            receipt_of(tree, size, last), tree.leaves(3, 5), verifier=VERIFIER, last_checkpoint=signed(TREE, last)
        )

    yield 248, "smaller than the last seen", received(TREE, 20, 21), BadProof
    yield 248, "smaller, and of another tree", received(EVIL, 20, 21), BadProof
    yield 250, "two trees of one size", received(EVIL, 21, 21), Fork
    yield 250, "another tree, grown", received(EVIL, 30, 21), BadProof
    size_line = TEXT.split(b"\n")[1]
    for size in (
        "007",
        "+7",
        " 7",
        "7 ",
        "1_0",
        "\u0661",
        "",
        "-0",
        "-1",
        "0x7",
        "7.0",
        "1e1",
        "9223372036854775808",
        "9" * 5_000,
        "00",
    ):
        text = TEXT.replace(b"\n" + size_line + b"\n", b"\n" + size.encode() + b"\n")
        yield 254, f"size {size[:20]!a}", lambda text=text: parse_checkpoint(text), Malformed
    url_root = next(root for root in (TREE.root(size) for size in range(1, 70)) if b"+" in render_base64(root).encode())
    good = render_base64(ROOT)
    for name, root in {
        "url-safe": render_base64(url_root).replace("+", "-").replace("/", "_"),
        "unpadded": good.rstrip("="),
        "stray bits": good[:-2] + chr(ord(good[-2]) + 1) + "=",
        "31 bytes": render_base64(ROOT[:31]),
        "33 bytes": render_base64(ROOT + b"\x00"),
        "empty": "",
        "a space inside": good[:10] + " " + good[10:],
        "a newline inside": good[:10] + "\n" + good[10:],
        "padded twice": good + "=",
        "hex": ROOT.hex(),
    }.items():
        text = f"{ORIGIN}\n{SIZE}\n{root}\n".encode()
        yield 255, f"root {name}", lambda text=text: parse_checkpoint(text), Malformed
    for name, root in {"of another size": TREE.root(1), "of zeros": bytes(32)}.items():
        text = f"{ORIGIN}\n0\n{render_base64(root)}\n".encode()
        yield 255, f"root {name} at size 0", lambda text=text: parse_checkpoint(text), Malformed


def note_cases() -> Iterator[Row]:
    for name, data in {
        "no final newline": NOTE[:-1],
        "carriage returns": NOTE.replace(b"\n", b"\r\n"),
        "one carriage return": NOTE.replace(b"\n", b"\r\n", 1),
        "tab": NOTE.replace(ORIGIN.encode(), b"log\t.example", 1),
        "NUL": NOTE.replace(ORIGIN.encode(), b"log\x00.example", 1),
        "escape": NOTE.replace(ORIGIN.encode(), b"log\x1b.example", 1),
        "delete": NOTE.replace(ORIGIN.encode(), b"log\x7f.example", 1),
        "U+0085": NOTE.replace(ORIGIN.encode(), "log\u0085.example".encode(), 1),
        "U+2028": NOTE.replace(ORIGIN.encode(), "log\u2028.example".encode(), 1),
        "U+2029": NOTE.replace(ORIGIN.encode(), "log\u2029.example".encode(), 1),
        "invalid UTF-8": NOTE.replace(ORIGIN.encode(), b"log\xff.example", 1),
        "overlong UTF-8": NOTE.replace(b"/", b"\xc0\xaf", 1),
        "surrogate": NOTE.replace(ORIGIN.encode(), b"log\xed\xa0\x80", 1),
        "hyphen for a dash": NOTE.replace("\u2014".encode(), b"-"),
        "en dash": NOTE.decode().replace("\u2014", "\u2013").encode(),
        "two spaces": NOTE.replace("\u2014 ".encode(), "\u2014  ".encode()),
        "no-break space": NOTE.replace("\u2014 ".encode(), "\u2014\u00a0".encode()),
        "trailing text": NOTE + b"trailing\n",
        "trailing empty line": NOTE + b"\n",
        "no signature": TEXT + b"\n",
        "no empty line": NOTE.replace(b"\n\n", b"\n"),
        "empty": b"",
    }.items():
        yield 257, name, lambda data=data: open_checkpoint(data, VERIFIER), Malformed
    forged = "\u2014 witness.example/w1 AAAAAAAA"
    for name, text in {
        "blank line in the text": TEXT.replace(b"\n", b"\n\n", 1),
        "blank line after the text": TEXT + b"\n",
        "two blank lines": TEXT + b"\n\n",
        "signature-looking line in the text": TEXT + forged.encode() + b"\n",
        "signatures in the text": TEXT + b"\n" + forged.encode() + b"\n",
        "extension line": TEXT + b"extension\n",
        "a second checkpoint": TEXT + b"\n" + TEXT,
        "two lines": TEXT.rsplit(b"\n", 2)[0] + b"\n",
    }.items():
        data = render_note(sign_note(text, [signer()]))
        yield 258, name, lambda data=data: open_checkpoint(data, VERIFIER), Malformed
    good, second = signer().line(TEXT), signer("other.example", 2)
    bad = replace(second.line(TEXT), signature=second.line(b"other\n").signature)
    known = [VERIFIER, second.verifier()]
    for name, lines in {
        "after": (good, bad),
        "before": (bad, good),
        "after its own good one": (good, second.line(TEXT), bad),
    }.items():
        yield (
            260,
            f"bad signature {name}",
            lambda lines=lines: check_note(Note(text=TEXT, signatures=lines), known),
            BadSignature,
        )
    unknown = signer("stranger.example", 3)
    yield 261, "only unknown signatures", lambda: check_note(sign_note(TEXT, [unknown]), known), BadSignature
    yield 261, "65 signatures", lambda: parse_note(TEXT + b"\n" + good.render() * 65), Malformed
    yield 261, "a million signatures", lambda: parse_note(TEXT + b"\n" + good.render() * 1_000_000), Malformed
    yield 261, "more than 1 MiB", lambda: parse_note(b"x" * (1 << 20) + NOTE), Malformed
    colliding = SignatureLine(name=ORIGIN, key_id=good.key_id, signature=signer(seed=5).line(TEXT).signature)
    yield (
        262,
        "the attacker's key under our name and id",
        lambda: check_note(Note(text=TEXT, signatures=(colliding,)), known),
        BadSignature,
    )
    for name, change in {"only the name": {"key_id": b"\x00" * 4}, "only the id": {"name": "attacker.example"}}.items():
        line = replace(colliding, **change)
        yield 262, name, lambda line=line: check_note(Note(text=TEXT, signatures=(line,)), known), BadSignature
    yield (
        262,
        "key text with the id of another key",
        lambda: VerifierKey.parse(
            signer(seed=5).verifier().render().replace(signer(seed=5).verifier().key_id.hex(), VERIFIER.key_id.hex())
        ),
        Malformed,
    )


def cosignature_cases() -> Iterator[Row]:
    one, alias, other = cosigner(), cosigner("witness.example/alias"), cosigner("witness.example/w2", 12)
    post_quantum = ml_dsa_cosigner(one.key.name)
    head = parse_note(NOTE)

    def with_time(time: int) -> Note:
        """A cosignature that its key really made, over this time."""
        message = b"cosignature/v1\ntime %d\n" % time + head.text
        payload = time.to_bytes(8, "big") + one.sign(message)
        return add_signatures(head, [SignatureLine(name=one.key.name, key_id=one.key.key_id, signature=payload)])

    for time in (0, 1 << 63, (1 << 64) - 1, NOW + 301, NOW + 10 * 365 * 86_400):
        yield (
            264,
            f"time {time}",
            lambda time=time: check_quorum(with_time(time), [one.key], k=1, now_seconds=NOW),
            BadSignature,
        )
    line = cosign(head.text, one, time_seconds=NOW)
    shifted = replace(line, signature=(NOW + 1).to_bytes(8, "big") + line.signature[8:])
    yield (
        264,
        "time changed",
        lambda: check_cosignatures(add_signatures(head, [shifted]), [one.key], now_seconds=NOW),
        BadSignature,
    )
    for name, second in {"the same line": one, "another name": alias, "another key": post_quantum}.items():
        lines = [line, cosign(head.text, second, time_seconds=NOW)]
        yield (
            265,
            f"one witness twice, {name}",
            lambda lines=lines, second=second: check_quorum(
                add_signatures(head, lines), [one.key, second.key, other.key], k=2, now_seconds=NOW
            ),
            BadSignature,
        )
    as_log = Note(
        text=head.text, signatures=(SignatureLine(name=ORIGIN, key_id=VERIFIER.key_id, signature=line.signature[8:]),)
    )
    yield 268, "a cosignature as the log's signature", lambda: check_note(as_log, [VERIFIER]), BadSignature
    twin = CosignerKey(name=ORIGIN, key_type=KeyType.COSIGNATURE_ED25519, public_key=signer().public_key)
    replayed = SignatureLine(
        name=ORIGIN, key_id=twin.key_id, signature=NOW.to_bytes(8, "big") + signer().line(head.text).signature
    )
    yield (
        268,
        "the log's signature as a cosignature",
        lambda: check_note(Note(text=head.text, signatures=(replayed,)), [twin]),
        BadSignature,
    )
    foreign = render_checkpoint(checkpoint(TREE, SIZE, origin="other.example"))
    moved = Note(text=foreign, signatures=head.signatures)
    yield 268, "a signature moved to another log", lambda: open_checkpoint(render_note(moved), VERIFIER), BadSignature
    signed_foreign = sign_note(foreign, [NoteSigner(name=ORIGIN, public_key=signer().public_key, sign=signer().sign)])
    yield (
        268,
        "our key under another origin",
        lambda: open_checkpoint(render_note(signed_foreign), VERIFIER),
        BadSignature,
    )


def proof_file_cases() -> Iterator[Row]:
    claimed = ProofFile(
        index=LeafIndex(INDEX), proof=tuple(PATH), checkpoint_note=NOTE, extra_untrusted=TREE.entries[INDEX]
    )
    yield (
        277,
        "extra names the entry, another is held",
        lambda: check_proof_file(claimed, leaf_hash(b"held"), verifier=VERIFIER),
        BadProof,
    )
    hidden = render_proof_file(claimed).replace(
        b"index 13\n", b"index 13\nextra " + render_base64(b"x").encode() + b"\n"
    )
    yield 277, "extra among the hashes", lambda: parse_proof_file(hidden), Malformed


CASES = [
    Case(row=row, name=name, attempt=attempt, ends_in=ends_in)
    for cases in (proof_cases, tile_cases, head_cases, note_cases, cosignature_cases, proof_file_cases)
    for row, name, attempt, ends_in in cases()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row}-{case.name}")
def test_refused(case: Case) -> None:
    with pytest.raises(case.ends_in) as caught:
        case.attempt()
    message = str(caught.value)
    assert len(message) < 600
    assert "\n" not in message
    assert not message.endswith(".")


def test_230_a_leaf_is_never_a_node() -> None:
    left, right = TREE.root(1), TREE.root(2)
    for entry in (b"\x01" + left + right, left + right):
        assert leaf_hash(entry) != node_hash(left, right)
    pair = TREE.mth(0, 1) + TREE.mth(1, 2)
    with pytest.raises(BadProof):
        check_inclusion(leaf_hash(pair), 0, size=1, proof=[], root=TREE.root(2))
    with pytest.raises(BadProof):
        check_inclusion(leaf_hash(pair), 0, size=11, proof=TREE.path(0, SIZE)[1:], root=ROOT)


@pytest.mark.parametrize("size", [3, 5, 6, 7, 13])
def test_231_an_odd_node_is_promoted_not_doubled(size: int) -> None:
    row = TREE.leaves(0, size)
    while len(row) > 1:
        doubled = row + row[-1:] if len(row) % 2 else row
        row = [node_hash(doubled[at], doubled[at + 1]) for at in range(0, len(doubled), 2)]
    tree = CompactRange.empty().extend(TREE.leaves(0, size))
    assert tree.root() == TREE.root(size) != row[0]
    twice = CompactRange.empty().extend([*TREE.leaves(0, size), TREE.leaf(size - 1)])
    assert twice.root() != tree.root()


def test_237_a_tree_of_one_leaf_has_the_empty_proof() -> None:
    check_inclusion(TREE.leaf(0), 0, size=1, proof=[], root=TREE.root(1))


def test_244_no_tile_of_a_log_holds_a_partial_one() -> None:
    for size in range(1, 1200):
        for tile in tiles_of(size):
            assert (tile.index * 256 + tile.width) * 256**tile.level <= size
            assert tile.width >= 1


@pytest.mark.parametrize("length", [1, 65_535])
def test_247_leaves_within_the_bounds_are_taken(length: int) -> None:
    made = plan(CompactRange.empty(), [bytes(length)], edge=EMPTY_EDGE)
    assert made.edge.bundle == render_bundle([bytes(length)])


def test_250_the_evidence_of_a_split_view_is_both_notes() -> None:
    with pytest.raises(Fork) as caught:
        check_receipt(receipt_of(EVIL, 21, 21), EVIL.leaves(3, 5), verifier=VERIFIER, last_checkpoint=signed(TREE, 21))
    heads = [open_checkpoint(note, VERIFIER) for note in caught.value.evidence]
    assert [head.size for head in heads] == [21, 21]
    assert heads[0].root != heads[1].root


def test_258_the_text_ends_at_the_last_blank_line() -> None:
    text = b"a\n\nb\n\n\xe2\x80\x94 c AAAAAAAA\n"
    assert parse_note(render_note(sign_note(text, [signer()]))).text == text


def test_261_sixteen_signatures_and_unknown_ones_are_accepted() -> None:
    strangers = [signer(f"stranger.example/{number}", number + 2) for number in range(63)]
    for count in (15, 63):
        note = sign_note(TEXT, [*strangers[:count], signer()])
        assert check_note(parse_note(render_note(note)), [VERIFIER]) == (signer().line(TEXT),)


def test_277_extra_changes_nothing() -> None:
    for extra in (b"", b"index 99", b"\x00" * 100, NOTE):
        made = ProofFile(index=LeafIndex(INDEX), proof=tuple(PATH), checkpoint_note=NOTE, extra_untrusted=extra)
        assert check_proof_file(parse_proof_file(render_proof_file(made)), LEAF, verifier=VERIFIER) == checkpoint(
            TREE, SIZE
        )
