# SPDX-License-Identifier: Apache-2.0
"""How many records of a writer are durable, and a way to wait for more.

The invariant: `size` counts acknowledged records only, so whatever is read up to it was fsynced (rule W3). Waiting
costs a group commit one comparison.
"""

import asyncio


class Growth:
    """Owned by the event loop; advanced by the journal after each group commit."""

    def __init__(self) -> None:
        self._size = 0
        self._grown: asyncio.Future[None] | None = None

    @property
    def size(self) -> int:
        """How many records are durable."""
        return self._size

    def advance(self, count: int) -> None:
        """So many more are."""
        self._size += count
        if self._grown is not None:
            self._grown.set_result(None)
            self._grown = None

    async def wait_beyond(self, size: int) -> None:
        """Until more than `size` records are durable. After the journal has failed or was closed: for ever."""
        while self._size <= size:
            if self._grown is None:
                self._grown = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._grown)
