"""The page's server: FastAPI around Gradio, bound to this machine unless told otherwise."""

from __future__ import annotations

import contextlib
import html
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
from fastapi.responses import HTMLResponse

from forumqa.schema import ForumQAError

from . import fragments
from .labels import chosen
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
_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def create_app(forum: ForumQA) -> FastAPI:
    """Return the application. The engine opens behind the first page, not before it."""
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
        except ForumQAError as error:
            return HTMLResponse(fragments.problem_html(str(error)), 503)
        body = fragments.panel_html(document, spans, spans[0] if spans else None, language)
        return HTMLResponse(body)

    page, i18n = build_page(forum)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name="127.0.0.1",
        footer_links=["api"],
        run_history=False,
        show_error=False,
        theme=_theme(),
        i18n=i18n,
    )
    app.add_middleware(_Frame, page_is_out=page_is_out)
    return app


def serve(
    forum: ForumQA, host: str = "127.0.0.1", port: int = 7860, open_browser: bool = False
) -> None:
    """Serve the page until interrupted."""
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
    sys.stderr.write(f"forumqa: {address} (Ctrl+C ends it)\n")
    if open_browser:
        threading.Timer(1.0, webbrowser.open, (address,)).start()
    try:
        # An open page holds a stream, which would hold up the end of the server for ever.
        uvicorn.run(
            create_app(forum),
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

    def __init__(self, app: Any, page_is_out: threading.Event) -> None:
        self.app = app
        self.page_is_out = page_is_out
        assets = files(__package__)
        style = (assets / "page.css").read_text("utf-8")
        script = (assets / "page.js").read_text("utf-8")
        self.head = f"<style>{style}</style><script>{script}</script>"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
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
