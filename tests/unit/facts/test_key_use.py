# SPDX-License-Identifier: Apache-2.0
"""The file of last uses: what is merged, what is forgotten, and what is not taken for one."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import Malformed
from iap_authz.facts import key_use
from iap_authz.facts.key_use import (
    FORGOTTEN_AFTER,
    USES_FILE_MAX_BYTES,
    USES_MAX,
    KeyUses,
    merge_uses,
    parse_uses,
    render_uses,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
A, B, C = "a" * 16, "b" * 16, "c" * 16
IDS = st.sampled_from((A, B, C))
TIMES = st.datetimes(datetime(2025, 1, 1), datetime(2026, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- see timezones
USED = st.dictionaries(IDS, TIMES)


def uses(**used: datetime) -> KeyUses:
    return KeyUses(since=NOW - 100 * DAY, used={{"a": A, "b": B, "c": C}[name]: time for name, time in used.items()})


def test_the_later_time_wins() -> None:
    before = uses(a=NOW - 3 * DAY, b=NOW - DAY)
    merged = merge_uses(before, {A: NOW - DAY, B: NOW - 2 * DAY, C: NOW}, known=frozenset((A, B, C)), now=NOW)
    assert merged.used == {A: NOW - DAY, B: NOW - DAY, C: NOW}
    assert merged.since == before.since


def test_a_key_that_is_gone_is_forgotten_after_a_while_and_one_that_is_there_never() -> None:
    old, young = NOW - FORGOTTEN_AFTER - SECOND, NOW - FORGOTTEN_AFTER
    before = uses(a=old, b=old, c=young)
    assert merge_uses(before, {}, known=frozenset((A,)), now=NOW).used == {A: old, C: young}
    assert merge_uses(before, {}, known=None, now=NOW).used == before.used, "nobody knows which keys there are"


def test_a_clock_that_was_ahead_hides_nothing() -> None:
    merged = merge_uses(uses(a=NOW + 900 * DAY), {B: NOW + DAY}, known=None, now=NOW)
    assert merged.used == {A: NOW, B: NOW}
    ahead = KeyUses(since=NOW + DAY, used={})
    assert merge_uses(ahead, {}, known=None, now=NOW).since == NOW


def test_what_is_written_is_bounded_and_the_latest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_use, "USES_MAX", 2)
    merged = merge_uses(uses(a=NOW - 2 * DAY, b=NOW - 3 * DAY), {C: NOW}, known=None, now=NOW)
    assert merged.used == {A: NOW - 2 * DAY, C: NOW}


def test_the_largest_file_that_is_written_can_be_read() -> None:
    largest = KeyUses(since=NOW, used={f"{number:016x}": NOW for number in range(USES_MAX)})
    content = render_uses(largest)
    assert len(content) <= USES_FILE_MAX_BYTES
    assert parse_uses(content) == largest


@given(USED, USED, st.none() | st.frozensets(IDS), TIMES)
def test_a_merge_takes_no_use_back_and_reads_as_it_was_written(
    before: dict[str, datetime], noted: dict[str, datetime], known: frozenset[str] | None, now: datetime
) -> None:
    merged = merge_uses(KeyUses(since=NOW, used=before), noted, known=known, now=now)
    for key_id in {*before, *noted}:
        last = min(max(each[key_id] for each in (before, noted) if key_id in each), now)
        is_kept = known is None or key_id in known or last >= now - FORGOTTEN_AFTER
        assert merged.used.get(key_id) == (last if is_kept else None)
    seconds = KeyUses(
        since=merged.since.replace(microsecond=0),
        used={key_id: time.replace(microsecond=0) for key_id, time in merged.used.items()},
    )
    assert parse_uses(render_uses(merged)) == seconds


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind": "ApiKeysUsed", "since": 1}',
        b'{"kind": "ApiKeysUsed", "since": 1, "used": []}',
        b'{"kind": "Other", "since": 1, "used": {}}',
        b'{"kind": "ApiKeysUsed", "since": 1, "used": {}, "more": 1}',
        b'{"kind": "ApiKeysUsed", "since": 1.5, "used": {}}',
        b'{"kind": "ApiKeysUsed", "since": "1", "used": {}}',
        b'{"kind": "ApiKeysUsed", "since": -1, "used": {}}',
        b'{"kind": "ApiKeysUsed", "since": 999999999999, "used": {}}',
        b'{"kind": "ApiKeysUsed", "since": 1, "used": {"A": 1}}',
        b'{"kind": "ApiKeysUsed", "since": 1, "used": {"aaaaaaaaaaaaaaaa": 1, "aaaaaaaaaaaaaaaa": 2}}',
        b'{"kind": "ApiKeysUsed", "since": 1, "used": {"aaaaaaaaaaaaaaaa": null}}',
        b" " * (USES_FILE_MAX_BYTES + 1),
    ],
    ids=lambda content: content[-30:].decode(),
)
def test_what_is_no_such_file_is_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        parse_uses(content)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps({"used": {text: 1}}).encode()))
def test_any_bytes_are_malformed_and_nothing_else(content: bytes) -> None:
    with pytest.raises(Malformed):
        parse_uses(content)
