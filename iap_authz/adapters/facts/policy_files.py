# SPDX-License-Identifier: Apache-2.0
"""Policy files as one source: together they are one bundle, loaded whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from iap_authz.adapters.facts.files import FileSource
from iap_authz.policy.compile import load_policy
from iap_authz.policy.compiled import Policy
from iap_authz.policy.source import SourceFile


class PolicyFiles:
    """Satisfies `ports.FactSource[Policy]`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = tuple(
            FileSource(path.name, path, lambda content, file: SourceFile(name=file, content=content)) for path in paths
        )

    @property
    def name(self) -> str:
        """For messages and metrics."""
        return "policy"

    def load(self) -> Policy:
        """Read, parse and compile every file. Raises PolicyInvalid with all faults of all files."""
        return load_policy([file.load() for file in self._files])

    def version(self) -> object:
        """Changes when any of the files may have."""
        return tuple(file.version() for file in self._files)
