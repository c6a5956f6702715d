# SPDX-License-Identifier: Apache-2.0
"""What strangers send to the log's servers, where it is parsed: any bytes give one resource or a typed error."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iap_authz.adapters.audit_grpc.refusal import DETAILS_KEY, TEXT_MAX_BYTES, render_refusal
from iap_authz.adapters.http.resource import CHECKPOINT, accepts_gzip, names_tag, parse_target
from iap_authz.errors import IapError, LogFrozen, Malformed, NotFound
from iap_authz.tlog.tiles import Bundle, Tile, render_bundle_path, render_tile_path

NEAR = st.text(alphabet="/tile0123456789xentris.p%2ehckbo\\?#- ", max_size=60).map(lambda text: f"/{text}".encode())
PLACES = st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 256))


@given(target=st.one_of(st.binary(max_size=80), NEAR), entries=st.booleans())
@example(target=b"/tile/0/000.p/256", entries=True)
@example(target=b"/tile/0/x000/000", entries=True)
@example(target=b"/checkpoint\n", entries=True)
@example(target=b"//checkpoint", entries=True)
@example(target=b"/tile/0/000\n", entries=True)
def test_row_245_a_target_names_a_resource_byte_for_byte_or_nothing(*, target: bytes, entries: bool) -> None:
    try:
        resource = parse_target(target, serve_entries=entries)
    except (Malformed, NotFound):
        return
    assert target == b"/" + resource.path.encode()
    assert resource is CHECKPOINT or resource.path.startswith("tile/")
    assert entries or not resource.compressible


@given(PLACES, st.integers(0, 63))
def test_every_tile_and_bundle_has_a_target(place: tuple[int, int], level: int) -> None:
    index, width = place
    for path in (render_tile_path(Tile(level, index, width)), render_bundle_path(Bundle(index, width))):
        assert parse_target(f"/{path}".encode(), serve_entries=True).path == path


@pytest.mark.parametrize(
    "secret", ["stage/00000000000000000001-00", "head", "lock", "checkpoint.lock", "tile", "notes"]
)
def test_nothing_else_of_a_store_has_a_target(secret: str) -> None:
    for target in (secret, f"/{secret}", f"/tile/{secret}", f"/tile/0/../../{secret}", f"/tile/entries/{secret}"):
        with pytest.raises(Malformed):
            parse_target(target.encode(), serve_entries=True)


@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_negotiation_gives_an_answer(lines: list[str]) -> None:
    assert accepts_gzip(lines) in {True, False}
    assert names_tag([*lines, '"tag"'], '"tag"')


@given(st.text(st.characters(), max_size=2000))
def test_any_text_of_an_error_fits_a_trailer(text: str) -> None:
    refusal = render_refusal(LogFrozen(text))
    assert len(refusal.text.encode()) <= TEXT_MAX_BYTES
    ((key, details),) = refusal.metadata
    assert key == DETAILS_KEY
    assert len(details) <= TEXT_MAX_BYTES + 200
    assert render_refusal(IapError(text)).metadata == ()
