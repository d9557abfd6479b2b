"""What a reader brings in: who may, what arrived, and the way into the material."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from gradio.utils import get_upload_folder

from forumqa import intake, loaders
from forumqa.schema import AddReport, ForumQAError, LoadFailed, Progress

if TYPE_CHECKING:
    from forumqa.engine import ForumQA

Editors = Literal["nobody", "local", "all"]
# What a piece of material is called, and what brings it into the corpus folder.
Piece = tuple[str, Callable[[Path], intake.Added]]

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(host: str) -> bool:
    """Say whether a server that is bound to this host hears this machine alone."""
    return host in _LOOPBACK


def may_edit(editors: Editors, headers: Mapping[str, str]) -> bool:
    """Say whether a request may add and remove material.

    A page of another site must not: a browser would send its requests from within this machine.
    Such a request names that site as its origin, or, where the site's name is made to lead here
    (DNS rebinding), as the host; hence "local" takes a loopback address or name alone.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if editors == "nobody" or (origin is not None and urlsplit(origin).netloc != host):
        return False
    return editors == "all" or is_loopback(urlsplit(f"//{host}").hostname or "")


def uploads(files: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """Return the files that Gradio has put into its folder, from what a browser says of them.

    Only what lies in that folder is read.
    """
    pieces: list[Piece] = []
    for file in files:
        path = Path(str(file.get("path")))
        name = str(file.get("orig_name") or path.name)
        pieces.append((name, partial(_upload, name, path)))
    return pieces


def forget(files: Sequence[Mapping[str, Any]]) -> None:
    """Delete uploaded files, each with the folder that Gradio made for it."""
    folder = Path(get_upload_folder()).resolve()
    for file in files:
        path = Path(str(file.get("path"))).resolve()
        if path.parent.parent == folder:
            shutil.rmtree(path.parent, ignore_errors=True)


def take_in(forum: ForumQA, pieces: Sequence[Piece], progress: Progress) -> tuple[AddReport, str]:
    """Bring pieces into the corpus folder and rebuild if anything came in.

    Returns the report and, where the rebuild failed, its sentence.
    """
    outcomes: dict[str, list[str]] = {"added": [], "replaced": [], "present": []}
    failed: dict[str, str] = {}
    for done, (name, bring) in enumerate(pieces):
        progress(done, len(pieces), name)
        try:
            added = bring(forum.corpus)
            if added.id not in outcomes[added.outcome]:
                outcomes[added.outcome].append(added.id)
        except ForumQAError as error:
            twins = sum(1 for other in failed if other.partition(" #")[0] == name)
            failed[f"{name} #{twins + 1}" if twins else name] = str(error)
    build, problem = None, ""
    if any(outcomes.values()):
        try:
            build = forum.rebuild(progress=progress)
        except ForumQAError as error:
            problem = str(error)
    ids = {outcome: tuple(found) for outcome, found in outcomes.items()}
    return AddReport(**ids, failed=failed, build=build), problem


def _upload(name: str, path: Path, corpus: Path) -> intake.Added:
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(Path(get_upload_folder()).resolve()):
            raise LoadFailed("the file was not uploaded; choose it again")
        with real.open("rb") as file:
            data = file.read(loaders.MAX_BYTES + 1)
    except OSError as error:
        raise LoadFailed("the upload did not arrive; choose the file again") from error
    return intake.add_upload(name, data, corpus)
