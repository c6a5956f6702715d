# SPDX-License-Identifier: Apache-2.0
"""`python -m iap_authz`."""

from iap_authz.cli import main

main()
