# SPDX-License-Identifier: Apache-2.0
"""What somebody may be in the audit log: the roles of its access file.

What a role may do is not here: `trail.access` has the table. A role that is not listed there for a method may not.
"""

from enum import StrEnum


class Role(StrEnum):
    """Spelt as in the access file and in a LogRead record."""

    INVESTIGATOR = "investigator"
    PRIVACY_OFFICER = "privacy_officer"
    ADMIN = "admin"
