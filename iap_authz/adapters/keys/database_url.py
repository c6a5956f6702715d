# SPDX-License-Identifier: Apache-2.0
"""The URL of a database, in a file of its own because of the password in it.

The invariant: the file is read by its owner only, and no message quotes what it holds. It is read whenever a connection
is made, so a password that is changed needs no restart.

    postgresql://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/etc/iap/database.pem

Deliberately not done: judging the URL. Host, TLS and everything else in it is the operator's, and libpq reads it
(PostgreSQL, "Connection URIs").
"""

import re
from pathlib import Path
from typing import Final

from iap_authz.adapters.keys.file import load_private
from iap_authz.errors import Malformed

URL_MAX_CHARS: Final = 4_096
"""Far above any; bounds what a wrong file name can cost."""

_URL = re.compile(r"postgres(?:ql)?://[!-~]+", re.ASCII)


def load_database_url(path: Path) -> str:
    """The URL in the file, which nobody but its owner may read. Raises ConfigInvalid. Show the result to nobody."""
    return load_private(path, parse_database_url)


def parse_database_url(content: bytes) -> str:
    """The URL of a file. Raises Malformed, which quotes nothing of it."""
    text = content.removesuffix(b"\n").decode("ascii", "replace")
    if len(text) > URL_MAX_CHARS or not _URL.fullmatch(text):
        raise Malformed("got a file that is no database URL, want postgresql://USER:PASSWORD@HOST/DATABASE on one line")
    return text
