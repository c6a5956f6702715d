# SPDX-License-Identifier: Apache-2.0
"""The assembly of what makes and changes a log's key file. Apart from `log_wiring`: a key needs no database."""

from iap_authz.adapters.keys.file import add_key, create_key_file, drop_key, load_verifiers

__all__ = ["add_key", "create_key_file", "drop_key", "load_verifiers"]
