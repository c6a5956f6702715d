# SPDX-License-Identifier: Apache-2.0
"""What the commands that read a journal share: finding its writers, reading their segments, showing progress."""

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from iap_authz.records.findings import Inspection
from iap_authz.records.inspect import inspect_writer

SEGMENT_SUFFIX = ".segment"
_WRITER_FOLDER = re.compile(r"[0-9a-f]{64}", re.ASCII)


def find_writers(journal: Path) -> list[Path]:
    """The folders of all writers in `journal`, oldest first; `journal` may be one of them. Exits with 2 on none."""
    if not journal.is_dir():
        typer.echo(f"iap-authz: {journal}: no such folder, want a journal or one writer's folder in it", err=True)
        raise typer.Exit(2)
    if _WRITER_FOLDER.fullmatch(journal.name):
        return [journal]
    writers = [folder for folder in journal.iterdir() if folder.is_dir() and _WRITER_FOLDER.fullmatch(folder.name)]
    if not writers:
        typer.echo(f"iap-authz: {journal}: got no writer's folder, want at least one", err=True)
        raise typer.Exit(2)
    return sorted(writers, key=lambda folder: (folder.stat().st_ctime_ns, folder.name))


def segment_files(writer: Path) -> list[Path]:
    """The segments of one writer in the order of their first sequence."""
    return sorted(path for path in writer.iterdir() if path.suffix == SEGMENT_SUFFIX)


def read_segments(writer: Path, step: "Step | None" = None) -> Iterator[tuple[str, bytes]]:
    """Name and content of each segment, one at a time."""
    for path in segment_files(writer):
        content = path.read_bytes()
        yield f"{writer.name[:8]}/{path.name}", content
        if step is not None:
            step.advance(len(content))


def inspect_folder(writer: Path, origin: str | None = None, step: "Step | None" = None) -> Inspection:
    """Recompute everything in one writer's folder."""
    return inspect_writer(read_segments(writer, step), origin)


def read_leaf(writer: Path, inspection: Inspection, position: int) -> bytes:
    """The bytes of the verified record at `position` of `inspection`."""
    place = inspection.places[position]
    name = place.segment.rpartition("/")[2]
    with (writer / name).open("rb") as file:
        file.seek(place.offset)
        return file.read(place.length)


class Step:
    """Moves a progress bar; does nothing where there is none."""

    def __init__(self, progress: Progress | None, total_bytes: int) -> None:
        self._progress = progress
        self._task = progress.add_task("verifying", total=total_bytes) if progress is not None else None

    def advance(self, byte_count: int) -> None:
        """So many bytes more are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, byte_count)


def progress_over(writers: list[Path]) -> AbstractContextManager[Step]:
    """A progress bar over the bytes of `writers`."""
    return progress_of(sum(path.stat().st_size for writer in writers for path in segment_files(writer)))


@contextmanager
def progress_of(total_bytes: int) -> Iterator[Step]:
    """A progress bar over so many bytes, on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield Step(None, total_bytes)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Step(progress, total_bytes)
