# SPDX-License-Identifier: Apache-2.0
"""The revision of a source that is replaced live: an older one that is put back would revive what was taken out."""

from iap_authz.errors import Invalid


def check_revision(name: str, revision: int | None, previous: int | None) -> None:
    """Raise Invalid unless `revision` may follow `previous`: once there it must stay, and must not go down.

    `name` is the source's, for the message. Without a previous revision everything may follow.
    """
    if previous is not None and (revision is None or revision < previous):
        raise Invalid.of_file(name, f"got revision {revision}, want at least {previous}")
