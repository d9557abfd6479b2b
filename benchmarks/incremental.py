"""Measures what one more article costs, against a rebuild from nothing.

usage: python -m benchmarks.incremental [--articles 10000] [--corpus DIR] [--news FILE.jsonl …]
                                        [--in-process]

Without --corpus the material is made, always the same: sentences of the written articles are drawn
anew for every article, each with a speaker of its own before it and other figures in it. Without
that a build would meet the same sentence again and again and reuse it, and look cheaper than it is;
``distinct`` in the output says how many sentences differ. With --corpus the folder is copied.

Both rebuilds run as those of a served page do, in a process of their own, or with --in-process in
the one that answers; their seconds end when questions are answered from the new generation.
Meanwhile a question is asked every 100 ms, as before with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forumqa.engine import ForumQA
from forumqa.schema import BuildReport

NEWS = [Path("training/news/articles-2.jsonl"), Path("training/news/held-out.jsonl")]
SENTENCES = 12
_FAMILY = "김이박최정강조윤장임한오서신권황안송류홍"
_GIVEN = "가나다라마바사아자하건경규기남도동민범상서석선성세소수순승시연영예용우원유윤은인재정종주준지진찬창철태하한해현형혜호화효훈휘희"
_PLACE = "가람나루다솔라온마루바다새벽아라자운차돌한울해솔노을미르별빛산들여울온새윤슬초롱푸른하늘"
_TITLES = ["과장", "교수", "연구원", "대표", "위원장", "국장", "센터장", "박사", "팀장", "소장"]
_KINDS = ["시", "군", "구", "대학교", "연구원", "협회", "진흥원", "재단"]


def sentences(files: Sequence[Path]) -> list[str]:
    """Return the Korean sentences of written articles."""
    rows = [json.loads(line) for file in files for line in file.open(encoding="utf-8")]
    return [sentence["ko"] for row in rows for sentence in row["sentences"]]


def article(pool: Sequence[str], number: int) -> str:
    """Return the text of the article of that number, the same on every call."""
    rng = random.Random(number)

    def speaker() -> str:
        person = rng.choice(_FAMILY) + rng.choice(_GIVEN) + rng.choice(_GIVEN)
        at = rng.randrange(len(_PLACE) - 2)
        return f"{_PLACE[at : at + 2]}{rng.choice(_KINDS)} {person} {rng.choice(_TITLES)}"

    def figures(text: str) -> str:
        return re.sub(r"\d+", lambda m: str(rng.randint(1, 10 ** len(m.group()))), text)

    body = [f"{speaker()}에 따르면 {figures(rng.choice(pool))}" for _ in range(SENTENCES)]
    return f"{speaker()} {number}번째 소식\n\n" + "\n".join(body) + "\n"


def make_corpus(folder: Path, articles: int, files: Sequence[Path] = NEWS) -> None:
    """Write so many articles, a hundred to a folder."""
    pool = sentences(files)
    for number in range(articles):
        path = folder / f"{number // 100:03d}" / f"{number:05d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(article(pool, number), encoding="utf-8")


def measure(corpus: Path, index: Path, new_article: str, in_process: bool) -> dict[str, Any]:
    """Return the figures of one full and one incremental rebuild."""
    forum = ForumQA(index, corpus, apart=not in_process)

    cpu: list[float] = []

    def rebuild() -> tuple[float, BuildReport]:
        began, times = time.perf_counter(), os.times()
        report = forum.rebuild()
        after = os.times()
        children = after.children_user + after.children_system
        cpu.append(children - times.children_user - times.children_system)
        return time.perf_counter() - began, report

    full, report = rebuild()
    questions = [document.text.split(".")[0] + "?" for document in forum.documents()[::200]]
    for question in questions:
        forum.ask(question)
    idle = ask_during(forum, questions, lambda: time.sleep(15))
    (corpus / "one-more.txt").write_text(new_article, encoding="utf-8")
    results: list[tuple[float, BuildReport]] = []
    during = ask_during(forum, questions, lambda: results.append(rebuild()))
    incremental, more = results[0]
    return {
        "passages": report.passages,
        "sentences": forum.info()["sentences"],
        "distinct": report.embedded,
        "bytes": forum.info()["bytes"],
        "full_seconds": round(full, 2),
        "incremental_seconds": round(incremental, 2),
        "ratio": round(incremental / full, 4),
        # Of the process that rebuilds, full and incremental; 0 with --in-process. The seconds above
        # share the machine with whatever else runs, and include opening what was built.
        "cpu_seconds": [round(seconds, 2) for seconds in cpu],
        "embedded_by_the_increment": more.embedded,
        "question_idle": quantiles(idle),
        "question_during": quantiles(during),
    }


def ask_during(forum: ForumQA, questions: Sequence[str], work: Callable[[], None]) -> list[float]:
    """Ask every 100 ms while ``work`` runs in a thread; return the seconds of each question."""
    thread = threading.Thread(target=work)
    thread.start()
    taken: list[float] = []
    while thread.is_alive():
        began = time.perf_counter()
        forum.ask(questions[len(taken) % len(questions)])
        taken.append(time.perf_counter() - began)
        time.sleep(0.1)
    thread.join()
    return taken


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return count, and median, 95th percentile and maximum in milliseconds."""
    median, p95, most = np.quantile(np.array(seconds) * 1000, [0.5, 0.95, 1.0])
    return {
        "count": len(seconds),
        "median_ms": round(float(median), 1),
        "p95_ms": round(float(p95), 1),
        "max_ms": round(float(most), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="What one more article costs.")
    parser.add_argument("--articles", type=int, default=10_000)
    parser.add_argument("--corpus", type=Path, help="a folder of articles instead of made ones")
    parser.add_argument("--news", type=Path, nargs="+", default=NEWS)
    parser.add_argument("--in-process", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        if options.corpus:
            shutil.copytree(options.corpus, corpus)
        else:
            make_corpus(corpus, options.articles, options.news)
        extra = article(sentences(options.news), options.articles)
        figures = measure(corpus, Path(folder) / "index", extra, options.in_process)
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
