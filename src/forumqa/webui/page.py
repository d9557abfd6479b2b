"""The page itself: components, and one event for each thing a reader can do.

Every handler parses, calls the engine and renders; what needs thought is in `fragments` (tested
without a browser) or in the engine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import processing_utils
from gradio.events import api

from forumqa import intake, loaders
from forumqa.schema import Answer, Document, ForumQAError, Message, Progress
from forumqa.text import language_of

from . import adding, fragments, material
from .labels import LANGUAGES, chosen, say, table

if TYPE_CHECKING:
    from forumqa.engine import ForumQA

log = logging.getLogger(__name__)

# A question is a few milliseconds of work, or a wait for a language model; a handful at a time
# keeps both quick, and a queue that is full says so instead of growing.
ANSWERS_AT_ONCE = 8
QUEUE_SIZE = 64
QUESTION_LENGTH = 2000
# In seconds. An upload is deleted when it has been read; this is for those that nobody reads.
FORGOTTEN_UPLOADS = 3600

Chat = list[dict[str, Any]]
Turn = Iterator[tuple[Any, Any]]


def build_page(forum: ForumQA, editors: adding.Editors) -> tuple[gr.Blocks, gr.I18n]:
    """Return the page and its labels; the engine is not touched before a browser has the page.

    Only ``editors`` see what adds and removes material, and its handlers refuse anyone else.
    """
    # Gradio would download an address that a forged request names in place of an uploaded file.
    processing_utils.async_ssrf_protected_get = _no_download
    i18n = gr.I18n(**{language: table(language) for language in LANGUAGES})
    upload_label: Any = i18n("fqa_add_files")  # Gradio takes it and declares a str
    static: dict[str, Any] = {"js_on_load": None, "apply_default_css": False}
    with gr.Blocks(
        title="forumqa",
        analytics_enabled=False,
        delete_cache=(FORGOTTEN_UPLOADS, FORGOTTEN_UPLOADS),
    ) as page:
        head = gr.HTML(
            fragments.head_html("en", None),
            elem_id="fqa-head",
            js_on_load=_LANGUAGE_SWITCH,
            apply_default_css=False,
        )
        with gr.Row(elem_id="fqa-main", equal_height=True):
            with gr.Column(elem_id="fqa-chat", min_width=0):
                bot = gr.Chatbot(
                    elem_id="fqa-bot",
                    label=i18n("fqa_chat"),
                    show_label=False,
                    container=False,
                    height="100%",
                    layout="bubble",
                    buttons=["copy"],
                    editable="user",
                    render_markdown=False,
                    latex_delimiters=[],
                    allow_tags=False,
                    feedback_options=None,
                    group_consecutive_messages=False,
                )
                with gr.Row(elem_id="fqa-ask"):
                    box = gr.Textbox(
                        elem_id="fqa-box",
                        label=i18n("fqa_question"),
                        placeholder=i18n("fqa_ask"),
                        show_label=False,
                        container=False,
                        lines=1,
                        max_lines=6,
                        max_length=QUESTION_LENGTH,
                        submit_btn=True,
                        stop_btn=False,
                        autofocus=True,
                        scale=1,
                    )
                    new = gr.Button(
                        i18n("fqa_new"), elem_id="fqa-new", variant="secondary", scale=0
                    )
            gr.HTML(_PANEL, elem_id="fqa-source", **static)
        with gr.Accordion(i18n("fqa_material"), open=False, elem_id="fqa-material") as section:
            with gr.Row(elem_id="fqa-add", visible=False) as editing:
                with gr.Column(min_width=280):
                    upload = gr.UploadButton(
                        upload_label,
                        elem_id="fqa-upload",
                        file_count="multiple",
                        size="sm",
                    )
                    hint = gr.HTML("", elem_id="fqa-upload-more", **static)
                    with gr.Row(elem_classes="fqa-field"):
                        url = gr.Textbox(
                            elem_id="fqa-url",
                            label=i18n("fqa_url"),
                            placeholder="https://",
                            max_lines=1,
                            max_length=2000,
                            scale=1,
                        )
                        add_url = gr.Button(
                            i18n("fqa_add_url"), elem_id="fqa-add-url", size="sm", scale=0
                        )
                with gr.Column(min_width=280):
                    title = gr.Textbox(
                        elem_id="fqa-title", label=i18n("fqa_title"), max_lines=1, max_length=300
                    )
                    text = gr.Textbox(
                        elem_id="fqa-text", label=i18n("fqa_text"), lines=3, max_lines=8
                    )
                    add_text = gr.Button(
                        i18n("fqa_add_text"), elem_id="fqa-add-text", size="sm", scale=0
                    )
            rebuild = gr.Button(i18n("fqa_rebuild"), elem_id="fqa-rebuild", size="sm", scale=0)
            report = gr.HTML("", elem_id="fqa-report", **static)
            listing = gr.HTML(
                "", elem_id="fqa-listing", js_on_load=_REMOVAL, apply_default_css=False
            )

        # Turns, one event each.
        latest = _LatestTurns()

        def send(text: str, chat: Chat, request: gr.Request) -> Turn:
            yield from _turn(forum, text, chat, latest.begin(request))

        def start(chat: Chat, chip: gr.SelectData, request: gr.Request) -> Turn:
            yield from _turn(forum, str(chip.value["text"]), chat, latest.begin(request))

        def retry(chat: Chat, event: gr.RetryData, request: gr.Request) -> Turn:
            at = _index(event.index)
            question = fragments.typed_question(fragments.content_text(chat[at]["content"]))
            yield from _turn(forum, question, chat[:at], latest.begin(request))

        def edit(chat: Chat, event: gr.EditData, request: gr.Request) -> Turn:
            question = fragments.typed_question(fragments.content_text(event.value))
            yield from _turn(forum, question, chat[: _index(event.index)], latest.begin(request))

        def stop(chat: Chat, request: gr.Request) -> tuple[Any, Chat]:
            latest.end(request)
            return _BOX_READY, _stopped(chat)

        def clear(request: gr.Request) -> tuple[Any, Chat]:
            latest.end(request)
            return _BOX_READY, []

        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        turn: dict[str, Any] = {
            **private,
            # A new question need not wait for the answer to the one before it, see _LatestTurns.
            "trigger_mode": "multiple",
            "concurrency_id": "answers",
            "concurrency_limit": ANSWERS_AT_ONCE,
        }
        turns: list[dict[str, Any]] = [
            box.submit(send, [box, bot], [box, bot], **turn),
            bot.example_select(start, bot, [box, bot], **turn),
            bot.retry(retry, bot, [box, bot], **turn),
            bot.edit(edit, bot, [box, bot], **turn),
        ]
        box.stop(stop, bot, [box, bot], cancels=turns, queue=False, **private)
        new.click(clear, None, [box, bot], cancels=turns, queue=False, **private)
        page.unload(latest.end)

        # Labels and material.
        def labels(request: gr.Request) -> tuple[Any, ...]:
            words = _language(request)
            return (
                gr.update(label=say(words, "question"), placeholder=say(words, "ask")),
                say(words, "new"),
                gr.update(label=say(words, "material")),
                say(words, "rebuild"),
                gr.update(label=say(words, "add_files")),
                gr.update(label=say(words, "url")),
                say(words, "add_url"),
                gr.update(label=say(words, "title")),
                gr.update(label=say(words, "text")),
                say(words, "add_text"),
            )

        def state(request: gr.Request) -> tuple[Any, ...]:
            editable = adding.may_edit(editors, request.headers)
            return _state(forum, _language(request), editable)

        def rebuilt(request: gr.Request, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
            try:
                done = forum.rebuild(progress=_shown(progress))
                return material.report_html(done, _language(request))
            except ForumQAError as error:
                return fragments.problem_html(str(error))

        def take_in(
            pieces: Sequence[adding.Piece], request: gr.Request, progress: gr.Progress
        ) -> tuple[str, bool]:
            """Return the report, and whether all came in."""
            words = _language(request)
            if not adding.may_edit(editors, request.headers):
                return fragments.problem_html(say(words, "no_editing")), False
            if not pieces:
                return fragments.problem_html(say(words, "nothing")), False
            if len(pieces) > intake.MAX_SOURCES:
                limits = {"given": len(pieces), "count": intake.MAX_SOURCES}
                return fragments.problem_html(say(words, "too_many", **limits)), False
            done, problem = adding.take_in(forum, pieces, _shown(progress))
            return material.added_html(done, words, problem), not done.failed

        def add_files(
            files: list[dict[str, Any]] | None,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> tuple[str, Any]:
            try:
                shown, _ = take_in(adding.uploads(files or []), request, progress)
            finally:
                adding.forget(files or [])
            return shown, None

        def add_address(
            address: str,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> tuple[str, str]:
            address = address.strip()
            pieces = [(address, partial(intake.add_url, address))] if address else []
            shown, whole = take_in(pieces, request, progress)
            return shown, "" if whole else address

        def add_pasted(
            title: str,
            text: str,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> tuple[str, str, str]:
            name = title.strip() or say(_language(request), "text")
            pieces = [(name, partial(intake.add_text, title, text))] if text.strip() else []
            shown, whole = take_in(pieces, request, progress)
            return (shown, "", "") if whole else (shown, title, text)

        def removed(
            event: gr.EventData,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> str:
            words = _language(request)
            if not adding.may_edit(editors, request.headers):
                return fragments.problem_html(say(words, "no_editing"))
            try:
                done = forum.remove([str(event.id)], _shown(progress))
                return material.report_html(done, words)
            except ForumQAError as error:
                return fragments.problem_html(str(error))

        status = [head, bot, listing, hint, editing]
        page.load(state, None, status, **private)
        section.expand(state, None, status, **private)
        words = [box, new, section, rebuild, upload, url, add_url, title, text, add_text]
        head.select(labels, None, words, **private)
        head.select(state, None, status, **private)
        # One change at a time, each with its progress above the report.
        change: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress_on": report,
            "concurrency_id": "rebuild",
            "concurrency_limit": 1,
        }
        for changed in (
            rebuild.click(rebuilt, None, report, **change),
            # Gradio's own reading of an upload leaves an empty file behind, each time.
            upload.upload(add_files, upload, [report, upload], preprocess=False, **change),
            add_url.click(add_address, url, [report, url], **change),
            url.submit(add_address, url, [report, url], **change),
            add_text.click(add_pasted, [title, text], [report, title, text], **change),
            listing.select(removed, None, report, **change),
        ):
            changed.then(state, None, status, **private)

        _add_api(forum)
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=ANSWERS_AT_ONCE, api_open=False)
    return page, i18n


_BOX_READY = gr.update(submit_btn=True, stop_btn=False)
_PANEL = '<div class="fqa-panel" role="region" tabindex="-1"></div>'
# The question whether one is sure is asked by page.js.
_REMOVAL = """
element.addEventListener('fqa-remove', (event) => trigger('select', {id: event.detail}));
"""
_LANGUAGE_SWITCH = """
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-fqa=language]')) trigger('select', {});
});
"""


class _LatestTurns:
    """Which turn of a browser tab is the latest; an older one writes no more into its chat.

    Gradio can cancel an event, but an event that cancels an earlier run of itself may lose track
    of the new run (the page forgets a cancelled run by its function, not by its run).
    """

    def __init__(self) -> None:
        self._latest: dict[str | None, object] = {}

    def begin(self, request: gr.Request) -> Callable[[], bool]:
        """Make a new turn the latest; what is returned tells whether it still is."""
        session, turn = request.session_hash, object()
        self._latest[session] = turn
        return lambda: self._latest.get(session) is turn

    def end(self, request: gr.Request) -> None:
        """Leave the tab without a turn."""
        self._latest.pop(request.session_hash, None)


def _turn(forum: ForumQA, text: str, chat: Chat, is_latest: Callable[[], bool]) -> Turn:
    """Yield (text box, chat) as the answer to one question grows."""
    question = text.strip()[:QUESTION_LENGTH]
    if not question:
        yield gr.skip(), gr.skip()
        return
    earlier = fragments.history(chat)
    chat = [*chat, {"role": "user", "content": fragments.shown_question(question)}]
    # The box stays open to typing, which also keeps the focus in it.
    yield gr.update(value="", submit_btn=False, stop_btn=True), chat
    answer = None
    fragment = ""
    try:
        for answer in forum.stream(question, history=earlier):
            if not is_latest():
                break
            fragment = fragments.answer_html(answer, growing=True)
            yield gr.skip(), [*chat, {"role": "assistant", "content": fragment}]
        if answer is not None:
            fragment = fragments.answer_html(answer, documents=_cited(forum, answer))
    except ForumQAError as error:
        fragment = fragments.problem_html(str(error))
    except Exception:
        # A mistake of ours: the reader gets a sentence, the log gets the traceback.
        log.exception("the answer to a question failed")
        fragment = fragments.problem_html(say(language_of(question), "failed"))
    if is_latest():
        yield _BOX_READY, [*chat, {"role": "assistant", "content": fragment}]
    else:
        yield gr.skip(), gr.skip()  # Gradio sends the last value of a run once more at its end


def _stopped(chat: Chat) -> Chat:
    """Return the chat with its last answer marked as stopped."""
    questions = [message for message in chat if message["role"] == "user"]
    if not questions:
        return chat
    language = language_of(fragments.content_text(questions[-1]["content"]))
    said = ""
    if chat[-1]["role"] == "assistant":
        said = fragments.content_text(chat[-1]["content"])
        chat = chat[:-1]
    fragment = fragments.stopped_html(said, language)
    return [*chat, {"role": "assistant", "content": fragment}]


def _cited(forum: ForumQA, answer: Answer) -> dict[str, Document]:
    """Return what an answer cites, and near copies, by id."""
    wanted = {name for c in answer.citations for name in (c.document_id, *c.also)}
    if not wanted:
        return {}
    return {document.id: document for document in forum.documents() if document.id in wanted}


def _state(forum: ForumQA, language: str, editable: bool) -> tuple[Any, ...]:
    """Return head, chat and material section as the engine's state has them."""
    info = forum.info()
    problem, starters, documents, entries = str(info.get("problem", "")), [], [], []
    try:
        starters, documents = forum.starters(language), forum.documents()
        entries = forum.listing()
    except ForumQAError as error:
        problem = str(error)
    limits = {"count": intake.MAX_SOURCES, "size": loaders.MAX_BYTES // 2**20}
    return (
        fragments.head_html(language, len(documents), problem, forum.generator_name),
        gr.update(
            label=say(language, "chat"),
            placeholder=fragments.greeting_html(language),
            examples=[{"text": starter} for starter in starters],
        ),
        material.listing_html(language, info, entries, documents, editable),
        material.hint_html(language, loaders.LOADERS, **limits),
        gr.update(visible=editable),
    )


def _shown(progress: gr.Progress) -> Progress:
    return lambda done, total, what: progress((done, total), desc=what)


async def _no_download(url: str) -> Any:
    raise gr.Error(f"{url} is not fetched.", print_exception=False)


def _add_api(forum: ForumQA) -> None:
    """Give programs the two verbs; docstrings are what the API page shows."""

    def retrieve(question: str, k: int = 5) -> list[dict[str, Any]]:
        """Find the passages of the material that are nearest to a question, best first.

        Each is a dict with passage (document_id, text, start, end, ...), title, source and
        score.
        """
        try:
            return [asdict(hit) for hit in forum.retrieve(question, min(max(int(k), 1), 100))]
        except ForumQAError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def ask(question: str, history: list[Message] | None = None) -> dict[str, Any]:
        """Answer a question with exact sentences of the material.

        history holds earlier turns as {"role": "user" | "assistant", "content": str}. The answer
        is a dict with text, kind ("extractive", "generated" or "abstained"), confidence,
        citations (number, document_id, quote, start, end, ...) and hits.
        """
        try:
            return asdict(forum.ask(question, history=history or ()))
        except ForumQAError as error:
            raise gr.Error(str(error), print_exception=False) from error

    api(retrieve, api_name="retrieve", concurrency_id="answers")
    api(ask, api_name="ask", concurrency_id="answers")


def _language(request: gr.Request) -> str:
    return chosen(request.cookies, request.headers.get("accept-language", ""))


def _index(index: int | tuple[int, int]) -> int:
    return index if isinstance(index, int) else index[0]
