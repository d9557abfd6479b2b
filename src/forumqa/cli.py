"""The command line: parse, call the engine, print. Answers on stdout, all else on stderr."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forumqa.engine import ForumQA, settings_from_environment
from forumqa.schema import Answer, BuildReport, ForumQAError, Hit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 after an error of ours that one line explains."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ForumQAError as error:
        print(f"forumqa: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forumqa", description="Ask a folder of articles a question, in Korean or English."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        if name != "eval":
            command.add_argument("--index", default="index", metavar="DIR")
        if name != "serve":
            command.add_argument("--json", action="store_true", help="print JSON")
        return command

    command = verb("ask", _ask, "answer a question with quoted sentences")
    command.add_argument("question", metavar="QUESTION")
    command = verb("retrieve", _retrieve, "list the passages nearest to a question")
    command.add_argument("question", metavar="QUESTION")
    command.add_argument("-k", type=int, default=5, metavar="N")
    command = verb("rebuild", _rebuild, "bring the index up to date with the corpus folder")
    command.add_argument("--corpus", default="corpus", metavar="DIR")
    # How a served page follows a rebuild in another process.
    command.add_argument("--progress-json", action="store_true", help=argparse.SUPPRESS)
    command = verb("add", _add, "put files and web pages into the corpus folder and rebuild")
    command.add_argument("sources", nargs="+", metavar="URL_OR_FILE")
    command.add_argument("--corpus", default="corpus", metavar="DIR")
    verb("list", _list, "list the documents, with what failed and what is a copy of another")
    command = verb("remove", _remove, "delete documents from the corpus folder and rebuild")
    command.add_argument("ids", nargs="+", metavar="ID")
    command.add_argument("--corpus", default="corpus", metavar="DIR")
    verb("rollback", _rollback, "go back to the index before the last rebuild")
    verb("verify", _verify, "check every byte of the index")
    command = verb("serve", _serve, "open the chat in the browser")
    command.add_argument("--corpus", default="corpus", metavar="DIR")
    command.add_argument("--host", default="127.0.0.1")
    command.add_argument("--port", type=int, default=7860)
    command.add_argument("--rebuild", action="store_true", help="rebuild the index first")
    command.add_argument("--watch", action="store_true", help="rebuild when the corpus changes")
    command.add_argument("--editable", action="store_true",
                         help="let everyone who can reach the page add and remove material; "
                         "without it, only on 127.0.0.1")  # fmt: skip
    command.add_argument("--interval", type=_seconds, default=5.0, metavar="S",
                         help="seconds between two looks at the corpus (5)")  # fmt: skip
    command = verb("eval", _eval, "measure retrieval and answers over BEIR folders")
    command.add_argument("folders", nargs="+", type=Path, metavar="BEIR_DIR")
    command.add_argument("--side", choices=["both", "lexical", "dense", "each"], default="both")
    command.add_argument("--always", action="store_true", help="never abstain")
    verb("info", _info, "say what is indexed and served")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError("between 0.1 and 86400 seconds")
    return value


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))


def _progress(done: int, total: int, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{done}/{total} {what}", end="", file=sys.stderr, flush=True)


def _ask(options: argparse.Namespace) -> int:
    answer = ForumQA(options.index).ask(options.question)
    if options.json:
        _print_json(asdict(answer))
    else:
        print(_answer_text(answer))
    return 0


def _answer_text(answer: Answer) -> str:
    lines = [answer.text, ""]
    for citation in answer.citations:
        page = f", p. {citation.page}" if citation.page else ""
        lines.append(f"[{citation.number}] {citation.title} ({citation.document_id}{page})")
    if not answer.citations:
        lines += [_hit_text(i, hit) for i, hit in enumerate(answer.hits[:3], 1)]
    return "\n".join(lines).rstrip()


def _hit_text(rank: int, hit: Hit) -> str:
    return f"{rank}. {hit.score:.3f}  {hit.passage.id}  {hit.title}\n   {hit.passage.text}"


def _retrieve(options: argparse.Namespace) -> int:
    hits = ForumQA(options.index).retrieve(options.question, options.k)
    if options.json:
        _print_json([asdict(hit) for hit in hits])
    else:
        print("\n".join(_hit_text(rank, hit) for rank, hit in enumerate(hits, 1)))
    return 0


def _rebuild(options: argparse.Namespace) -> int:
    progress = _ProgressLines() if options.progress_json else _progress
    # A rebuild makes millions of objects and no cycles of them: looking for some costs a tenth.
    gc.disable()
    try:
        report = ForumQA(options.index, options.corpus).rebuild(progress=progress)
    finally:
        gc.enable()
    _print_report(report, options.json)
    return 0


class _ProgressLines:
    """Progress as JSON lines, ten a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.1
            print(json.dumps([done, total, what]), file=sys.stderr, flush=True)


def _print_report(report: BuildReport, as_json: bool) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if as_json:
        _print_json(asdict(report))
    else:
        print(_report_text(report))


def _list(options: argparse.Namespace) -> int:
    entries = ForumQA(options.index).listing()
    if options.json:
        _print_json([asdict(entry) for entry in entries])
        return 0
    for entry in entries:
        state = f"duplicate-of {entry.duplicate_of}" if entry.state == "duplicate" else entry.state
        reason = f": {entry.reason}" if entry.reason else ""
        source = entry.source if entry.source != entry.id else ""
        fields = [entry.id, entry.title, entry.date, source, str(entry.passages), state + reason]
        print("\t".join(fields))
    return 0


def _add(options: argparse.Namespace) -> int:
    report = ForumQA(options.index, options.corpus).add(options.sources, progress=_progress)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    for reason in report.failed.values():
        print(f"forumqa: {reason}", file=sys.stderr)
    if options.json:
        _print_json(asdict(report))
    elif report.build:
        for name in ("added", "replaced", "present"):
            for document in getattr(report, name):
                print(f"{name}: {document}")
        print(_report_text(report.build))
    return 0 if report.build else 1


def _remove(options: argparse.Namespace) -> int:
    report = ForumQA(options.index, options.corpus).remove(options.ids, _progress)
    _print_report(report, options.json)
    return 0


def _rollback(options: argparse.Namespace) -> int:
    number = ForumQA(options.index).rollback()
    if options.json:
        _print_json({"generation": number})
    else:
        print(f"generation {number} is live again")
    return 0


def _verify(options: argparse.Namespace) -> int:
    checks = ForumQA(options.index).verify()
    if options.json:
        _print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            live = " (live)" if check.live else ""
            print(f"generation {check.generation}{live}: {check.problem or 'sound'}")
    return int(any(check.live and check.problem for check in checks))


def _report_text(report: BuildReport) -> str:
    lines = [
        f"generation {report.generation}: {report.passages} passages, {report.embedded} sentences "
        f"embedded, {report.seconds:.1f} s"
    ]
    for name in ("added", "changed", "removed"):
        lines += [f"  {name}: {document}" for document in getattr(report, name)]
    lines.append(f"  unchanged: {len(report.unchanged)}")
    lines += [f"  failed: {name}: {reason}" for name, reason in report.failed.items()]
    lines += [f"  skipped: {name}: {reason}" for name, reason in report.skipped.items()]
    return "\n".join(lines)


def _serve(options: argparse.Namespace) -> int:
    from forumqa.webui import serve

    forum = ForumQA(options.index, options.corpus, apart=True)
    if options.rebuild or not (forum.index / "CURRENT").exists():
        print(_report_text(forum.rebuild(progress=_progress)), file=sys.stderr)
    if options.watch:
        forum.watch(options.interval)
    serve(forum, host=options.host, port=options.port, editable=options.editable)
    return 0


def _eval(options: argparse.Namespace) -> int:
    from forumqa import evaluation
    from forumqa.dense import load_embedder

    embedder = load_embedder(settings_from_environment())
    sides = ["both", "lexical", "dense"] if options.side == "each" else [options.side]
    figures = {
        side: evaluation.evaluate(options.folders, embedder, side, abstain=not options.always)
        for side in sides
    }
    if options.json:
        _print_json(figures if options.side == "each" else figures[options.side])
    else:
        for side in sides:
            heading = f"== {side}\n" if len(sides) > 1 else ""
            print(heading + evaluation.table(figures[side]))
    return 0


def _info(options: argparse.Namespace) -> int:
    facts = ForumQA(options.index).info()
    if options.json:
        _print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name:16} {value}")
    return 0
