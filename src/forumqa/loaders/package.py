"""Zip archives of XML (DOCX, HWPX), read under limits: a small file may unpack to a huge one."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from xml.etree import ElementTree

from forumqa.schema import LoadFailed

# A 500-page report unpacks to some 30 MB of XML.
MAX_UNPACKED = 96 * 1024 * 1024
MAX_MEMBERS = 20_000
MAX_ELEMENTS = 3_000_000
# A table in a cell of a table adds about eight; no writer nests this deep.
MAX_DEPTH = 200

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
           NotImplementedError, RuntimeError, LookupError)  # fmt: skip


class Package:
    """The members of a zip archive. Everything raises LoadFailed on damage and beyond the limits."""

    def __init__(self, data: bytes, format_name: str) -> None:
        self._damaged = LoadFailed(
            f"the {format_name} file is damaged or cut short; get it anew, or open it in its "
            "program and save it again"
        )
        self._left = MAX_UNPACKED
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGE as error:
            raise self._damaged from error
        self.names = self._zip.namelist()
        if len(self.names) > MAX_MEMBERS:
            raise LoadFailed(f"the archive has over {MAX_MEMBERS} parts; save the document again")

    def read(self, name: str) -> bytes:
        """Return the bytes of one member."""
        try:
            with self._zip.open(name) as member:
                data = member.read(self._left + 1)
        except _DAMAGE as error:
            raise self._damaged from error
        except KeyError as error:
            raise self._damaged from error
        self._left -= len(data)
        if self._left < 0:
            raise LoadFailed(
                f"the file unpacks to over {MAX_UNPACKED // 2**20} MiB of text; split the document"
            )
        return data

    def xml(self, name: str) -> ElementTree.Element:
        """Return the root of one member's XML."""
        parser = ElementTree.XMLParser(target=_Builder())
        try:
            parser.feed(self.read(name))
            root = parser.close()
        except (ElementTree.ParseError, *_DAMAGE) as error:
            raise self._damaged from error
        assert isinstance(root, ElementTree.Element)
        return root

    def optional_xml(self, name: str) -> ElementTree.Element:
        """Return the root of one member's XML, or an empty element where there is no such one."""
        return self.xml(name) if name in self.names else ElementTree.Element("none")

    def matching(self, pattern: str) -> list[str]:
        """Return the names that match, in the order of the number they hold."""
        found = [match for name in self.names if (match := re.fullmatch(pattern, name))]
        return [match[0] for match in sorted(found, key=lambda match: int(match[1][:9] or 0))]


class _Builder(ElementTree.TreeBuilder):
    """Builds names without their namespace; refuses what may grow without end.

    Office formats use no document type, so one is refused, and with it every entity (CWE-776).
    """

    def __init__(self) -> None:
        super().__init__()
        self._depth = self._count = 0

    def doctype(self, *_: object) -> None:
        raise LoadFailed(
            "its XML declares a document type, which no office program writes; drop it"
        )

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise LoadFailed("its XML is nested too deep or too long; save the document again")
        return super().start(local(tag), {local(name): attrs[name] for name in attrs})

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(local(tag))


def local(name: str) -> str:
    """Return a name without its namespace: the transitional and strict ones differ only there."""
    return name.rpartition("}")[2]
