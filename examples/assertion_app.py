# SPDX-License-Identifier: Apache-2.0
"""An application that believes the signed assertion: python examples/assertion_app.py PORT JWKS_URL ISSUER AUDIENCE."""

import base64
import hashlib
import json
import re
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

SKEW_SECONDS, CACHE_SECONDS, RETRY_SECONDS = 5, 300, 1
REQUIRED = {"iss": str, "aud": str, "iat": int, "exp": int, "jti": str, "audit_id": str, "route": str}
BINDING = {"method": str, "host": str, "target_sha256": str}


class Refused(Exception):
    """No assertion, or none that is for us and for this request."""


def decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)


class Keys:
    """The proxy's keys. A kid that is not known is a reason to ask again, once a second at the most."""

    def __init__(self, url: str) -> None:
        self.url, self.keys, self.asked = url, dict[str, Any](), -float(CACHE_SECONDS)

    def find(self, kid: str) -> Any:
        age = time.monotonic() - self.asked
        if age >= CACHE_SECONDS or (kid not in self.keys and age >= RETRY_SECONDS):
            self.asked = time.monotonic()
            with urllib.request.urlopen(self.url, timeout=5) as answer:  # noqa: S310 -- the address is the operator's
                listed = json.load(answer)["keys"]
            self.keys = {key["kid"]: key for key in listed if (key["kty"], key["crv"]) == ("EC", "P-256")}
        if kid not in self.keys:
            raise Refused("signed with an unknown key")
        x, y = (int.from_bytes(decode(self.keys[kid][name]), "big") for name in "xy")
        return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()


def check(assertions: list[str], keys: Keys, *, issuer: str, audience: str, request: tuple[str, str, str]) -> Any:
    """The claims of the one assertion of a request: its method, Host and target as they came."""
    try:
        (assertion,) = assertions
        head, body, signature = map(decode, assertion.split("."))
        header, claims = json.loads(head), json.loads(body)
        if header["alg"] != "ES256" or len(signature) != 64:  # noqa: PLR2004 -- RFC 7518 section 3.4
            raise Refused("signed in another way than ES256")
        der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        keys.find(header["kid"]).verify(der, assertion.rpartition(".")[0].encode(), ECDSA(SHA256()))
        typed = all(type(claims.get(name)) is kind for name, kind in (REQUIRED | BINDING).items())
    except (ValueError, TypeError, KeyError, AttributeError, InvalidSignature, OSError):
        raise Refused("not one assertion that the proxy signed, as far as can be told") from None
    now = time.time()
    if not typed or (claims["iss"], claims["aud"]) != (issuer, audience):
        raise Refused("not for this application")
    if not claims["iat"] - SKEW_SECONDS <= now < claims["exp"] + SKEW_SECONDS:
        raise Refused("not at this time")
    method, host, target = request
    host = re.sub(r"\.(?=:\d+$|$)|:(?:80|443)$", "", host.lower())
    digest = base64.urlsafe_b64encode(hashlib.sha256(target.removesuffix("?").encode()).digest()).rstrip(b"=").decode()
    if (claims["method"], claims["host"], claims["target_sha256"]) != (method, host, digest):
        raise Refused("not for this request")
    return claims


class Orders(BaseHTTPRequestHandler):
    keys, issuer, audience = Keys(""), "", ""

    def do_GET(self) -> None:
        try:
            given, asked = self.headers.get_all("x-iap-assertion", []), (self.command, self.headers["host"], self.path)
            claims = check(given, self.keys, issuer=self.issuer, audience=self.audience, request=asked)
            answer = {"who": claims.get("sub", "somebody"), "groups": claims.get("groups", [])}
        except Refused as refused:
            claims, answer = None, {"refused": str(refused)}
        content = json.dumps(answer).encode()
        self.send_response(403 if claims is None else 200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    Orders.keys, Orders.issuer, Orders.audience = Keys(sys.argv[2]), sys.argv[3], sys.argv[4]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Orders)
    print(server.server_port, flush=True)
    server.serve_forever()
