# SPDX-License-Identifier: Apache-2.0
"""How those who wait for the disk are told what came of it, each with an exception of their own."""

import asyncio
import errno


def tell(future: "asyncio.Future[None]", error: BaseException) -> None:
    """Fail a future. Nobody has to look at its error: those who care await it, and `failed` tells the process."""
    if not future.done():
        future.set_exception(_as_os_error(error))
        future.exception()


def settle(future: "asyncio.Future[None]", _: object, failure: BaseException | None) -> None:
    """End a future that somebody awaits, as the job ended."""
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(_as_os_error(failure))


def _as_os_error(error: BaseException) -> OSError:
    """The error for one waiter. What is not an OSError is a defect of ours; it ends the process just the same."""
    number = error.errno if isinstance(error, OSError) and error.errno is not None else errno.EIO
    told = OSError(number, f"the journal failed: {type(error).__name__}: {error}")
    told.__cause__ = error
    return told
