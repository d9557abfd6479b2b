"""Material into the corpus folder: files, uploads, pasted text, and pages of the web.

Nothing is written that its loader cannot read, and a file appears whole or not at all, so whoever
watches the folder never reads half of one. Names come from outside and are made anew here; a file
lands in the corpus folder itself or, where an address is added again, in place of what it gave
before.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import httpx

from forumqa import fetch, loaders
from forumqa import text as tx
from forumqa.loaders import markdown
from forumqa.loaders.isolation import IsolatedLoader
from forumqa.schema import Document, FetchFailed, ForumQAError, LoadFailed, Progress

Outcome = Literal["added", "replaced", "present"]

MAX_SOURCES: Final = 50
# Of a name in UTF-8, suffix and number included: 33 syllables, and in NFD, as an archive from a Mac
# may hold it, still within the 255 bytes that file systems allow for most titles.
_NAME_BYTES: Final = 100
_NUMBERS: Final = 1000
_FORBIDDEN: Final = frozenset('<>:"/\\|?*')
_DEVICES: Final = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"]
)
_WEB: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
# Two letters and more: one letter is a drive of Windows.
_SCHEME: Final = re.compile(r"(?:[a-z][a-z0-9+.-]+:|www\.)", re.I)
# What a server says by default, of whatever it serves.
_THOUGHTLESS: Final = frozenset({"", "iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii"})
# Two additions at once must not both find that a text is new.
_placing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Added:
    """Where a piece of material is now: its document id, and whether it is new there, stands in
    place of what the same address gave before, or was there already, byte for byte."""

    id: str
    outcome: Outcome


def add(
    sources: Sequence[str],
    corpus: Path,
    progress: Progress | None = None,
    *,
    _access: fetch._Access = fetch._PUBLIC,
) -> tuple[list[Added], dict[str, str]]:
    """Put files and web pages, by path and address, into the corpus folder.

    Returns what came in and, for each source that did not, a sentence that names it. Raises
    ForumQAError where there are too many sources or there is no such folder.
    """
    if len(sources) > MAX_SOURCES:
        raise ForumQAError(
            f"{len(sources)} sources at once are too many; add at most {MAX_SOURCES}, or copy "
            f"the files into {corpus} and run: forumqa rebuild"
        )
    _check_folder(corpus)
    added: list[Added] = []
    failed: dict[str, str] = {}
    for done, source in enumerate(sources):
        if progress:
            progress(done, len(sources), source)
        try:
            if _WEB.match(source) or (_SCHEME.match(source) and not os.path.lexists(source)):
                added.append(add_url(source, corpus, _access=_access))
            else:
                added.append(add_file(Path(source), corpus))
        except LoadFailed as error:
            failed[source] = f"{source}: {error}"
        except ForumQAError as error:
            failed[source] = str(error)
    return added, failed


def add_file(path: Path, corpus: Path) -> Added:
    """Copy a file of this machine into the corpus folder. Raises LoadFailed."""
    try:
        # A pipe or a device would be read for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder; name the files in it" if path.is_dir() else "no file; name one"
            raise LoadFailed(f"this is {kind}")
        with path.open("rb") as file:
            data = file.read(loaders.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise LoadFailed(f"the file cannot be read ({reason}); check its name") from error
    return add_upload(path.name, data, corpus)


def add_upload(name: str, data: bytes, corpus: Path) -> Added:
    """Save a file that came under ``name``, which may say anything. Raises LoadFailed."""
    stem, suffix = _split_name(name)
    name = safe_name(stem, suffix)
    _load(data, name)
    return _place(name, data, corpus)


def add_text(title: str, text: str, corpus: Path) -> Added:
    """Save a text that someone typed or pasted, as Markdown. Raises LoadFailed."""
    title, text = (tx.normalize(_encodable(part)).strip() for part in (title, text))
    if not title:
        title = text.partition("\n")[0][:80].strip()
    document = Document(id="", title=title, text=text, language=tx.language_of(text))
    return _place_article(document, corpus)


def add_url(url: str, corpus: Path, *, _access: fetch._Access = fetch._PUBLIC) -> Added:
    """Save what an address of the public web gives: an article as Markdown with its title, date
    and address, any other format as it is. Raises FetchFailed or LoadFailed."""
    fetched = fetch.fetch(url, _access=_access)
    host = httpx.URL(fetched.url).host
    data = fetched.data
    if fetched.suffix in (".html", ".txt", ".md"):
        data = _as_utf8(data, fetched.charset)
    stem, suffix = _split_name(fetched.name)
    stem = (stem if suffix == fetched.suffix else fetched.name) or host
    try:
        if fetched.suffix != ".html":
            return add_upload(stem + fetched.suffix, data, corpus)
        document = _load(data, f"{stem}.html")
        return _place_article(replace(document, source=fetched.url), corpus)
    except LoadFailed as error:
        # The loader speaks of a file, which the one who gave an address has not seen.
        raise FetchFailed(f"{fetched.url} gives no text: {error}.") from error


def safe_name(title: str, suffix: str) -> str:
    """Return a file name made of a title that every file system takes: in NFC, no more than 100
    bytes of UTF-8 less room for a number, not hidden, without path separators, control and
    direction characters, and not a device of Windows."""
    kept = []
    for ch in title:
        category = unicodedata.category(ch)
        if ch in _FORBIDDEN or category == "Cc" or category[0] == "Z":
            kept.append(" ")
        elif category[0] != "C":
            kept.append(ch)
    stem = " ".join(unicodedata.normalize("NFC", "".join(kept)).split())
    # Hidden files, lock files of offices ("~$a.docx") and what a shell takes for an option.
    stem = stem.lstrip(" .~$-")
    room = _NAME_BYTES - len(suffix.encode()) - len(f" ({_NUMBERS})")
    stem = stem.encode()[:room].decode("utf-8", "ignore").rstrip(" .")
    if stem.partition(".")[0].rstrip().upper() in _DEVICES:
        stem = f"_{stem}"
    return (stem or "article") + suffix


def _load(data: bytes, document_id: str) -> Document:
    """Read in a process of its own: what comes from outside may be made to crash its reader."""
    loader = IsolatedLoader()
    try:
        return loader.load(data, document_id)
    finally:
        loader.close()


def _split_name(name: str) -> tuple[str, str]:
    """Return stem and lower-case suffix of the last part of a path of any system."""
    last = re.split(r"[/\\]", _encodable(name))[-1]
    last = "".join(ch for ch in last if unicodedata.category(ch)[0] != "C").rstrip(" .")
    stem, dot, suffix = last.rpartition(".")
    return (stem, dot + suffix.lower()) if dot else (last, "")


def _encodable(text: str) -> str:
    """Return the text without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _as_utf8(data: bytes, charset: str) -> bytes:
    """Return a text in UTF-8 with a byte order mark where the server names its encoding rightly.

    The mark outweighs what the text says of itself. UTF-8 that decodes is UTF-8, and a charset
    under which the bytes do not decode is a lie; what is left is for the loader to find out.
    """
    try:
        data.decode("utf-8")
        return data
    except UnicodeDecodeError:
        pass
    if charset in _THOUGHTLESS:
        return data
    # EUC-KR means CP949 on the web (WHATWG Encoding).
    codec = "cp949" if charset in ("euc-kr", "ks_c_5601-1987", "ksc5601", "korean") else charset
    try:
        return b"\xef\xbb\xbf" + data.decode(codec).encode("utf-8")
    except (LookupError, ValueError):
        return data


# --- into the folder -----------------------------------------------------------------------------


def _check_folder(corpus: Path) -> None:
    if not corpus.is_dir():
        raise ForumQAError(f"There is no folder {corpus}; make it and put articles into it.")


def _files(corpus: Path) -> Iterator[Path]:
    """The files that a rebuild would see; links to folders are not followed."""
    for folder, folders, names in os.walk(corpus):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def _id(path: Path, corpus: Path) -> str:
    return unicodedata.normalize("NFC", path.relative_to(corpus).as_posix())


def _place_article(document: Document, corpus: Path) -> Added:
    name = safe_name(document.title, ".md")
    _check_folder(corpus)
    before = _from_address(document.source, corpus) if document.source else None
    if before:
        path, old = before
        document = replace(document, questions=old.questions)
    data = markdown.dump(document)
    loaders.load(data, name)
    if before:
        if path.read_bytes() == data:
            return Added(old.id, "present")
        with _written(data, corpus) as temporary:
            temporary.replace(path)
        return Added(old.id, "replaced")
    return _place(name, data, corpus)


def _from_address(url: str, corpus: Path) -> tuple[Path, Document] | None:
    """Return the article that this address gave before."""
    # An apostrophe is doubled in YAML; what stands before it rules nearly all files out.
    sign = url.partition("'")[0].encode()
    for path in _files(corpus):
        if path.suffix.lower() != ".md":
            continue
        try:
            data = path.read_bytes()
            if sign in data[:65536]:
                document = markdown.load(data, _id(path, corpus))
                if document.source == url:
                    return path, document
        except (OSError, LoadFailed):
            continue
    return None


def _place(name: str, data: bytes, corpus: Path) -> Added:
    """Write under this name, or with a number where another file has it."""
    _check_folder(corpus)
    with _placing, _written(data, corpus) as temporary:
        twin = _twin(data, corpus)
        if twin:
            return Added(_id(twin, corpus), "present")
        # Names that differ in case or in normal form are one name on other systems.
        taken = {unicodedata.normalize("NFC", entry).casefold() for entry in os.listdir(corpus)}  # noqa: PTH208
        stem, dot, suffix = name.rpartition(".")
        for number in range(1, _NUMBERS):
            tried = name if number == 1 else f"{stem} ({number}){dot}{suffix}"
            if tried.casefold() not in taken and _take(temporary, corpus / tried):
                return Added(tried, "added")
    raise ForumQAError(f"{corpus} has a thousand files named {name}; give it another title.")


def _twin(data: bytes, corpus: Path) -> Path | None:
    for path in _files(corpus):
        try:
            if path.stat().st_size == len(data) and path.read_bytes() == data:
                return path
        except OSError:
            continue
    return None


@contextmanager
def _written(data: bytes, corpus: Path) -> Iterator[Path]:
    """A hidden file in the folder that holds the data, safe on disk; gone afterwards if still
    there."""
    temporary = corpus / f".adding-{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError as error:
        raise ForumQAError(
            f"{corpus} cannot be written to ({error.strerror or error}); make room or check its permissions."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _take(temporary: Path, path: Path) -> bool:
    """Give the file its name at once, unless another process has taken that in the meantime."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links.
        if os.path.lexists(path):
            return False
        temporary.replace(path)
    return True
