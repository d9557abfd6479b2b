"""PLACEHOLDER, to be replaced by the reader of web pages that is being written elsewhere: the text,
title and date of a page's article, without what stands around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from forumqa.loaders import markdown
from forumqa.loaders.plain import file_title
from forumqa.schema import Document, LoadFailed


def load(data: bytes, document_id: str) -> Document:
    import trafilatura

    found: Any = trafilatura.bare_extraction(data, include_comments=False, with_metadata=True)
    text = trafilatura.extract(
        data, output_format="markdown", include_comments=False, include_formatting=True
    )
    if found is None or not text:
        raise LoadFailed("no article is found in the page; save its text as .txt")
    document = markdown.load(text.encode(), document_id)
    return replace(document, title=found.title or file_title(document_id), date=found.date or "")
