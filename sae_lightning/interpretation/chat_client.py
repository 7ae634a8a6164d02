"""Questions to a server that speaks OpenAI's chat protocol, with retries; and answers kept on disk."""

import json
import time
import urllib.error
import urllib.request
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from threading import Lock
from typing import Any

FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_RETRY_AFTER_SECONDS = 600.0
_SHOWN_CHARACTERS = 300


class ChatError(ValueError):
    """A server that does not answer, or refuses to."""


class _TryAgainError(Exception):
    """A failure that may pass: too many requests, a failing server, no answer in time, an answer that is none."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class ChatClient:
    """Send requests to `<base_url>/chat/completions`; may be used by several threads.

    Args:
        base_url: up to and without /chat/completions.
        key: sent as a bearer token; empty for none.
        timeout_seconds: how long one request may take.
        retries: further tries after a failure that may pass, with waits that double, or as long as the server says.
    """

    def __init__(self, base_url: str, key: str, timeout_seconds: float, retries: int) -> None:
        self.url = f"{base_url.rstrip('/')}/chat/completions"
        self.timeout_seconds, self.retries = timeout_seconds, retries
        self._key = key

    def complete(self, body: dict[str, Any]) -> str:
        """Return the text of the answer.

        Raises:
            ChatError: if the server refuses the request, or still fails at the last try.
        """
        for attempt in range(self.retries + 1):
            try:
                return self._try(body)
            except _TryAgainError as error:
                if attempt == self.retries:
                    raise ChatError(
                        f"{self.url}: {error}; gave up after {attempt + 1} tries. What was answered is kept: run it "
                        "again later, or with fewer n_parallel"
                    ) from error
                backoff = min(FIRST_WAIT_SECONDS * 2**attempt, _LONGEST_WAIT_SECONDS)
                time.sleep(backoff if error.wait_seconds is None else error.wait_seconds)
        raise AssertionError

    def _try(self, body: dict[str, Any]) -> str:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:
                answer = response.read()
        except urllib.error.HTTPError as error:
            raise self._error_of_status(error) from error
        except (OSError, HTTPException) as error:  # no connection, no answer in time, an answer that breaks off
            raise _TryAgainError(f"{type(error).__name__}: {error}") from error
        try:
            content = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            shown = answer[:_SHOWN_CHARACTERS].decode(errors="replace")
            raise _TryAgainError(f"answered something that is no chat completion: {shown!r}") from error
        return content if isinstance(content, str) else ""  # a model may refuse with null

    def _error_of_status(self, error: urllib.error.HTTPError) -> Exception:
        answer = error.read()[:_SHOWN_CHARACTERS].decode(errors="replace")
        if self._key:
            answer = answer.replace(self._key, "***")
        status = f"HTTP {error.code}: {answer!r}"
        if error.code in (408, 409, 429) or error.code >= 500:
            return _TryAgainError(status, _seconds(error.headers.get("Retry-After")))
        advice = {
            401: "the key was refused: look at the environment variable named by key_variable",
            403: "the key may not do this: look at the account and at model",
            404: "there is no such place or model: look at base_url and model",
        }.get(error.code, "the request was refused: look at model and request")
        return ChatError(f"{self.url}: {advice} ({status})")


class AnswerFile:
    """Answers by request, appended to a JSON-lines file as they come; several processes may share it.

    Args:
        path: of the file; it is made with the first answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._answers: dict[str, str] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                entry = json.loads(line)
                self._answers[entry["request"]] = entry["answer"]
            except (ValueError, KeyError, TypeError):  # a line that broke off when a run was killed
                continue

    def get(self, request: dict[str, Any]) -> str | None:
        """Return the answer that was given before, if any."""
        return self._answers.get(_digest(request))

    def keep(self, request: dict[str, Any], answer: str) -> None:
        """Write an answer."""
        line = json.dumps({"request": _digest(request), "answer": answer})
        with self._lock:
            self._answers[_digest(request)] = answer
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _digest(request: dict[str, Any]) -> str:
    return sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _seconds(retry_after: str | None) -> float | None:
    """Read the header Retry-After; None where it is missing or a date."""
    try:
        return min(max(float(retry_after or ""), 0.0), _LONGEST_RETRY_AFTER_SECONDS)
    except ValueError:
        return None
