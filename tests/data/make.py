"""Makes the office files beside it from tests/article.py, with programs that the tests do not need:
LibreOffice 7.4 (``soffice``, with Noto CJK fonts) and python-hwpx 6.9. Run in the project's root:
``python -m tests.data.make``."""

from __future__ import annotations

import subprocess
import tempfile
from html import escape
from pathlib import Path

from tests.article import BLOCKS, DATA, TITLE

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0"
 xmlns:meta="urn:oasis:names:tc:opendocument:xmlns:meta:1.0"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 office:version="1.2" office:mimetype="application/vnd.oasis.opendocument.text">
<office:meta><dc:title>{title}</dc:title>
<meta:creation-date>2018-06-07T09:00:00</meta:creation-date></office:meta>
<office:styles>
<style:default-style style:family="paragraph"><style:text-properties fo:font-size="10pt"
 style:font-size-asian="10pt" fo:font-family="'Noto Sans CJK KR'"
 style:font-family-asian="'Noto Sans CJK KR'" fo:language="en" fo:country="US"
 style:language-asian="ko" style:country-asian="KR" fo:hyphenate="true"/></style:default-style>
<style:style style:name="Standard" style:family="paragraph">
<style:paragraph-properties fo:margin-bottom="0.2cm"/></style:style>
<style:style style:name="Heading_20_1" style:display-name="Heading 1" style:family="paragraph"
 style:parent-style-name="Standard" style:default-outline-level="1">
<style:text-properties fo:font-size="16pt" style:font-size-asian="16pt"/></style:style>
<style:style style:name="Heading_20_2" style:display-name="Heading 2" style:family="paragraph"
 style:parent-style-name="Standard" style:default-outline-level="2">
<style:text-properties fo:font-size="13pt" style:font-size-asian="13pt"/></style:style>
<text:list-style style:name="L"><text:list-level-style-bullet text:level="1"
 text:bullet-char="•"/></text:list-style>
</office:styles>
<office:automatic-styles><style:page-layout style:name="A6"><style:page-layout-properties
 fo:page-width="9.5cm" fo:page-height="10cm" fo:margin="1cm"/>
<style:header-style/><style:footer-style/></style:page-layout></office:automatic-styles>
<office:master-styles><style:master-page style:name="Standard" style:page-layout-name="A6">
<style:header><text:p>가람시 보도자료</text:p></style:header>
<style:footer><text:p>- <text:page-number/> -</text:p></style:footer>
</style:master-page></office:master-styles>
<office:body><office:text>
<text:h text:style-name="Heading_20_1" text:outline-level="1">{title}</text:h>
"""


def flat_odt() -> str:
    out, table, items = _HEAD.format(title=TITLE), False, False
    for kind, text in [*BLOCKS, ("end", "")]:
        if kind != "row" and table:
            out += "</table:table>\n"
        if kind != "item" and items:
            out += "</text:list>\n"
        if kind == "row" and not table:
            out += '<table:table table:name="T"><table:table-column table:number-columns-repeated="3"/>'
        if kind == "item" and not items:
            out += '<text:list text:style-name="L">'
        table, items = kind == "row", kind == "item"
        words = escape(text, quote=False)
        if kind == "heading":
            out += f'<text:h text:style-name="Heading_20_2" text:outline-level="2">{words}</text:h>'
        elif kind == "paragraph":
            out += f'<text:p text:style-name="Standard">{words}</text:p>\n'
        elif kind == "item":
            out += f"<text:list-item><text:p>{words}</text:p></text:list-item>"
        elif kind == "row":
            cells = "".join(
                f"<table:table-cell><text:p>{cell}</text:p></table:table-cell>"
                for cell in words.split(" | ")
            )
            out += f"<table:table-row>{cells}</table:table-row>"
    return out + "</office:text></office:body></office:document>"


def convert(source: Path, kind: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["soffice", "--headless", "--convert-to", kind, "--outdir", folder, str(source)],
            check=True, capture_output=True,
        )  # fmt: skip
        (made,) = Path(folder).iterdir()
        (DATA / name).write_bytes(made.read_bytes())


def hangul() -> None:
    from hwpx import HwpxDocument

    document = HwpxDocument.new()
    document.add_heading(TITLE, level=1)
    rows = [text.split(" | ") for kind, text in BLOCKS if kind == "row"]
    table = None
    for kind, text in BLOCKS:
        if kind == "heading":
            document.add_heading(text, level=2)
        elif kind == "row" and table is None:
            table = document.add_table(len(rows), len(rows[0]))
            for i, row in enumerate(rows):
                for j, cell in enumerate(row):
                    table.set_cell_text(i, j, cell)
        elif kind != "row":
            document.add_paragraph(text)
    document.page.set_header(text="가람시 보도자료")
    document.page.set_footer(text="꼬리말")
    document.save_to_path(str(DATA / "article.hwpx"))
    document.save_to_path(str(DATA / "article.hwp"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "article.fodt"
        source.write_text(flat_odt(), "utf-8")
        convert(source, "docx:MS Word 2007 XML", "article.docx")
        convert(source, "pdf", "article.pdf")
        locked = (
            'pdf:writer_pdf_Export:{"EncryptFile":{"type":"boolean","value":"true"},'
            '"DocumentOpenPassword":{"type":"string","value":"secret"}}'
        )
        convert(source, locked, "password.pdf")
    hangul()


if __name__ == "__main__":
    main()
