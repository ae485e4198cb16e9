"""A web server on this machine that misbehaves as it is told to, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from sadcl_core.data.prepare.download.archives import Archive


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    condition: str | None


@dataclass
class Site:
    """A web server's files, how it behaves, and what it was asked."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    knows_ranges: bool = True
    says_length: bool = True
    misses_by: int = 0  # bytes, where it is asked to go on
    partial: int | None = None  # answers with what follows this byte where it is asked for everything
    validator: str = "ETag"
    errors: list[int] = field(default_factory=list)  # answered before anything else
    cuts: list[int] = field(default_factory=list)  # how many bytes each of the next GETs gets
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    served: int = 0

    def gets(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]

    def offer(self, name: str, content: bytes, *makes: str, roots: tuple[str, ...] = ("",)) -> Archive:
        self.files[f"/{name}"] = content
        return Archive(f"{self.url}/{name}", hashlib.md5(content).hexdigest(), makes, roots)

    def version(self, content: bytes) -> str:
        tag = hashlib.sha1(content).hexdigest()
        return f'"{tag}"' if self.validator == "ETag" else f"Mon, 01 Jan 2024 00:00:{int(tag, 16) % 60:02} GMT"


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        content = self.answer()
        if content is not None:
            sent = content[: self.site.cuts.pop(0)] if self.site.cuts else content
            self.site.served += len(sent)
            self.wfile.write(sent)

    def answer(self) -> bytes | None:
        site, headers = self.site, self.headers
        site.requests.append(Request(self.command, self.path, headers["Range"], headers["If-Range"]))
        if site.errors or self.path not in site.files:
            self.refuse()
            return None
        content = site.files[self.path]
        version = site.version(content)
        start = int(re.findall(r"\d+", headers["Range"])[0]) if headers["Range"] and site.knows_ranges else site.partial
        if headers["If-Range"] not in (None, version):
            start = site.partial
        if start is None:
            self.send_response(200)
            start = 0
        elif start >= len(content):
            self.send_error(416)
            return None
        else:
            self.send_response(206)
            start += site.misses_by
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if site.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.send_header(site.validator, version)
        self.end_headers()
        return content[start:]

    def refuse(self) -> None:
        if self.path in self.site.redirects and not self.site.errors:
            self.send_response(302)
            self.send_header("Location", self.site.redirects[self.path])
            self.end_headers()
        else:
            self.send_error(self.site.errors.pop(0) if self.site.errors else 404)


@contextmanager
def serving() -> Iterator[Site]:
    """The site of a server that runs as long as the block."""

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
    """The address of a server that is gone."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        return f"http://127.0.0.1:{server.server_address[1]}"
