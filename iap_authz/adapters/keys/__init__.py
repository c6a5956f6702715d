# SPDX-License-Identifier: Apache-2.0
"""Keys: those that sign, behind the port `Signer`, and those that open, behind `Vault`."""
