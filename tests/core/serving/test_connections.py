"""Clients that never come to the end of what they say, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

pytest.importorskip("uvicorn", reason="sadcl[serve] is not installed")

import uvicorn

from sadcl_core.serving.application import build_application
from sadcl_core.serving.connections import patient_for
from sadcl_core.serving.serve import listen
from tests.core.inference.test_predictor import MeanColour

GET = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 1000000\r\n\r\n"
PART = b'--b\r\ncontent-disposition: form-data; name="images"; filename="a"\r\n\r\n'
NOTHING = b""


async def told(port: int, start: bytes, drip: bytes) -> bytes:
    """Return what the server says to a client that goes on drop by drop until it is left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = bytearray()

    async def listen_on() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(10_000):
                heard.extend(data)

    listening = asyncio.create_task(listen_on())
    writer.write(start)
    with contextlib.suppress(ConnectionError):
        for number in itertools.count():
            if (await asyncio.wait([listening], timeout=0.02))[0]:
                break
            writer.write(drip[number % len(drip) :][:1] if drip else b"")
    writer.close()
    return bytes(heard)


def test_connections_whose_requests_never_come_in_are_closed_and_others_are_not() -> None:
    starts = {
        "silent": (NOTHING, NOTHING),
        "half a header": (GET[:20], NOTHING),
        "a header that never ends": (GET[:-2] + b"x: ", b"y"),
        "silent after an answer": (GET, NOTHING),
        "half a header after an answer": (GET + GET[:-2] + b"x: ", b"y"),
        "a body that never ends": (POST + PART, b"x"),
    }

    async def all_of_them() -> dict[str, bytes]:
        with listen(port=0) as listening:
            application = build_application(MeanColour(), body_seconds=0.4)
            config = uvicorn.Config(
                application, http=patient_for(0.4), log_config=None, log_level="critical", timeout_keep_alive=600
            )
            server = uvicorn.Server(config)
            running = asyncio.create_task(server.serve(sockets=[listening]))
            port = listening.getsockname()[1]
            heard = await asyncio.gather(*(told(port, *start) for start in starts.values()))
            server.should_exit = True
            await running
        return dict(zip(starts, heard, strict=True))

    heard = asyncio.run(asyncio.wait_for(all_of_them(), 120))
    statuses = {
        name: [line.split()[1] for line in text.split(b"\r\n") if line[:8] == b"HTTP/1.1"] for name, text in heard.items()
    }
    assert statuses == {
        "silent": [],
        "half a header": [],
        "a header that never ends": [],
        "silent after an answer": [b"200"],
        "half a header after an answer": [b"200"],
        "a body that never ends": [b"408"],
    }
