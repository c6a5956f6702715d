# SPDX-License-Identifier: Apache-2.0
"""API keys of a session. Hashes are made here from the definition, not by the code under test."""

import hashlib
import hmac
from datetime import timedelta
from typing import Any, Final

from iap_authz.facts.apikey import ApiKey, ApiKeyAccess, ApiKeys
from iap_authz.model.request import Request
from tests.fakes.tokens import NOW

PEPPER: Final = bytes(range(32))
HEADER: Final = "x-api-key"
KEY_ID: Final = "0123456789abcdef"
KEY: Final = f"iap_{KEY_ID}_{'5e' * 32}"


def hash_of(text: str, pepper: bytes = PEPPER) -> bytes:
    return hmac.new(pepper, b"iap-authz/api-key/v1\0" + text.encode(), hashlib.sha256).digest()


def api_key(text: str = KEY, **changes: Any) -> ApiKey:
    """The entry of the key with this text, made a day before NOW for 30 days, with changes."""
    fields: dict[str, Any] = {
        "id": text.split("_")[1],
        "name": "nightly",
        "hmac_sha256": hash_of(text),
        "subject": "nightly-export",
        "scopes": ("orders:read",),
        "groups": ("batch",),
        "created": NOW - timedelta(days=1),
        "expires": NOW + timedelta(days=29),
    }
    return ApiKey(**{**fields, **changes})


def access(*keys: ApiKey, header: str = HEADER) -> ApiKeyAccess:
    """These keys, or the good one."""
    return ApiKeyAccess(header=header, keys=ApiKeys(revision=1, keys=keys or (api_key(),), pepper=PEPPER))


def shows_key(*values: str, authorization: tuple[str, ...] = (), header: str = HEADER) -> Request:
    headers = {header: values} if values else {}
    return Request(headers={**headers, "authorization": authorization} if authorization else headers)
