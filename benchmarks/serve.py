"""The server under load: requests a second beside the bare network, times, memory, and what faulty clients do to the others.

python benchmarks/serve.py -w runs/coco photos/ [--connections 200] [--seconds 60] [--faults 4]

`sadcl serve` is started, and each of the connections posts one image after the other. Beside them, all the time: clients that
send a byte a second, that leave in the middle of a body, that send something else than HTTP, a body that is too large, and broken
images. Every answer is held against the scores of `predict` on the same file. The load comes from the cores of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

import sadcl_core as sadcl

BOUNDARY = "benchmark"
FILES = 200  # of the photos
TIMEOUT = 120  # seconds that a client waits


@dataclass
class Load:
    """What came of the requests.

    Attributes:
        port: of the server.
        bodies: name -> body of a request with that image.
        expected: name -> class -> score.
        seconds: of each good request.
        answers: kind of client and status, or what became of it -> how often.
        worst: largest difference of a score.
        memory: of the server, bytes, a sample every second.
    """

    port: int
    bodies: dict[str, bytes]
    expected: dict[str, dict[str, float]]
    seconds: list[float] = field(default_factory=list)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    worst: float = 0
    memory: list[int] = field(default_factory=list)

    async def work(self, first: int, until: float) -> None:
        """Post one image after the other over one connection."""
        names = list(self.bodies)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        number = first
        while time.monotonic() < until:
            name = names[number % len(names)]
            number += 1
            start = time.monotonic()
            writer.write(head(len(self.bodies[name])) + self.bodies[name])
            status, body = await asyncio.wait_for(answer(reader), TIMEOUT)
            self.seconds.append(time.monotonic() - start)
            self.answers["good", status] += 1
            if status == "200":
                scores = json.loads(body)["predictions"][0]["scores"]
                self.worst = max(self.worst, *(abs(scores[key] - value) for key, value in self.expected[name].items()))
        writer.close()

    async def fault(self, kind: str, until: float) -> None:
        """Be a bad client, again and again."""
        body = next(iter(self.bodies.values()))
        while time.monotonic() < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                if kind == "slow":
                    writer.write(head(len(body)))
                    pending = asyncio.create_task(answer(reader))
                    for number in range(len(body)):
                        writer.write(body[number : number + 1])
                        if (await asyncio.wait([pending], timeout=1))[0]:
                            break
                    self.answers[kind, (await pending)[0]] += 1
                    continue
                if kind == "leaves":
                    writer.write(head(len(body)) + body[: len(body) // 2])
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    writer.close()
                    self.answers[kind, "left"] += 1
                    continue
                if kind == "no HTTP":
                    writer.write(b"\x16\x03\x01\x00\xff" * 20 + b"\r\n\r\n")
                elif kind == "too large":
                    writer.write(head(10**12))
                else:
                    writer.write(head(len(wrapped(b"broken"))) + wrapped(b"broken"))
                status, _ = await asyncio.wait_for(answer(reader), TIMEOUT)
                self.answers[kind, status] += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                self.answers[kind, "closed"] += 1
            finally:
                writer.close()
            await asyncio.sleep(0.1)

    async def watch(self, process: psutil.Process, until: float) -> None:
        """Take the memory of the server."""
        while time.monotonic() < until:
            self.memory.append(process.memory_info().rss)
            await asyncio.sleep(1)


def wrapped(data: bytes, name: str = "x") -> bytes:
    """Return the body of a request with one image."""
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'.encode()
    return start + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def head(length: int) -> bytes:
    """Return the head of a request with a body of so many bytes."""
    return (
        f"POST /predict?all_scores=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    ).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Return the status and the body of an answer."""
    start = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next((int(line.split(":")[1]) for line in start.splitlines() if line.startswith("content-length")), None)
    body = await reader.read() if length is None else await reader.readexactly(length)
    return start.split(" ")[1], body


def measure_alone(model: object, paths: list[Path], batch_size: int) -> tuple[float, float]:
    """Return images a second of the network on decoded images, and of `predict` on the files."""
    assert isinstance(model, sadcl.Model | sadcl.OnnxModel)
    pixels = [model.read(path) for path in paths[:batch_size]]
    model.score(pixels)  # type: ignore[arg-type]
    start, rounds = time.monotonic(), 0
    while time.monotonic() - start < 10:
        model.score(pixels)  # type: ignore[arg-type]
        rounds += 1
    network = rounds * len(pixels) / (time.monotonic() - start)
    start = time.monotonic()
    model.predict(paths, batch_size=batch_size)
    return network, len(paths) / (time.monotonic() - start)


async def load(
    port: int,
    process: psutil.Process,
    bodies: dict[str, bytes],
    expected: dict[str, dict[str, float]],
    options: argparse.Namespace,
) -> Load:
    """Put the server under load, and return what came of it."""
    done = Load(port, bodies, expected)
    until = time.monotonic() + options.seconds
    faults = [kind for kind in ("slow", "leaves", "no HTTP", "too large", "broken image") for _ in range(options.faults)]
    await asyncio.gather(
        done.watch(process, until),
        *(done.work(number * 7, until) for number in range(options.connections)),
        *(done.fault(kind, until) for kind in faults),
    )
    return done


def main() -> None:
    """Everything, as tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-w", "--weights", required=True)
    parser.add_argument("photos", type=Path)
    for option, default in (("--connections", 200), ("--seconds", 60), ("--faults", 4), ("--batch-size", 32)):
        parser.add_argument(option, type=int, default=default)
    options = parser.parse_args()
    paths = sorted(options.photos.iterdir())[:FILES]
    model = sadcl.load(options.weights, device="cpu")
    network, predicted = measure_alone(model, paths, options.batch_size)
    expected = {
        path.name: dict(zip(model.classes, prediction.scores.tolist(), strict=True))
        for path, prediction in zip(paths, model.predict(paths), strict=True)
    }
    del model
    words = ("serve", "-w", options.weights, "--port", "0", "--device", "cpu", "--timeout", "5", "-b", str(options.batch_size))
    with subprocess.Popen([sys.executable, "-m", "sadcl_cli", *words], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        bodies = {path.name: wrapped(path.read_bytes(), path.name) for path in paths}
        done = asyncio.run(load(port, psutil.Process(server.pid), bodies, expected, options))
        server.terminate()
        server.wait(60)
    megabytes = np.array(done.memory) / 2**20
    print(f"network alone {network:.1f} images/s, predict on files {predicted:.1f}, ", end="")
    print(f"served {len(done.seconds) / options.seconds:.1f} requests/s over {options.connections} connections")
    print(f"seconds of a request: p50 {np.percentile(done.seconds, 50):.2f}, p99 {np.percentile(done.seconds, 99):.2f}")
    print(f"largest difference of a score from predict: {done.worst:.1e}; exit code after SIGTERM: {server.returncode}")
    quarters = [part.mean() for part in np.array_split(megabytes, 4)]
    print(f"memory of the server, MiB, mean of each quarter of the time: {', '.join(f'{value:.0f}' for value in quarters)}")
    print("\n| client | answer | times |\n| --- | --- | --- |")
    for (kind, status), count in sorted(done.answers.items()):
        print(f"| {kind} | {status} | {count:,} |")


if __name__ == "__main__":
    main()
