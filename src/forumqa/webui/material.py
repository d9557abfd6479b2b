"""HTML of the material section: what there is, and what a change did. Pure functions."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from forumqa.schema import AddReport, BuildReport, Document, Entry

from .fragments import escape, source_link, web_address
from .labels import say

_LISTED = 30
# A page is no file manager: `forumqa list` shows all.
_DOCUMENTS = 100


def listing_html(
    language: str,
    info: Mapping[str, Any],
    entries: Sequence[Entry],
    documents: Sequence[Document],
    editable: bool = False,
) -> str:
    """Return what is wrong, if anything, and the documents: those that cannot be read first, near
    copies under the document they are copies of; with ``editable``, a button to remove each."""
    known = {document.id: document for document in documents}
    copies: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.duplicate_of:
            copies.setdefault(entry.duplicate_of, []).append(entry)
    heads = [entry for entry in entries if not entry.duplicate_of]
    heads.sort(key=lambda entry: entry.state != "failed")

    def shown(entry: Entry) -> str:
        below = "".join(map(shown, copies.get(entry.id, ())))
        label = f'<p class="fqa-also">{escape(say(language, "also"))}</p>'
        return (
            f"<li>{_entry(entry, known.get(entry.id), language, editable)}"
            f"{f'{label}<ul>{below}</ul>' if below else ''}</li>"
        )

    more = len(heads) - _DOCUMENTS
    rest = f"<li>{escape(say(language, 'more', count=more))}</li>" if more > 0 else ""
    counts = [
        say(language, key, count=info[name])
        for key, name in (("passages", "passages"), ("generation", "generation"))
        if name in info
    ]
    watch = info.get("watch")
    hint = (
        say(language, "watched", seconds=f"{watch['interval']:g}")
        if watch
        else say(language, "material_more")
    )
    return (
        f'<div class="fqa-material">{problems_html(info)}'
        f'<ul class="fqa-documents">{"".join(map(shown, heads[:_DOCUMENTS]))}{rest}</ul>'
        f'<p class="fqa-facts">{escape(" · ".join([*counts, hint]))}</p></div>'
    )


def hint_html(language: str, suffixes: Iterable[str], **limits: int) -> str:
    """Return what may be uploaded. The page's script has the file dialog show those suffixes only;
    were Gradio told of them, it would drop other files instead of naming them in the report."""
    accept = html.escape(",".join(suffixes))
    said = escape(say(language, "add_files_more", **limits))
    return f'<p class="fqa-facts" data-accept="{accept}">{said}</p>'


def problems_html(info: Mapping[str, Any]) -> str:
    """Return what the engine says is wrong: a generation that is refused, a watch that fails."""
    said = (info.get("problem"), (info.get("watch") or {}).get("problem"))
    return "".join(
        f'<p class="fqa-problem" role="alert">{escape(sentence)}</p>'
        for sentence in dict.fromkeys(said)
        if sentence
    )


def _entry(entry: Entry, document: Document | None, language: str, editable: bool) -> str:
    title = entry.title or entry.id
    facts = [entry.date, PurePosixPath(entry.id).suffix[1:].upper()]
    if document:
        count = len(document.pages)
        if count:
            key = "document_page" if count == 1 else "document_pages"
            facts.append(say(language, key, count=count))
        link = html.escape(source_link(entry.id, 0, 0))
        name = f'<a href="{link}">{escape(title)}</a>'
    else:
        name = f"<b>{escape(title)}</b>"
    facts += [web_address(entry.source).removeprefix("www.")]
    facts += [entry.id] if entry.id != title else []
    button = ""
    if editable:
        sure = html.escape(say(language, "remove_sure", title=title, id=entry.id))
        button = (
            f'<button type="button" class="fqa-button" data-fqa="remove" '
            f'data-id="{html.escape(entry.id)}" data-sure="{sure}" aria-label="'
            f'{escape(say(language, "remove"))}: {escape(title)}">'
            f"{escape(say(language, 'remove'))}</button>"
        )
    reason = ""
    if entry.reason:
        said = f"{say(language, 'not_read')}: {entry.reason}"
        reason = f'<p class="fqa-reason">{escape(said)}</p>'
    about = escape(" · ".join(filter(None, facts)))
    return (
        f'<div class="fqa-document"><div>{name} <span class="fqa-facts">{about}</span>{reason}</div>'
        f"{button}</div>"
    )


def report_html(report: BuildReport, language: str) -> str:
    """Return what a rebuild did, with a reason for every file that was not read."""
    return added_html(AddReport((), (), (), {}, report), language)


def added_html(report: AddReport, language: str, problem: str = "") -> str:
    """Return what came into the material and what the rebuild after it did, with a reason for
    everything that did not come in; ``problem`` says why there was no rebuild."""
    build = report.build
    failed = {name: _named(name, reason) for name, reason in report.failed.items()}
    rows = [
        _row("added", [*report.added, *(build.added if build else ())], language),
        _row("replaced", report.replaced, language),
        _row("present", report.present, language),
    ]
    if build:
        failed |= {name: _named(name, reason) for name, reason in build.failed.items()}
        changed = [name for name in build.changed if name not in report.replaced]
        rows += [
            _row("changed", changed, language),
            _row("removed_documents", build.removed, language),
            _count("unchanged", len(build.unchanged), language),
        ]
    rows.append(_row("not_read", failed.values(), language))
    end = ""
    if build:
        skipped = [_named(name, reason) for name, reason in build.skipped.items()]
        rows.append(_row("skipped", skipped, language))
        end = f"<p>{escape(say(language, 'took', seconds=f'{build.seconds:.1f}'))}</p>"
    if problem:
        said = f"{say(language, 'behind')} {problem}"
        end = f'<p class="fqa-problem" role="alert">{escape(said)}</p>'
    return f'<div class="fqa-report" role="status"><dl>{"".join(rows)}</dl>{end}</div>'


def _named(name: str, reason: str) -> str:
    return reason if name in reason else f"{name}: {reason}"


def _row(key: str, names: Iterable[str], language: str) -> str:
    lines = list(dict.fromkeys(names))
    if not lines:
        return ""
    shown = [f"<li>{escape(line)}</li>" for line in lines[:_LISTED]]
    if len(lines) > _LISTED:
        shown.append(f"<li>{escape(say(language, 'more', count=len(lines) - _LISTED))}</li>")
    return _count(key, len(lines), language, f"<ul>{''.join(shown)}</ul>")


def _count(key: str, count: int, language: str, below: str = "") -> str:
    return f"<dt>{escape(say(language, key))}</dt><dd>{count}{below}</dd>"
