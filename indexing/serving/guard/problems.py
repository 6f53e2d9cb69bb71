"""Problem details (RFC 9457): the format of every error response."""

import json
from typing import Any

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request", 401: "Unauthorized", 403: "Forbidden", 404: "Not found", 405: "Method not allowed", 408: "Request timeout",
    409: "Conflict", 411: "Length required", 413: "Content too large", 415: "Unsupported media type", 416: "Range not satisfiable",
    422: "Unprocessable content", 429: "Too many requests", 431: "Headers too large", 500: "Internal error",
    503: "Service unavailable", 504: "Gateway timeout",
}  # fmt: skip


class ProblemError(Exception):
    """An error that becomes the response, with its status and detail."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def problem_json(status: int, detail: str, request_id: str) -> bytes:
    """The body of a refusal: ASCII, so that a text which is no valid Unicode can be quoted in it."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    return json.dumps(body).encode()
