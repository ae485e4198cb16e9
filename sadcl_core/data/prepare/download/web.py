"""Ask web servers: the answer, or why there is none, and whether another attempt may help."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

TIMEOUT = 30.0  # seconds without an answer or a byte
WAITS = (1.0, 2.0, 4.0)  # seconds before each further attempt
PASSING = (408, 429, 500, 502, 503, 504)  # answers worth another attempt

T = TypeVar("T")


class DroppedError(Exception):
    """The connection failed or broke off: another attempt may do."""


class RefusedError(Exception):
    """The server answered, and another attempt would be answered alike."""

    def __init__(self, code: int, reason: str) -> None:
        """Keep the status code beside the reason."""
        super().__init__(reason)
        self.code = code


class _WebOnly(HTTPRedirectHandler):
    """Follows redirects to http and https only, and asks there what was asked first."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """See the class."""
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise HTTPError(req.full_url, code, f"a redirect to {newurl} is not followed", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.method = req.get_method()
        return request


HANDLERS = (
    ProxyHandler,
    UnknownHandler,
    HTTPHandler,
    HTTPSHandler,
    HTTPDefaultErrorHandler,
    _WebOnly,
    HTTPErrorProcessor,
)


@contextmanager
def asking(url: str, headers: dict[str, str], *, method: str = "GET") -> Iterator[HTTPResponse]:
    """What a server answers when all is well; environment variables may name a proxy.

    Raises:
        RefusedError: it answered otherwise.
        DroppedError: it did not answer.
    """
    opener = OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    try:
        answer = opener.open(Request(url, headers={"User-Agent": "sadcl", **headers}, method=method), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        reason = f"HTTP {error.code}: {error.reason}"
        raise DroppedError(reason) if error.code in PASSING else RefusedError(error.code, reason) from None
    except (OSError, HTTPException) as error:
        raise _dropped(error) from None
    with answer:
        yield answer


def read(answer: HTTPResponse, size: int) -> bytes:
    """Up to so many of the bytes that follow, none at the end.

    Raises:
        DroppedError: the connection broke off.
    """
    try:
        return answer.read(size)
    except (OSError, HTTPException) as error:
        raise _dropped(error) from None


def _dropped(error: Exception) -> DroppedError:
    return DroppedError(str(getattr(error, "reason", error)) or type(error).__name__)


def number(text: str | None) -> int | None:
    """A number in a header, if it is one."""
    return int(text) if text and text.isascii() and text.isdecimal() else None


def with_patience(attempt: Callable[[], T]) -> T:
    """Try a few times, with a wait in between.

    Raises:
        DroppedError: the last attempt failed as well.
    """
    for wait in WAITS:
        try:
            return attempt()
        except DroppedError:
            time.sleep(wait)
    return attempt()
