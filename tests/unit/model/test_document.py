# SPDX-License-Identifier: Apache-2.0
"""YAML with positions: what is refused, and what plain scalars mean."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import ConfigInvalid
from iap_authz.model.document import Faults, parse_document, render_duration


def first_fault(content: bytes) -> str:
    faults = Faults("f.yaml")
    assert parse_document(content, faults) is None
    return str(faults.found[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: &x 1", "f.yaml:1:4: got an anchor, alias or tag, want plain values"),
        (b"a: *x", "f.yaml:1:4: got an anchor, alias or tag, want plain values"),
        (b"a: !!python/object:os.system 1", "f.yaml:1:4: got an anchor, alias or tag, want plain values"),
        (b"- 1", "f.yaml:1:1: got a list, want a mapping"),
        (b"", "f.yaml: got nothing, want a mapping"),
        (b"\xff", "f.yaml: got a byte that is not UTF-8 at offset 0, want UTF-8"),
        (b"a: [", "f.yaml: not YAML: expected the node content, but found '<stream end>' at line 1, column 5"),
        (b"[" * 100, "f.yaml:1:64: got more than 64 levels"),
        (b"a: 1\n---\nb: 2", "f.yaml: not YAML: but found another document at line 2, column 1"),
        (b"a: " + b"x" * (16 * 1024 * 1024), "f.yaml: got 16777219 bytes, want at most 16777216"),
    ],
)
def test_refused_document(content: bytes, message: str) -> None:
    assert first_fault(content) == message


@given(st.binary(max_size=80) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@`\n\t ,?", max_size=60).map(str.encode))
def test_any_bytes_give_a_section_or_a_fault(content: bytes) -> None:
    faults = Faults("f.yaml")
    assert (parse_document(content, faults) is None) == bool(faults.found) or faults.found


def test_doubled_key_is_a_fault() -> None:
    faults = Faults("f.yaml")
    parse_document(b"a: 1\na: 2\n", faults)
    assert [str(fault) for fault in faults.found] == ["f.yaml:2:1: a: got this key twice"]


@pytest.mark.parametrize("text", ["012", "0x10", "1_000", "+1", "1.0", "1e3", "'1'", "yes", "21", "-1"])
def test_whole_numbers_are_written_one_way(text: str) -> None:
    faults = Faults("f.yaml")
    section = parse_document(f"n: {text}".encode(), faults)
    assert section is not None
    section.take_integer("n", least=0, most=20)
    with pytest.raises(ConfigInvalid, match="want a whole number from 0 to 20"):
        faults.check(ConfigInvalid)


@pytest.mark.parametrize("text", ["yes", "on", "True", "TRUE", "1", "'true'", "[true]"])
def test_booleans_are_written_one_way(text: str) -> None:
    faults = Faults("f.yaml")
    section = parse_document(f"b: {text}".encode(), faults)
    assert section is not None
    section.take_boolean("b")
    with pytest.raises(ConfigInvalid, match="want true or false"):
        faults.check(ConfigInvalid)


@pytest.mark.parametrize("text", ["no", "5", "1.5", "true", "null", "2026-11-24"])
def test_text_that_yaml_reads_as_something_else_must_be_quoted(text: str) -> None:
    faults = Faults("f.yaml")
    section = parse_document(f"list: [{text}]\nquoted: '{text}'".encode(), faults)
    assert section is not None
    assert section.take_text("quoted") == text
    found = section.take_texts("list")
    assert found == (text,) if text in ("no", "2026-11-24") else not found


@pytest.mark.parametrize(
    "span",
    [timedelta(milliseconds=150), timedelta(seconds=30), timedelta(minutes=5), timedelta(hours=1), timedelta(days=45)],
)
def test_durations_render_as_they_are_read(span: timedelta) -> None:
    section = parse_document(f"d: {render_duration(span)}".encode(), Faults("f.yaml"))
    assert section is not None
    assert section.take_duration("d", least=timedelta(0), most=timedelta(days=365)) == span
