"""Edit texts written by a language model behind any OpenAI-compatible endpoint.

Replies are data: each sentence is checked against the label pair before it is used, and a pair without
an accepted sentence uses templates. The result counts both and gives reasons.
"""

import hashlib
import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.repetition import retry
from cluster.storage import write_atomic
from training.annotations.labels.pairs import LabelPair
from training.annotations.triplets.sentence_check import MAX_WORDS, refusal

logger = logging.getLogger(__name__)

_MAX_REPLY_BYTES = 4 * 2**20
_MAX_FAILURES_IN_A_ROW = 2
_RETRIABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_SETUP_STATUS = frozenset({401, 403, 404})

_INSTRUCTIONS = f"""You write short edit texts for a video search: a person shows a clip and says what should be different.
For each numbered change write {{count}} different short sentences, at most {MAX_WORDS} words each.
Say only the new values; never mention the old ones, a label, or an attribute that does not change.
Write every number in digits, exactly as given, directly before its noun ("with 2.5 twists").
For the number 0 write "without" or "no". Never write "more", "fewer" or other comparisons.
Answer with JSON alone: {{{{"1": ["...", "..."], "2": [...]}}}}"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmConfig:
    """Endpoint of the language model, and size and limits of requests."""

    base_url: str
    """URL of the endpoint, such as http://127.0.0.1:8000/v1 or https://api.example.com/v1."""
    model: str
    cache_path: Path
    """JSON file that caches replies by request, so that a rerun sends none again."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key; None = the endpoint needs none."""
    sentences_per_pair: int = 6
    pairs_per_request: int = 8
    timeout_s: float = 60.0
    attempts: int = 3
    first_wait_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"base_url is {self.base_url!r}; it must begin with http:// or https://"
            )
        for name in ("sentences_per_pair", "pairs_per_request", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; it must be positive")


@dataclass(kw_only=True, slots=True)
class LlmTexts:
    """Accepted sentences, and counts of refusals and failures."""

    texts: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """Sentences by (source label, target label); a pair that is missing uses templates."""
    num_pairs_from_llm: int = 0
    num_pairs_from_templates: int = 0
    num_requests: int = 0
    num_replies_from_cache: int = 0
    num_sentences_refused: int = 0
    refusals: list[str] = field(default_factory=list)
    """The first refused sentences, with their reasons."""
    failures: list[str] = field(default_factory=list)
    """Requests without a usable reply."""

    @property
    def warning(self) -> str | None:
        """A warning for the user; None if every pair has a sentence."""
        if not self.num_pairs_from_templates:
            return None
        reasons = [*self.failures, *self.refusals][:3]
        return (
            f"{self.num_pairs_from_templates} of {len(self.texts) + self.num_pairs_from_templates} label pairs "
            f"use templates instead of the language model: {'; '.join(reasons)}"
        )


class _RetriableError(Exception):
    """A failure that may not occur at the next attempt."""


def write_texts(
    pairs: Sequence[LabelPair],
    config: LlmConfig,
    *,
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> LlmTexts:
    """Write sentences for each pair. A wrong key, model or URL raises; any other failure falls back to templates."""
    headers = _headers(config)
    cache = _read_cache(config.cache_path)
    result = LlmTexts()
    vocabulary = sorted(
        {c for p in pairs for c in p.changes}, key=lambda c: (c.name, c.source, c.target)
    )
    num_failures_in_a_row = num_done = 0
    for batch in _batches(pairs, config.pairs_per_request):
        body = _request_body(batch, config)
        key = hashlib.sha256(json.dumps([config.base_url, body]).encode()).hexdigest()
        written: dict[str, Any] = {}
        if key in cache:
            written = _parse_reply(cache[key])
            result.num_replies_from_cache += 1
        elif num_failures_in_a_row < _MAX_FAILURES_IN_A_ROW:
            result.num_requests += 1
            try:
                reply = _ask(body, headers, config)
                written = _parse_reply(reply)
            except (_RetriableError, ValueError) as error:
                result.failures.append(str(error))
                num_failures_in_a_row += 1
            else:
                num_failures_in_a_row = 0
                cache[key] = reply
                write_atomic(config.cache_path, json.dumps(cache, indent=1))
        for number, pair in enumerate(batch, start=1):
            _accept(pair, written.get(str(number), []), vocabulary, result)
        num_done += len(batch)
        on_progress(num_done)
    result.num_pairs_from_llm = len(result.texts)
    result.num_pairs_from_templates = len(pairs) - len(result.texts)
    if result.warning:
        logger.warning("%s", result.warning)
    return result


def _accept(pair: LabelPair, sentences: Any, vocabulary: Sequence[Any], result: LlmTexts) -> None:
    good: list[str] = []
    for sentence in sentences if isinstance(sentences, list) else []:
        text = " ".join(str(sentence).split()).rstrip(".")
        reason = refusal(text, pair, vocabulary)
        if reason is None and text not in good:
            good.append(text)
        elif reason is not None:
            result.num_sentences_refused += 1
            if len(result.refusals) < 10:
                result.refusals.append(f"{text[:80]!r} refused: {reason}")
    if good:
        result.texts[pair.source_label, pair.target_label] = tuple(good)


def _batches(pairs: Sequence[LabelPair], size: int) -> Iterator[Sequence[LabelPair]]:
    ordered = sorted(pairs, key=lambda pair: (pair.source_label, pair.target_label))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _request_body(batch: Sequence[LabelPair], config: LlmConfig) -> dict[str, Any]:
    lines = [
        f"{number}. " + "; ".join(f"{c.name}: {c.source} -> {c.target}" for c in pair.changes)
        for number, pair in enumerate(batch, start=1)
    ]
    instructions = _INSTRUCTIONS.format(count=config.sentences_per_pair)
    return {
        "model": config.model,
        "temperature": 0.7,
        "messages": [
            {"role": "system", "content": instructions},
            {"role": "user", "content": "\n".join(lines)},
        ],
    }


def _headers(config: LlmConfig) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if config.api_key_env is not None:
        api_key = os.environ.get(config.api_key_env)
        if not api_key:
            raise ValueError(f"the environment variable {config.api_key_env!r} holds no API key")
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which would send the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _ask(body: dict[str, Any], headers: dict[str, str], config: LlmConfig) -> str:
    url = config.base_url.rstrip("/") + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(_NoRedirect)

    def call() -> str:
        try:
            with opener.open(request, timeout=config.timeout_s) as response:
                return response.read(_MAX_REPLY_BYTES).decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                message = f"{url} answered {error.code} {error.reason}"
            if error.code in _SETUP_STATUS:
                raise PermissionError(f"{message}: check URL, model and key") from error
            if error.code in _RETRIABLE_STATUS:
                raise _RetriableError(message) from error
            raise ValueError(message) from error
        except (
            OSError,
            http.client.HTTPException,
        ) as error:  # refused, reset, timed out, cut short
            raise _RetriableError(f"{url} did not answer ({error})") from error

    return retry(
        call, on=(_RetriableError,), attempts=config.attempts, first_wait_s=config.first_wait_s
    )


def _parse_reply(reply: str) -> dict[str, Any]:
    """The JSON object in the reply's message, without code fences and other text around it."""
    try:
        content = json.loads(reply)["choices"][0]["message"]["content"]
        match = re.search(r"\{.*\}", content, flags=re.DOTALL)
        written = json.loads(match.group(0)) if match else None
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise ValueError(f"the reply cannot be read ({error!r}): {reply[:120]!r}") from error
    if not isinstance(written, dict):
        raise ValueError(f"the reply has no JSON object: {reply[:120]!r}")
    return written


def _read_cache(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        cache = json.loads(path.read_text())
        if not isinstance(cache, dict) or not all(isinstance(v, str) for v in cache.values()):
            raise ValueError("it is not a JSON object of texts")
    except ValueError as error:
        raise ValueError(f"{path} is not a cache of replies ({error}); delete it") from error
    return cache
