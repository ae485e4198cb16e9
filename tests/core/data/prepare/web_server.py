"""A web server on this machine that misbehaves as a test asks, and remembers its requests."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from sadcl_core.data.prepare.download import Archive


class Request(NamedTuple):
    method: str
    path: str
    range: str | None


@dataclass
class Site:
    """The files of a web server, how it behaves, and what it was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    knows_ranges: bool = True
    sends_length: bool = True
    claimed_length: int = 0  # added to the length that HEAD answers
    shift: int = 0  # bytes behind the start of a range at which the answer starts
    unasked: int | None = None  # answers with what follows this byte where the whole file is requested
    errors: list[int] = field(default_factory=list)  # answered before anything else
    cuts: list[int] = field(default_factory=list)  # how many bytes each of the next GETs gets
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def gets(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]

    def offer(self, name: str, content: bytes, *makes: str, roots: tuple[str, ...] = ("",)) -> Archive:
        self.files[f"/{name}"] = content
        return Archive(f"{self.url}/{name}", hashlib.md5(content).hexdigest(), makes, roots)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        content = self.answer()
        self.wfile.write(content[: self.site.cuts.pop(0)] if content and self.site.cuts else content)

    def answer(self) -> bytes:
        site, header = self.site, self.headers["Range"]
        site.requests.append(Request(self.command, self.path, header))
        if site.errors:
            self.send_error(site.errors.pop(0))
            return b""
        if self.path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[self.path])
            self.end_headers()
            return b""
        if self.path not in site.files:
            self.send_error(404)
            return b""
        content = site.files[self.path]
        start = int(re.findall(r"\d+", header)[0]) if header and site.knows_ranges else site.unasked
        if start is None:
            self.send_response(200)
        elif start >= len(content):
            self.send_error(416)
            return b""
        else:
            self.send_response(206)
            start += site.shift
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        content = content[start or 0 :]
        if site.sends_length:
            self.send_header("Content-Length", str(len(content) + site.claimed_length * (self.command == "HEAD")))
        self.end_headers()
        return content


@contextmanager
def serving() -> Iterator[Site]:
    """Yield the site of a server that runs as long as the block."""

    class HandlerOfThisTest(Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), HandlerOfThisTest) as server:
        HandlerOfThisTest.site = Site(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield HandlerOfThisTest.site
        server.shutdown()
        thread.join()


def closed_port() -> str:
    """Return the address of a server that is gone."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        return f"http://127.0.0.1:{server.server_address[1]}"
