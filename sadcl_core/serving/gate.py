"""Limits on the size and time of every request, and the counters of /metrics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))  # seconds, upper bounds


class Gate:
    """An ASGI application around another, that refuses bodies too large or too slow, and counts.

    Attributes:
        answers: status -> requests that were answered so; 499: the client left before.
        running: requests that are being answered.
        seconds: sum of the times from the header to the end of the answer.
        by_time: number of BUCKETS -> answered requests that took so long, and longer than the bucket before.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int, body_seconds: float) -> None:
        """Answer a body of more bytes with 413, and one that takes more seconds with 408."""
        self.app, self.most_bytes, self.body_seconds = app, most_bytes, body_seconds
        self.answers: Counter[int] = Counter()
        self.by_time: Counter[int] = Counter()
        self.running, self.seconds = 0, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 499

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.running += 1
        try:
            await self.app(scope, self._limited(scope, receive), noted)
        except Exception:
            status = 500
            raise
        finally:
            self.running -= 1
            self.answers[status] += 1
            taken = time.monotonic() - start
            self.seconds += taken
            self.by_time[next(number for number, bound in enumerate(BUCKETS) if taken <= bound)] += 1

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return a `receive` that raises an answer for a body that is too large or too slow."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(declared) if declared.isdigit() else 0
        deadline = asyncio.get_running_loop().time() + self.body_seconds
        received, complete = 0, False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:  # only the news that the client has left can follow
                return await receive()
            if size > self.most_bytes:
                raise self._too_large()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"The body did not come within {self.body_seconds:g} seconds.") from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self.most_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"A request holds at most {self.most_bytes / 1e6:g} MB. Send fewer images, or smaller ones.")

    def lines(self) -> list[str]:
        """Return the counters as Prometheus reads them."""
        lines = ["# TYPE sadcl_requests_total counter"]
        lines += [f'sadcl_requests_total{{status="{status}"}} {count}' for status, count in sorted(self.answers.items())]
        lines += ["# TYPE sadcl_requests_running gauge", f"sadcl_requests_running {self.running}"]
        lines.append("# TYPE sadcl_request_seconds histogram")
        total = 0
        for number, bound in enumerate(BUCKETS):
            total += self.by_time[number]
            lines.append(f'sadcl_request_seconds_bucket{{le="{bound:g}"}} {total}'.replace("inf", "+Inf"))
        return [*lines, f"sadcl_request_seconds_sum {self.seconds:.6f}", f"sadcl_request_seconds_count {total}"]
