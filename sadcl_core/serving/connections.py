"""Connections that are closed when a request does not come in."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def patient_for(seconds: float) -> type[H11Protocol]:
    """Return HTTP/1.1 as `uvicorn.Config(http=...)` takes it, that closes a connection after so many seconds without a header.

    The same time is given to the rest of a body whose request is answered already.

    Example:
        >>> patient_for(30).__mro__[1].__name__
        'H11Protocol'
    """

    class Patient(H11Protocol):
        timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.timer is not None:
                self.timer.cancel()

        def handle_events(self) -> None:
            super().handle_events()
            self.watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.watch()

        def watch(self) -> None:
            theirs, ours = self.conn.their_state, self.conn.our_state
            awaited = theirs is h11.IDLE or (theirs is h11.SEND_BODY and ours is h11.DONE)
            if awaited and self.timer is None:
                self.timer = self.loop.call_later(seconds, self.transport.abort)
            elif not awaited and self.timer is not None:
                self.timer.cancel()
                self.timer = None

    return Patient
