# SPDX-License-Identifier: Apache-2.0
"""What is known about one request: who asks, from which device, from where.

Pure: keys, inventories, databases and the time are arguments. A credential that was shown and is false is a fact with
the state INVALID, not an exception, so that the check that met it is recorded like any other.

Who asks, in reading order: `encoding` (strict base64url and JSON), `signature` (the one question put to python-jose),
`keyset` (which keys an issuer publishes), `issuer` (what is believed of whom), `token` (shape, header, key, signature),
`claims` (what a token says, once it is known to be the issuer's), `identity` (the family of facts).
"""
