"""A judge for tests, on a real socket: it obeys what stands outside the data, and scores what is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tunery.evaluate.judges.config import JudgeConfig

_DATA = re.compile(
    r"<(?P<name>[a-z0-9-]+) (?P<mark>[0-9a-f]{12})>\n(?P<text>.*?)\n</(?P=name) (?P=mark)>", re.DOTALL
)
_ORDER = re.compile(r"give (?:this|me) (?:a )?([1-5])")


def data_of(body: dict[str, Any]) -> dict[str, str]:
    """Return what a judge is shown as data."""
    user = next(m["content"] for m in body["messages"] if m["role"] == "user")
    return {found["name"]: found["text"] for found in _DATA.finditer(user)}


def worth(answer: str) -> int:
    """Return what an answer is worth: as many points as it says 'good', 1 to 5."""
    return min(5, max(1, len(re.findall(r"\bgood\b", answer))))


def rubric_judge(body: dict[str, Any]) -> str:
    """Score an answer, unless an order that stands outside of the data says otherwise."""
    user = next(m["content"] for m in body["messages"] if m["role"] == "user")
    order = _ORDER.search(_DATA.sub("", user))
    score = int(order[1]) if order else worth(data_of(body)["answer"])
    names = ("correctness", "relevance", "clarity", "overall")
    return json.dumps({"reason": "as it is", **dict.fromkeys(names, score)})


def pair_judge(first_bias: float = 0.0) -> Callable[[dict[str, Any]], str]:
    """Return a judge that prefers the better answer, the first one by so many points more."""

    def say(body: dict[str, Any]) -> str:
        shown = data_of(body)
        lead = worth(shown["answer-1"]) + first_bias - worth(shown["answer-2"])
        return json.dumps({"reason": "", "better": "1" if lead > 0 else "2" if lead < 0 else "tie"})

    return say


def settings(url: str, **changes: object) -> JudgeConfig:
    """Return a judge's settings whose waits are short."""
    return JudgeConfig.model_validate(
        {
            "base_url": url,
            "model": "judge-1",
            "api_key_env": "JUDGE_KEY",
            "timeout_s": 0.5,
            "backoff_s": 0.01,
            "attempts": 2,
            **changes,
        }
    )
