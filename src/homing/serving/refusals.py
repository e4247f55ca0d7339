"""What is answered in place of a result, in the shape that clients of the OpenAI API read."""

from __future__ import annotations

import orjson


class Refusal(Exception):
    """A request that gets no result: `status`, and the error's `message`, `kind` (its type), `param` and `code`.

    No message holds a text that was sent. `retry_after`: seconds after which the same request may do better.
    """

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, kind: str = "", retry_after: int | None = None
    ) -> None:
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after
        self.kind = kind or ("invalid_request_error" if status < 500 else "server_error")
        super().__init__(message)

    @property
    def body(self) -> bytes:
        return orjson.dumps({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})

    @property
    def headers(self) -> dict[str, str]:
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


def invalid(message: str, param: str | None, code: str = "invalid_value") -> Refusal:
    """A request that is wrong as it stands."""
    return Refusal(400, message, code=code, param=param)


def no_key() -> Refusal:
    return Refusal(
        401, "This server wants its API key as 'Authorization: Bearer KEY'; it was missing or another one.", code="invalid_api_key"
    )


def unknown_model(message: str) -> Refusal:
    return Refusal(404, message, code="model_not_found", param="model")


def too_large(megabytes: float) -> Refusal:
    return Refusal(
        413, f"The request is larger than {megabytes:g} MB: send fewer texts a request, or start with --max-megabytes.", code="too_large"
    )


def queue_full(waiting: int, seconds: int) -> Refusal:
    message = f"{waiting:,} texts wait already; try again in {seconds} s."
    return Refusal(429, message, code="queue_full", kind="rate_limit_error", retry_after=seconds)


def gone() -> Refusal:
    """For the log alone: there is nobody left to be answered."""
    return Refusal(499, "The client closed the connection.", code="client_gone")


def fault() -> Refusal:
    return Refusal(500, "The server failed on this request; its log says where.", code="fault")


def too_slow(seconds: float) -> Refusal:
    message = f"There was no result within {seconds:g} s: send fewer or shorter texts a request, or start with --timeout."
    return Refusal(504, message, code="timeout")
