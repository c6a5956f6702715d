# SPDX-License-Identifier: Apache-2.0
"""Files of the demonstration that nobody else may read, from their first byte on."""

import os
from pathlib import Path


def write_private(path: Path, content: str | bytes) -> None:
    """Make a file. Raises OSError, also where there is one already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def flip_bit(path: Path, offset: int) -> tuple[int, int]:
    """Change the lowest bit of the byte at `offset`: what it was, and what it became. Raises OSError."""
    with path.open("r+b") as file:
        file.seek(offset)
        was = file.read(1)[0]
        became = was ^ 0x01
        file.seek(offset)
        file.write(bytes((became,)))
    return was, became
