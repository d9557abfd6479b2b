"""The expected answer type: what kind of thing a question asks for, and which a sentence shows.

The idea is old (Prager et al. 2000, "Question-answering by predictive annotation"): kinds are noted
with each sentence when the index is built, so that a question only compares two bit masks.
"""

from __future__ import annotations

import re

# Raised whenever a sentence is read differently, so that rebuilds note its kinds anew.
VERSION = 1
_COUNTED = r"(?:열|스물|스무|서른|마흔|쉰|예순|일흔|여든|아흔)?(?:한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|스물|스무|서른|마흔|쉰|예순|일흔|여든|아흔)"
# Kind: (a question that asks for it, a sentence that shows it). The material may be Korean or English.
_PATTERNS: dict[str, tuple[str, str]] = {
    "number": (
        r"몇|얼마|규모|인원|[가-힣]수는|[건개]수|금액|비용|예산|비율|면적|높이|길이|거리|무게|넓이|나이|평균|최대|최소|횟수"
        r"|how (?:many|much|long|far|old|often|big|large|tall|high|wide)|number of|percent|what share|cost\b|budget",
        rf"\d|{_COUNTED} ?(?:명|곳|개|대|건|가지|차례|번|칸|채|마리|집|살|해|달|시간|배|권|평|점)|절반|\b(?:two|three|four|five|six|seven|eight|nine|ten|half)\b",
    ),
    "people": (
        r"몇 ?명|몇 ?분이|(?:사람|인원|참석자|관객|주민|직원|학생)[가-힣]*.{0,8}(?:얼마나|몇|수는)|인원|인구"
        r"|how many (?:\w+ ){0,2}(?:people|attend|visitors|employees|students|residents|workers|staff|members|participants)",
        rf"{_COUNTED} ?(?:여 ?)?(?:명|사람)|\d[\d,.만천백여]* ?(?:여 ?)?(?:명|인(?![가-힣])|분이)|\d[\d,]* (?:people|visitors|employees|students|residents)",
    ),
    "money": (
        r"금액|비용|예산|얼마(?:를|나 (?:드|쓰|받|내))|돈|요금|가격|값|매출|사업비|투자|how much (?:money|does|did|will|is)|cost\b|budget|price|fee\b",
        r"\d[\d,.조억만천백여 ]*(?:원(?![가-힣])|원[을이은의에]|달러|유로|엔(?![가-힣]))|[$₩€]|\b(?:won|dollars)\b",
    ),
    "share": (
        r"비율|몇 ?(?:%|퍼센트|프로)|퍼센트|비중|몇 배|percent|what share|rate\b|how (?:much|many) (?:more|less)",
        r"\d ?(?:%|퍼센트|프로|포인트|배(?![가-힣]))|절반|\bpercent\b|분의",
    ),
    "time": (
        r"언제|며칠|몇 ?(?:월|일|시|년|달|분)(?![가-힣]{2})|시기|날짜|시각|시간은|기간|기한|연도|해는|해에|세기"
        r"|when\b|what (?:time|date|day|year|month)|which (?:day|year|month)|how long|what day",
        r"\d ?(?:일|월|년|시(?![가-힣]{2})|분(?![가-힣]{2})|세기|개월|주(?![가-힣]))|오전|오후|내년|올해|지난해|지난달|다음 ?달|이달|(?:19|20)\d\d|\d ?[AP]\.?M\b"
        r"|(?:January|February|March|April|May|June|July|August|September|October|November|December) \d|[월화수목금토일]요일",
    ),
    "year": (
        r"몇 ?년(?:도|에)|연도|(?:된|한|난|진|간|던|린) 해[는가]|어느 해|what year|which year",
        r"(?:1[0-9]|20)\d\d",
    ),
    "hour": (
        r"몇 ?시(?:에|부터|까지|쯤|야|예요|인|이|$|\?| )|시각|what time",
        rf"(?:오전|오후|낮|밤|새벽|아침|저녁) ?(?:\d|{_COUNTED} 시)|\d시(?:[^가-힣]|부터|까지|에|쯤|$)|\d ?[ap]\.?m\b",
    ),
    "person": (
        r"누구|누가|누굴|[^ ]{2,} 이름|(?:사람|인물|교수|대표|시장|장관|감독|작가|배우|선수|위원장)[은이]\??$|\bwho\b|\bwhom\b|\bwhose\b|which (?:person|professor|panell?ist|speaker|minister)",
        r"[가-힣]{1,4} ?(?:시장|군수|구청장|장관|의원|대표|교수|박사|원장|단장|회장|과장|국장|팀장|씨|감독|선수|작가|소장|센터장|위원장|사장"
        r"|연구원|이사|부장|관장|총장|교장|대통령|총리|위원|대사|장군|기자|변호사|판사)|\b(?:Mr|Ms|Mrs|Dr|Prof)\.|[가-힣]·[가-힣]",
    ),
    "place": (
        r"어디|장소|어느 (?:도시|나라|지역|곳|건물)|where\b|which (?:city|place|venue|country|building|town)|venue",
        r"[가-힣]+(?:시|군|구|동|읍|면|리|역|로|길|관|실|센터|회관|공원|광장|홀|층|학교|섬|강|산|호텔|시장|항|마을)(?=에|에서|의|\s|,|으로|까지)"
        r"|일대|인근|앞에서|에서 (?:열|개최|진행)",
    ),
    "reason": (
        r"왜|이유|까닭|원인|목적|\bwhy\b|reason|purpose|what for|meant to",
        r"때문|위해|위한|탓|덕분|이유|계기|까닭|취지|우려|목적|하려는|하려고|기 위|because|since|due to|in order to|aim",
    ),
}
KINDS = tuple(_PATTERNS)
_ASKS = [re.compile(asks, re.I) for asks, _ in _PATTERNS.values()]
_SHOWS = [re.compile(shows, re.I) for _, shows in _PATTERNS.values()]


def asked(question: str) -> int:
    """Return the kinds a question asks for, as a bit mask over ``KINDS``."""
    return sum(1 << i for i, pattern in enumerate(_ASKS) if pattern.search(question))


def shown(sentence: str) -> int:
    """Return the kinds a sentence shows, as a bit mask over ``KINDS``."""
    return sum(1 << i for i, pattern in enumerate(_SHOWS) if pattern.search(sentence))
