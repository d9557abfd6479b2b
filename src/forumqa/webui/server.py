"""The page's server: FastAPI around Gradio, bound to this machine unless told otherwise."""

from __future__ import annotations

import contextlib
import html
import json
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final

import gradio as gr
import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.datastructures import Headers

from forumqa import loaders
from forumqa.schema import ForumQAError

from . import adding, fragments
from .labels import LANGUAGES, WORDS, chosen, say
from .page import build_page

if TYPE_CHECKING:
    from forumqa.engine import ForumQA

# Gradio evaluates code of its own, hence the two "unsafe" words; what this policy holds is that a
# page can neither load from nor send to any other host, whatever a document says.
POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
# Where Gradio takes the bytes of an upload, before any handler of the page hears of it.
_UPLOAD: Final = "/gradio_api/upload"
_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def create_app(forum: ForumQA, editors: adding.Editors = "nobody") -> FastAPI:
    """Return the application. The engine opens behind the first page, not before it.

    ``editors`` may add and remove material: "nobody"; "local", where a request names this machine
    by a loopback address; or "all". A request from a page of another site never may. Whoever else
    tries gets a sentence (or, for the bytes of an upload, status 403).
    """
    page_is_out = threading.Event()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=_open_behind, args=(forum, page_is_out), daemon=True).start()
        yield

    # FastAPI's own documentation page loads scripts from another host.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/source", response_class=HTMLResponse)
    def source(
        request: Request,
        id: str,
        at: Annotated[list[str], Query(max_length=50)] = [],  # noqa: B006 - FastAPI copies it
    ) -> HTMLResponse:
        """Return a document with spans ("start-end") marked, the first being the current one."""
        language = chosen(request.cookies, request.headers.get("accept-language", ""))
        spans = [span for span in map(_span, at) if span]
        try:
            document = forum.document(id)
            copies = forum.copies(id)
        except ForumQAError as error:
            return HTMLResponse(fragments.problem_html(str(error)), 503)
        current = spans[0] if spans else None
        return HTMLResponse(fragments.panel_html(document, spans, current, language, copies))

    @app.get("/original")
    def original(request: Request, id: str) -> Response:
        """Return the file that a document was read from: a PDF to be seen, all else to be saved,
        since a browser would run what an HTML file says."""
        language = chosen(request.cookies, request.headers.get("accept-language", ""))
        try:
            path = forum.original(id)
        except ForumQAError as error:
            return HTMLResponse(fragments.problem_html(str(error)), 503)
        if path is None:
            return HTMLResponse(fragments.problem_html(say(language, "no_original")), 404)
        is_pdf = id.lower().endswith(".pdf")
        return FileResponse(
            path,
            media_type="application/pdf" if is_pdf else "application/octet-stream",
            filename=id.rpartition("/")[2],
            content_disposition_type="inline" if is_pdf else "attachment",
            headers={"content-security-policy": "sandbox", "cache-control": "no-store"},
        )

    page, i18n = build_page(forum, editors)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name="127.0.0.1",
        footer_links=["api"],
        run_history=False,
        max_file_size=loaders.MAX_BYTES,
        show_error=False,
        theme=_theme(),
        i18n=i18n,
    )
    app.add_middleware(_Frame, page_is_out=page_is_out, editors=editors)
    return app


def serve(
    forum: ForumQA,
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = False,
    editable: bool = False,
) -> None:
    """Serve the page until interrupted.

    Bound to a loopback address, the page lets its reader add and remove material; bound to another
    it does so, for everyone who can reach it, only where it is ``editable``. A proxy before it has
    to pass on the Host header: it tells whom a request was meant for.
    """
    editors: adding.Editors = (
        "all" if editable else "local" if adding.is_loopback(host) else "nobody"
    )
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
    sys.stderr.write(f"forumqa: {address} (Ctrl+C ends it)\n")
    if open_browser:
        threading.Timer(1.0, webbrowser.open, (address,)).start()
    try:
        # An open page holds a stream, which would hold up the end of the server for ever.
        uvicorn.run(
            create_app(forum, editors),
            host=host,
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=3,
        )
    finally:
        forum.close()


def _open_behind(forum: ForumQA, page_is_out: threading.Event) -> None:
    # Opening competes for the interpreter with the first page; a page nobody asks for waits 2 s.
    page_is_out.wait(2.0)
    # What is wrong will be said in the page, to the one who asks.
    with contextlib.suppress(ForumQAError):
        forum.documents()


def _span(text: str) -> fragments.Span | None:
    start, _, end = text.partition("-")
    if not (start.isascii() and start.isdigit() and end.isascii() and end.isdigit()):
        return None
    return int(start), int(end)


def _theme() -> gr.themes.Base:
    # Only fonts that a machine may already have: nothing is fetched.
    fonts = ["Pretendard", "Apple SD Gothic Neo", "Noto Sans KR", "Noto Sans CJK KR"]
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="stone",
        font=[*fonts, "Malgun Gothic", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )


class _Frame:
    """Adds the policy to every response; puts language, style and script into the page.

    Gradio's page says lang="en" and asks the browser for its language; here the server decides
    once, from the reader's choice or the browser's header, and tells both.
    """

    def __init__(self, app: Any, page_is_out: threading.Event, editors: adding.Editors) -> None:
        self.app = app
        self.page_is_out = page_is_out
        self.editors = editors
        assets = files(__package__)
        style = (assets / "page.css").read_text("utf-8")
        script = (assets / "page.js").read_text("utf-8")
        # In a script element only "<" could end or begin something.
        words = json.dumps({name: WORDS[name] for name in LANGUAGES}, ensure_ascii=False)
        words = words.replace("<", "\\u003c")
        self.head = (
            f"<style>{style}</style>"
            f'<script type="application/json" id="fqa-words">{words}</script>'
            f"<script>{script}</script>"
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].rstrip("/") == _UPLOAD and not adding.may_edit(
            self.editors, Headers(scope=scope)
        ):
            await Response(status_code=403)(scope, receive, send)
            return
        is_page = scope["path"] == "/" and scope["method"] == "GET"
        language = "en"
        if is_page:
            sent = dict(scope["headers"])
            language = _wanted(sent)
            # The page is rewritten here, so it must not arrive compressed.
            headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
            scope = {**scope, "headers": headers}
        start: dict[str, Any] = {}
        body = bytearray()

        async def wrapped(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
                if is_page:
                    start.update(message)
                    return
            elif is_page and message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                whole = self._framed(bytes(body).decode("utf-8"), language).encode("utf-8")
                kept = [pair for pair in start["headers"] if pair[0] != b"content-length"]
                start["headers"] = [
                    *kept,
                    (b"content-length", str(len(whole)).encode()),
                    (b"vary", b"cookie, accept-language"),
                ]
                await send(start)
                await send({**message, "body": whole})
                self.page_is_out.set()
                return
            await send(message)

        await self.app(scope, receive, wrapped)

    def _framed(self, page: str, language: str) -> str:
        tongue = html.escape(language)
        choose = (
            f"<script>for (const [key, value] of [['language', '{tongue}'],"
            f" ['languages', ['{tongue}']]])"
            " Object.defineProperty(navigator, key, {get: () => value});</script>"
        )
        page = page.replace('lang="en"', f'lang="{tongue}"', 1)
        return page.replace("<head>", f"<head>{choose}{self.head}", 1)


def _wanted(headers: dict[bytes, bytes]) -> str:
    cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    values = {name: morsel.value for name, morsel in cookies.items()}
    return chosen(values, headers.get(b"accept-language", b"").decode("latin-1"))
