# SPDX-License-Identifier: Apache-2.0
"""One outside thing each: an adapter satisfies a port by its shape and knows no other adapter and no service."""
