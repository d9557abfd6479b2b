"""A language model behind an OpenAI-compatible endpoint: a choice, not a need."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx

from forumqa.schema import GeneratorFailed, Settings

_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class ChatEndpoint:
    """Any server that speaks ``POST {url}/chat/completions`` with streaming."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.llm_model
        self._url = settings.llm_url.rstrip("/") + "/chat/completions"
        self._headers = {"Authorization": f"Bearer {settings.llm_key}"} if settings.llm_key else {}

    def stream(self, system: str, prompt: str) -> Iterator[str]:
        body = {
            "model": self.name,
            "stream": True,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": prompt},
            ],
        }
        try:
            with httpx.stream(
                "POST", self._url, json=body, headers=self._headers, timeout=_TIMEOUT
            ) as response:
                if response.status_code != 200:
                    raise GeneratorFailed(
                        f"The language model at {self._url} answered {response.status_code}; check "
                        "FORUMQA_LLM_URL, FORUMQA_LLM_MODEL and FORUMQA_LLM_KEY."
                    )
                for line in response.iter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or data == "[DONE]":
                        continue
                    for choice in json.loads(data).get("choices", []):
                        piece = choice.get("delta", {}).get("content")
                        if piece:
                            yield piece
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise GeneratorFailed(
                f"The language model at {self._url} cannot be used ({error}); check "
                "FORUMQA_LLM_URL or unset it."
            ) from error
