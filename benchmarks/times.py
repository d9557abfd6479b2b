"""Measures what a user waits for, over the texts of a BEIR folder.

usage: python -m benchmarks.times BEIR_DIR

Prints seconds of a cold ``forumqa rebuild``, CPU seconds of a cold ``forumqa ask``, the median of a
question in a process that has the index open and the memory of that process (Linux), seconds
from the start of ``forumqa serve`` to the first page beside those of ``import gradio`` alone, and how
fast the default model embeds sentences and one question on one core (Linux).
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from forumqa.dense import DEFAULT_MODEL, StaticEmbedder
from forumqa.engine import ForumQA
from forumqa.evaluation import read_folder
from forumqa.text import sentence_spans

PROGRAM = [sys.executable, "-m", "forumqa"]


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Return wall seconds and CPU seconds of a command."""
    began, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system
    return time.perf_counter() - began, cpu - before.children_user - before.children_system


def first_page(arguments: Sequence[str]) -> float:
    """Return the seconds from the start of a server to its first page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    began = time.perf_counter()
    command = [*PROGRAM, "serve", "--port", port, *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read()
                    return time.perf_counter() - began
                except OSError:
                    time.sleep(0.02)
            raise SystemExit("the server ended early")
        finally:
            server.terminate()


def resident() -> float:
    """Return the memory of this process in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def one_core(texts: Sequence[str], questions: Sequence[str]) -> None:
    """Print how fast the default model embeds; the process keeps to one core from here on."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    # A thread pool that is there already is not bound to that core; without it, nothing leaves this one.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    embedder = StaticEmbedder(DEFAULT_MODEL)
    began = time.perf_counter()
    embedder.encode_passages(texts)
    print(f"encode, one core    {len(texts) / (time.perf_counter() - began):,.0f} sentences/s")
    taken = []
    for question in questions:
        began = time.perf_counter()
        embedder.encode_queries([question])
        taken.append(time.perf_counter() - began)
    print(f"encode a question   {statistics.median(taken) * 1000:.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="BEIR_DIR")
    folder = read_folder(parser.parse_args().folder)
    questions = [query["text"] for query in folder.queries[::5]]
    with tempfile.TemporaryDirectory() as work:
        corpus, index = Path(work) / "corpus", Path(work) / "index"
        corpus.mkdir()
        for i, document in enumerate(folder.documents):
            text = f"{document.title}\n\n{document.text}"
            (corpus / f"{i:06d}.txt").write_text(text, encoding="utf-8")
        where = ["--index", str(index), "--corpus", str(corpus)]
        print(f"cold rebuild        {timed([*PROGRAM, 'rebuild', *where])[0]:.1f} s")
        _, cpu = timed([*PROGRAM, "ask", questions[0], "--index", str(index)])
        print(f"cold ask            {cpu:.1f} s CPU")
        forum = ForumQA(index)
        forum.ask(questions[0])
        taken = []
        for question in questions:
            began = time.perf_counter()
            forum.ask(question)
            taken.append(time.perf_counter() - began)
        print(f"one question, p50   {statistics.median(taken) * 1000:.1f} ms")
        print(f"resident            {resident():.0f} MB")
        print(f"first page          {first_page(where):.1f} s")
        alone, _ = timed([sys.executable, "-c", "import gradio"])
        print(f"import gradio       {alone:.1f} s")
    sentences = [d.text[a:b] for d in folder.documents for a, b in sentence_spans(d.text)]
    one_core(sentences, questions)


if __name__ == "__main__":
    main()
