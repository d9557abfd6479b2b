"""Every word the page says, in Korean and English, and how a page chooses between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("ko", "en")
COOKIE: Final = "forumqa_lang"

# Gradio keeps its own words in the same table, so ours carry a prefix there (see `table`).
WORDS: Final[dict[str, dict[str, str]]] = {
    "ko": {
        "tagline": "글 모음에 질문하면, 답이 되는 문장을 그대로 찾아 보여 줍니다.",
        "document": "문서 {count}건",
        "documents": "문서 {count}건",
        "opening": "자료를 여는 중…",
        "switch": "언어",
        "theme": "밝게 / 어둡게",
        "new": "새 대화",
        "greeting": "무엇이 궁금하신가요?",
        "greeting_more": "답은 자료의 문장 그대로이고, 번호를 누르면 원문이 열립니다.",
        "leaves": "답은 언어 모델 {name}이(가) 씁니다. "
        "질문과 찾은 대목이 이 컴퓨터 밖으로 전송됩니다.",
        "chat": "대화",
        "question": "질문",
        "ask": "질문을 입력하세요",
        "send": "보내기",
        "stop": "멈추기",
        "sources": "출처",
        "nearest": "가장 가까운 대목 (답은 아닙니다)",
        "stopped": "여기에서 멈췄습니다.",
        "failed": "답을 만들지 못했습니다. 서버의 기록을 확인해 주세요.",
        "source": "원문",
        "back": "답으로 돌아가기",
        "page": "{page}쪽",
        "cited": "인용한 문장 {count}곳",
        "removed": "이 문서는 더 이상 자료에 없습니다.",
        "unreachable": "원문을 열지 못했습니다. 서버가 켜져 있는지 확인해 주세요.",
        "material": "자료",
        "material_more": "자료 폴더에 글을 더하거나 고쳤다면 색인을 새로 만드세요. "
        "그동안에도 대화는 이어집니다.",
        "rebuild": "색인 새로 만들기",
        "passages": "대목 {count}개",
        "generation": "색인 {count}판",
        "added": "더함",
        "changed": "바뀜",
        "removed_documents": "없어짐",
        "unchanged": "그대로",
        "not_read": "읽지 못함",
        "skipped": "건너뜀",
        "took": "{seconds}초 걸렸습니다.",
        "more": "그 밖에 {count}건",
    },
    "en": {
        "tagline": "Ask a collection of articles; get the exact sentences that answer.",
        "document": "{count} document",
        "documents": "{count} documents",
        "opening": "Opening the material…",
        "switch": "Language",
        "theme": "Light / dark",
        "new": "New chat",
        "greeting": "What would you like to know?",
        "greeting_more": "Answers are sentences of the material, word for word; "
        "a number opens the source.",
        "leaves": "Answers are written by the language model {name}: "
        "your question and the passages found leave this machine.",
        "chat": "Conversation",
        "question": "Question",
        "ask": "Ask a question",
        "send": "Send",
        "stop": "Stop",
        "sources": "Sources",
        "nearest": "Nearest passages (not an answer)",
        "stopped": "Stopped here.",
        "failed": "No answer could be made. The server's log says why.",
        "source": "Source",
        "back": "Back to the answer",
        "page": "p. {page}",
        "cited": "{count} cited",
        "removed": "This document is no longer part of the material.",
        "unreachable": "The source could not be opened. Is the server still running?",
        "material": "Material",
        "material_more": "After adding or editing articles, rebuild the index. The chat goes on.",
        "rebuild": "Rebuild the index",
        "passages": "{count} passages",
        "generation": "index generation {count}",
        "added": "Added",
        "changed": "Changed",
        "removed_documents": "Removed",
        "unchanged": "Unchanged",
        "not_read": "Not read",
        "skipped": "Skipped",
        "took": "Took {seconds} s.",
        "more": "and {count} more",
    },
}


def say(language: str, key: str, **values: object) -> str:
    """Return one label; an unknown language is answered in English."""
    return WORDS.get(language, WORDS["en"])[key].format(**values)


def table(language: str) -> dict[str, str]:
    """Return the labels under prefixed keys: Gradio's own "file" once hid a label of that name."""
    return {f"fqa_{key}": text for key, text in WORDS[language].items()}


def chosen(cookies: Mapping[str, str], accept: str) -> str:
    """Return the page's language: the reader's choice, else the browser's first known one.

    >>> chosen({}, "ja;q=0.4, ko-KR;q=0.8, en")
    'en'
    """
    if cookies.get(COOKIE) in LANGUAGES:
        return cookies[COOKIE]
    wanted: list[tuple[float, str]] = []
    for part in accept.split(","):
        name, _, weight = part.strip().partition(";q=")
        try:
            wanted.append((-float(weight or 1), name.strip().lower()[:2]))
        except ValueError:
            continue
    return next((name for _, name in sorted(wanted, key=lambda w: w[0]) if name in LANGUAGES), "en")
