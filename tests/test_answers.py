"""Known answers on the shipped corpus, conversations, the command line, figures."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from forumqa import Answer, ForumQA, ask, retrieve
from forumqa.cli import main
from forumqa.schema import GeneratorFailed, Message

QUESTIONS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "forum_questions.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
# Shares that must not fall; raised as they grow.
ANSWERED, ABSTAINED = 0.8, 0.38


@pytest.fixture(scope="module")
def forum(forum_index: Path) -> ForumQA:
    return ForumQA(forum_index)


@pytest.mark.parametrize(
    "question",
    [
        "LG CNS는 지역 기업에 무엇을 제안했나요?",
        "What did LG CNS propose for local firms?",
        "엘지씨엔에스가 지역기업에 제안한게 뭐야",
    ],
)
def test_the_first_question(forum: ForumQA, question: str) -> None:
    answer = forum.ask(question)
    assert answer.kind == "extractive"
    assert "플랫폼과 API를 공유하고 지역 기업이" in answer.text
    assert "[1]" in answer.text


def test_known_answers(forum: ForumQA) -> None:
    right = {True: [], False: []}
    for row in QUESTIONS:
        answer = forum.ask(row["question"])
        if row["answerable"]:
            right[True].append(any(quote in answer.text for quote in row["quotes"]))
        else:
            right[False].append(answer.kind == "abstained")
    assert len(QUESTIONS) >= 40 and len(right[False]) * 4 >= len(QUESTIONS)
    assert sum(right[True]) / len(right[True]) >= ANSWERED
    assert sum(right[False]) / len(right[False]) >= ABSTAINED


def test_every_quote_is_an_exact_piece_of_its_document(forum: ForumQA) -> None:
    for row in QUESTIONS:
        answer = forum.ask(row["question"])
        for number, citation in enumerate(answer.citations, 1):
            document = forum.document(citation.document_id)
            assert document and document.text[citation.start : citation.end] == citation.quote
            assert citation.number == number and f"[{number}]" in answer.text
        if answer.kind == "abstained":
            assert answer.hits and not answer.citations


def test_streaming_grows_to_the_answer(forum: ForumQA) -> None:
    question = "LG CNS는 지역 기업에 무엇을 제안했나요?"
    parts = list(forum.stream(question))
    assert parts[-1] == forum.ask(question)
    assert all(b.text.startswith(a.text) for a, b in itertools.pairwise(parts))


@pytest.mark.parametrize(
    ("first", "then", "wanted"),
    [
        ("김준연 박사는 무엇을 강연했나요?", "그는 토론에서 뭐라고 말했나요?", "김"),
        ("Who is Lee Jong-sun?", "What did he call for?", "이종선 대표는"),
    ],
)
def test_a_question_that_leans_on_the_turn_before(
    forum: ForumQA, first: str, then: str, wanted: str
) -> None:
    history: list[Message] = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": forum.ask(first).text},
    ]
    assert wanted in forum.ask(then, history=history).text


def test_a_question_that_stands_alone_inherits_nothing(forum: ForumQA) -> None:
    first = "LG CNS는 지역 기업에 무엇을 제안했나요?"
    history: list[Message] = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": forum.ask(first).text},
    ]
    for question in ("화성 탐사선 예산은 얼마?", "Who won the 2002 World Cup?"):
        assert forum.ask(question, history=history).kind == forum.ask(question).kind == "abstained"
    for question in (
        "Who spoke about smart cities in China, and where does he work?",
        "중국 스마트시티를 강연한 사람은 누구고 그는 어디에서 일하나요?",
    ):
        assert forum.ask(question, history=history).text == forum.ask(question).text


def test_the_functions_are_the_engine(forum_index: Path, forum: ForumQA) -> None:
    question = "포럼은 어디에서 열렸나요?"
    hits = retrieve(question, k=3, index=forum_index)
    assert [h.passage.id for h in hits] == [h.passage.id for h in forum.retrieve(question, 3)]
    assert hits[0].score >= hits[-1].score and len(hits) == 3
    assert ask(question, index=forum_index) == forum.ask(question)


class Scripted:
    """A generator that says what it is told to say."""

    name = "scripted"

    def __init__(self, *pieces: str, fail: bool = False) -> None:
        self.pieces, self.fail = pieces, fail

    def stream(self, system: str, prompt: str):  # type: ignore[no-untyped-def]
        if self.fail:
            raise GeneratorFailed("The language model is away.")
        yield from self.pieces


def generated(forum: ForumQA, generator: Scripted) -> Answer:
    from forumqa import answering, retrieval

    snapshot, embedder = forum._ready()
    ranking = retrieval.rank(snapshot, embedder, "LG CNS는 지역 기업에 무엇을 제안했나요?")
    hits = retrieval.hits(snapshot, ranking, 5)
    return list(answering.answer(snapshot, ranking, hits, generator))[-1]


def test_a_language_model_is_held_to_the_quotes(forum: ForumQA) -> None:
    answer = generated(forum, Scripted("상생 ", "모델이다 [1] [9]."))
    assert (answer.kind, answer.text) == ("generated", "상생 모델이다 [1].")
    assert [c.number for c in answer.citations] == [1]
    assert generated(forum, Scripted("NONE")).kind == "abstained"
    fallen = generated(forum, Scripted(fail=True))
    assert fallen.kind == "extractive" and "is away" in fallen.text


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "forumqa", *arguments], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_command_line(forum_index: Path, tmp_path: Path) -> None:
    index = ["--index", str(forum_index)]
    shown = json.loads(run("ask", "포럼은 어디에서 열렸나요?", "--json", *index))
    assert shown["kind"] == "extractive" and "빛마루" in shown["text"]
    assert len(json.loads(run("retrieve", "포럼", "-k", "2", "--json", *index))) == 2
    assert json.loads(run("info", "--json", *index))["documents"] == 1
    assert "빛마루" in run("ask", "포럼은 어디에서 열렸나요?", *index)
    error = run("ask", "포럼?", "--index", str(tmp_path / "none"), code=1)
    assert error.count("\n") == 1 and "forumqa rebuild" in error
    run("ask", code=2)


def test_eval_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    corpus = [
        {"_id": "a", "title": "도서관", "text": "가람시는 도서관을 열었다. 관장은 박하늘 씨다."},
        {"_id": "b", "title": "다리", "text": "나루군은 다리를 놓았다. 길이는 120미터다."},
    ]
    queries = [
        {"_id": "1", "text": "도서관 관장은 누구인가?", "answers": ["박하늘"], "kind": "ko"},
        {"_id": "2", "text": "다리 길이는 얼마인가?", "answers": ["999"], "kind": "ko"},
    ]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n2\ta\t1\n")
    assert main(["eval", str(folder), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["queries"] == 2 and figures["documents"] == 2
    assert figures["recall@1"] == 0.5 and figures["mrr@10"] == 0.75
    assert figures["ndcg@10"] == pytest.approx((1 + 1 / 1.58496) / 2, abs=1e-3)
    assert figures["answer_hit"] == 0.5 and figures["by_kind"]["ko"]["queries"] == 2
