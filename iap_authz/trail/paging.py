# SPDX-License-Identifier: Apache-2.0
"""Pages of a search: how large, and where the next one begins.

The invariant: a token continues the search that it came from. It is an offset and no permission: whoever makes one up
gets what a search without it would have led to.

    token = base64url, unpadded, of u64 index of the last leaf of the page before || SHA-256(the query)[:16]

The query is hashed without its page fields but with its order, so that the size of pages may change between them.
"""

import base64
import binascii
from hashlib import sha256
from struct import Struct

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Malformed, shown
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, LeafIndex

PAGE_DEFAULT, PAGE_MAX = 100, 1_000
"""Records of a page (log.proto)."""

PAGE_MAX_BYTES = 2 << 20
"""A page ends early before it is larger: gRPC's clients take 4 MB unless told otherwise."""

_TOKEN = Struct(">Q16s")
_TOKEN_CHARS = 32


def page_size(query: log_pb2.SearchRecordsRequest) -> int:
    """How many records a page holds at most. Raises Malformed."""
    if query.page_size > PAGE_MAX:
        raise Malformed(f"got a page size of {query.page_size}, want 1 to {PAGE_MAX}, or 0 for {PAGE_DEFAULT}")
    return query.page_size or PAGE_DEFAULT


def render_token(query: log_pb2.SearchRecordsRequest, last: LeafIndex) -> str:
    """The token of the page after the one that ends with leaf `last`."""
    return base64.urlsafe_b64encode(_TOKEN.pack(last, _digest(query))).decode()


def parse_token(query: log_pb2.SearchRecordsRequest) -> LeafIndex | None:
    """The last leaf of the page before, or None at the first page. Raises Malformed for another search's token."""
    text = query.page_token
    if not text:
        return None
    try:
        content = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise Malformed(f"got the page token {shown(text)}, want one that an answer held") from error
    if len(text) != _TOKEN_CHARS or len(content) != _TOKEN.size:
        raise Malformed(f"got a page token of {len(text)} characters, want {_TOKEN_CHARS}")
    index, digest = _TOKEN.unpack(content)
    if digest != _digest(query) or index >= SIZE_LIMIT_LEAVES:
        raise Malformed("got the page token of another search, want the one that the answer to this search held")
    return LeafIndex(index)


def _digest(query: log_pb2.SearchRecordsRequest) -> bytes:
    bare = log_pb2.SearchRecordsRequest()
    bare.CopyFrom(query)
    for name in ("page_size", "page_token", "with_evidence"):
        bare.ClearField(name)
    return sha256(bare.SerializeToString(deterministic=True)).digest()[: _TOKEN.size - 8]
