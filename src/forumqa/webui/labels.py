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
        "material_more": "자료 폴더의 글을 손수 고쳤다면 색인을 새로 만드세요. "
        "그동안에도 대화는 이어집니다.",
        "watched": "자료 폴더를 {seconds}초마다 살펴 바뀐 글을 스스로 읽습니다.",
        "add_files": "파일 올리기",
        "add_files_more": "HWP, HWPX, PDF, DOCX, HTML, MD, TXT를 한 번에 {count}개까지, "
        "하나에 {size}MB까지. 여기에 끌어다 놓아도 됩니다.",
        "url": "웹 주소",
        "add_url": "주소 더하기",
        "title": "제목",
        "text": "본문 붙여 넣기",
        "add_text": "글 더하기",
        "nothing": "더할 것이 비어 있습니다.",
        "too_many": "{given}개는 한 번에 더하기에 너무 많습니다. {count}개씩 나누어 올려 주세요.",
        "no_editing": "이 서버에서는 자료를 더하거나 지울 수 없습니다. 서버가 있는 컴퓨터에서 이 쪽을 "
        "여시거나, forumqa serve --editable 로 서버를 켜 주세요.",
        "behind": "자료는 폴더에 있으나 색인에는 아직 없습니다.",
        "document_pages": "{count}쪽짜리",
        "document_page": "{count}쪽짜리",
        "also": "같은 글:",
        "original": "원본 파일 열기",
        "no_original": "원본 파일이 자료 폴더에 없습니다.",
        "remove": "지우기",
        "remove_sure": "‘{title}’ 글을 지울까요? 자료 폴더의 파일 {id}도 지워집니다.",
        "replaced": "새것으로 바꿈",
        "present": "이미 있음",
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
        "material_more": "After editing articles in the folder by hand, rebuild the index. "
        "The chat goes on meanwhile.",
        "watched": "The folder is looked at every {seconds} s, and what has changed is read.",
        "add_files": "Upload files",
        "add_files_more": "HWP, HWPX, PDF, DOCX, HTML, MD or TXT, up to {count} at once, "
        "up to {size} MB each. Or drop them here.",
        "url": "Web address",
        "add_url": "Add the address",
        "title": "Title",
        "text": "Paste a text",
        "add_text": "Add the text",
        "nothing": "There is nothing to add yet.",
        "too_many": "{given} files at once are too many; upload {count} at a time.",
        "no_editing": "Material cannot be added or removed here. Open the page on the server's own "
        "machine, or start it with: forumqa serve --editable",
        "behind": "The material is in the folder, but not in the index yet.",
        "document_pages": "{count} pages",
        "document_page": "{count} page",
        "also": "also in:",
        "original": "Open the original file",
        "no_original": "The original file is not in the material folder.",
        "remove": "Remove",
        "remove_sure": "Remove “{title}”? Its file {id} is deleted from the material folder.",
        "replaced": "Replaced",
        "present": "Already there",
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
