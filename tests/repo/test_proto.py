# SPDX-License-Identifier: Apache-2.0
"""proto/ is the contract: the generated code is what it says, its enums are the model's, its types are explained."""

import re
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.model.reason import Durability, Reason, State, Verdict
from tests.repo.tree import ROOT, files, shown

FILES = (log_pb2.DESCRIPTOR, record_pb2.DESCRIPTOR, facts_pb2.DESCRIPTOR, reason_pb2.DESCRIPTOR)

DECLARED = re.compile(r"\s*(message|enum|service|rpc)\s+(\w+)")


def test_the_generated_code_is_what_proto_says() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "generate_protos.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "")


def all_enums() -> Iterator[EnumDescriptor]:
    """Every enum of proto/, those in messages too."""
    for file in FILES:
        yield from file.enum_types_by_name.values()
        for message in file.message_types_by_name.values():
            yield from message.enum_types


@pytest.mark.parametrize("descriptor", list(all_enums()), ids=lambda descriptor: str(descriptor.full_name))
def test_an_enum_has_one_name_a_number_and_begins_unspecified(descriptor: EnumDescriptor) -> None:
    numbers = [value.number for value in descriptor.values]
    assert len(numbers) == len(set(numbers))
    assert descriptor.values[0].number == 0
    assert descriptor.values[0].name.endswith("_UNSPECIFIED")


@pytest.mark.parametrize(
    ("enum", "descriptor", "prefix"),
    [
        (Reason, reason_pb2.DESCRIPTOR.enum_types_by_name["Reason"], "REASON_"),
        (Verdict, record_pb2.DESCRIPTOR.enum_types_by_name["Verdict"], ""),
        (Durability, record_pb2.DESCRIPTOR.enum_types_by_name["Durability"], ""),
        (State, facts_pb2.DESCRIPTOR.enum_types_by_name["State"], ""),
    ],
    ids=["Reason", "Verdict", "Durability", "State"],
)
def test_the_model_has_the_same_enum(enum: type[IntEnum], descriptor: EnumDescriptor, prefix: str) -> None:
    ours = {f"{prefix}{member.name}": member.value for member in enum}
    assert ours == {value.name: value.number for value in descriptor.values if value.number}


def unexplained(source: str) -> Iterator[tuple[int, str]]:
    """Types without a word: no comment above, on or in them. A Request and a Response are explained by their call.

    A heading (`// ---- writers`) above the first type of its section counts; loose, on purpose: this finds what nobody
    has thought of, not what is badly explained.
    """
    lines = source.splitlines()
    for at, line in enumerate(lines):
        found = DECLARED.match(line)
        if not found or found[1] == "rpc" or re.search(r"(Request|Response)$", found[2]):
            continue
        above = next((text for text in reversed(lines[:at]) if text.strip()), "")
        if not (above.lstrip().startswith("//") or "//" in line or "//" in "".join(body_of(lines[at:]))):
            yield at + 1, found[2]


def body_of(lines: list[str]) -> Iterator[str]:
    """The lines of a declaration up to the brace that closes it."""
    depth = 0
    for line in lines:
        yield line
        code = line.partition("//")[0]
        depth += code.count("{") - code.count("}")
        if not depth:
            return


def protos() -> list[Path]:
    """The files of proto/."""
    return [path for path in files() if path.suffix == ".proto"]


def test_every_type_is_explained() -> None:
    found = [f"{shown(path)}:{line}: {name}" for path in protos() for line, name in unexplained(path.read_text())]
    assert found == []


def test_all_protos_are_covered() -> None:
    assert {shown(path).removeprefix("proto/") for path in protos()} == {file.name for file in FILES}


def test_an_unexplained_type_is_found() -> None:
    source = """
// Explained.
message A {
  int32 a = 1;
}

message B {
  int32 b = 1;
}

message C {
  int32 c = 1; // explained
}

message DRequest {
  int32 d = 1;
}
"""
    assert list(unexplained(source)) == [(7, "B")]
