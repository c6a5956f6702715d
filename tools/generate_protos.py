# SPDX-License-Identifier: Apache-2.0
"""Generate `iap_authz/_pb` from `proto/`, or with `--check` compare what is there with what would be generated.

The generated modules import each other as `iap...`; they are moved under `iap_authz._pb` so that the package
installs no second top-level name. Stubs (`.pyi`) come along for the type checker.
"""

import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
TARGET = ROOT / "iap_authz" / "_pb"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


def generate(target: Path) -> None:
    """Write the generated package to `target`."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    arguments = ["protoc", f"-I{PROTO}", f"-I{WELL_KNOWN}", f"--python_out={target}", f"--pyi_out={target}"]
    with_services = [name for name in sources if re.search(r"^service ", (PROTO / name).read_text(), re.MULTILINE)]
    if protoc.main([*arguments, *sources]) or protoc.main(
        ["protoc", f"-I{PROTO}", f"-I{WELL_KNOWN}", f"--grpc_python_out={target}", *with_services]
    ):
        raise SystemExit("protoc failed: see above")
    for path in target.rglob("*.py*"):
        path.write_text(re.sub(r"^from iap\.", "from iap_authz._pb.iap.", path.read_text(), flags=re.MULTILINE))
    folders = {target, *(path for path in target.rglob("*") if path.is_dir())}
    for folder in folders:
        (folder / "__init__.py").write_text("# SPDX-License-Identifier: Apache-2.0\n")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every generated file below `folder` by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py*") if path.suffix != ".pyc"}


def main(arguments: list[str]) -> int:
    """Generate, or compare with `--check`; returns the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh_folder = Path(scratch)
        generate(fresh_folder)
        fresh, present = snapshot(fresh_folder), snapshot(TARGET)
    if arguments == ["--check"]:
        differing = sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))
        if differing:
            print(f"generated code differs from proto/: {', '.join(differing)}; run `make proto`")
            return 1
        return 0
    for name in present.keys() - fresh.keys():
        (TARGET / name).unlink()
    for name, content in fresh.items():
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
