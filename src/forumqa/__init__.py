"""Ask a folder of articles a question, in Korean or English; get the exact sentences.

>>> from forumqa import rebuild, ask
>>> rebuild("corpus", "index")                                          # doctest: +SKIP
>>> ask("LG CNS는 지역 기업에 무엇을 제안했나요?").citations[0].quote          # doctest: +SKIP
"""

from forumqa.engine import ForumQA, ask, rebuild, retrieve
from forumqa.schema import (
    AddReport,
    Answer,
    BuildReport,
    Citation,
    Document,
    ForumQAError,
    Hit,
    Passage,
    Settings,
)

__version__ = "0.1.0"

__all__ = [
    "AddReport",
    "Answer",
    "BuildReport",
    "Citation",
    "Document",
    "ForumQA",
    "ForumQAError",
    "Hit",
    "Passage",
    "Settings",
    "__version__",
    "ask",
    "rebuild",
    "retrieve",
]
