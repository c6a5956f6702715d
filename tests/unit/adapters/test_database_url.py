# SPDX-License-Identifier: Apache-2.0
"""The file with a database's URL: for its owner only, and quoted by nobody."""

from pathlib import Path

import pytest

from iap_authz.adapters.keys.database_url import load_database_url
from iap_authz.errors import ConfigInvalid

URL = "postgresql://iap:s3cret@db.example.com:5432/iap?sslmode=verify-full"


def url_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "url"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [URL, f"{URL}\n", URL.replace("postgresql", "postgres")])
def test_a_url_on_a_line(tmp_path: Path, content: str) -> None:
    assert load_database_url(url_file(tmp_path, content.encode())) == content.strip()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"s3cret",
        b"mysql://iap:s3cret@db/iap",
        b"postgresql+psycopg://iap:s3cret@db/iap",
        b"postgresql://",
        b"postgresql://iap:s3cret@db/iap\n\n",
        b"postgresql://iap:s3cret@db/iap\npostgresql://other",
        b" postgresql://iap:s3cret@db/iap",
        b"postgresql://iap:s3cret @db/iap",
        b"postgresql://iap:s3cret\xff@db/iap",
        b"postgresql://iap:s3cret\0@db/iap",
        b"postgresql://iap:s3cret@db/" + b"a" * 4_096,
        b"host=db password=s3cret",
    ],
)
def test_what_is_no_url_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigInvalid, match="no database URL") as caught:
        load_database_url(url_file(tmp_path, content))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigInvalid, match="chmod 600"):
        load_database_url(url_file(tmp_path, URL.encode(), mode))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_database_url(tmp_path / "url")
