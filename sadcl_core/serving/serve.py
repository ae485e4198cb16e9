"""Answer requests over HTTP until the process is asked to end."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from sadcl_core.errors import MachineError, UsageError
from sadcl_core.runtime.packages import is_installed

if TYPE_CHECKING:
    from sadcl_core.inference.predictor import Predictor

PACKAGES = ("fastapi", "uvicorn", "python_multipart")
END_SECONDS = 10  # that requests have to end in, once the process is asked to
MOST_CONNECTIONS = 1000


def listen(host: str = "127.0.0.1", port: int = 8000) -> socket.socket:
    """Return a socket for `serve`; requests that come before it is served wait.

    The host 0.0.0.0 is the address of every network, and port 0 is a free one.

    Raises:
        MachineError: a package is missing that serving needs, or the address cannot be listened on.
        UsageError: there is no such host.

    Example:
        >>> with listen(port=0) as listening:
        ...     address_of(listening).rpartition(":")[0]
        'http://127.0.0.1'
    """
    if not all(map(is_installed, PACKAGES)):
        raise MachineError("A server needs packages that are not installed: pip install 'sadcl[serve]'.")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError, ValueError):
        raise UsageError(f"There is no host {host!r}. Give an address of this machine, such as 127.0.0.1 or 0.0.0.0.") from None
    try:
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise MachineError(f"{host}:{port} cannot be listened on ({reason}). Give another --port; 0 is a free one.") from None


def address_of(listening: socket.socket) -> str:
    """Return the address of a socket as a browser takes it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(model: Predictor[Any], listening: socket.socket, *, body_seconds: float = 30, **limits: Any) -> None:
    """Answer requests until SIGINT or SIGTERM, also those that are running then.

    Args:
        model: any that predicts, as `sadcl_core.load` gives it.
        listening: a socket of `listen`.
        body_seconds: within which a header must have come, else the connection is closed; then the body, else the answer is 408.
        **limits: the others of `sadcl_core.serving.application.build_application`.

    Raises:
        KeyboardInterrupt: afterwards, as the signal does it elsewhere.

    Example:
        >>> import sadcl_core as sadcl
        >>> sadcl.serve(sadcl.load("runs/coco"), sadcl.listen(port=8000))  # doctest: +SKIP
    """
    import uvicorn

    from sadcl_core.serving.application import build_application
    from sadcl_core.serving.connections import patient_for

    config = uvicorn.Config(
        build_application(model, body_seconds=body_seconds, **limits),
        http=patient_for(body_seconds),
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=END_SECONDS,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listening])
