# SPDX-License-Identifier: Apache-2.0
"""Fuzz the parser and verifier of tokens, guided by coverage, from the kept corpus on.

    pip install atheris
    python tools/fuzz_tokens.py signed /tmp/found -max_total_time=600

`text` or `signed` says what the bytes are (`tests/fakes/token_targets.py`); then libFuzzer's own arguments. The first
folder given gets what is found; what is worth keeping goes to `tests/hostile/tokens/corpus/<target>`, which
`tests/hostile/tokens/test_token_fuzz.py` runs everywhere. atheris is no dependency of the project: it is not made for
every Python that this runs on.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run until libFuzzer ends; it exits by itself."""
    sys.path.insert(0, str(ROOT))
    try:
        atheris = importlib.import_module("atheris")
    except ModuleNotFoundError:
        print("got no atheris, want it installed: pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["iap_authz.facts"]):
        targets = importlib.import_module("tests.fakes.token_targets")
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in targets.TARGETS:
        print(f"got {name!r}, want one of {', '.join(targets.TARGETS)}", file=sys.stderr)
        return 2
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(targets.CORPUS / name)], targets.TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
