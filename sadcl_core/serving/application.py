"""The web application around a model: its requests and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import FastAPI, File, HTTPException, Query, Response, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sadcl_core import __version__
from sadcl_core.data.images import NamedImage
from sadcl_core.errors import DataError, NotFiniteError, UsageError
from sadcl_core.inference.predict import Prediction, active_classes
from sadcl_core.inference.predictor import Predictor
from sadcl_core.serving.batcher import Batcher, QueueFullError
from sadcl_core.serving.gate import Gate

if TYPE_CHECKING:
    from sadcl_core.inference.embedding_index import EmbeddingIndex

TEMPLATES = Path(__file__).with_name("templates")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'"
)
NAME_LENGTH = 200  # letters of a file's name that come back


def build_application(
    model: Predictor[Any],
    *,
    batch_size: int = 32,
    most_images: int = 32,
    most_bytes: int = 32_000_000,
    most_waiting: int = 1024,
    body_seconds: float = 30,
    workers: int | None = None,
    demo: bool = False,
    index: EmbeddingIndex | None = None,
) -> FastAPI:
    """Return the ASGI application of a model.

    Args:
        model: any that predicts.
        batch_size: images at most that go through the network together.
        most_images: of a request; more is answered with 413.
        most_bytes: of a request; more is answered with 413.
        most_waiting: images of all requests together; more is answered with 503.
        body_seconds: within which a request must have come; else the answer is 408.
        workers: threads that decode images.
        demo: the page also shows attention and keeps thresholds in the model, which is a `sadcl_core.inference.load.Model`, and
            it answers this machine alone.
        index: of `sadcl embed`, in which a demo looks for alike images.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Batcher(model, batch_size=batch_size, most_waiting=most_waiting, workers=workers) as batcher:
            app.state.batcher = batcher
            yield

    app = FastAPI(
        title="sadcl demo" if demo else "sadcl serve",
        version=__version__,
        description=f"Labels of images: {len(model.classes)} classes, {model.card.model.head} on {model.card.model.backbone}.",
        docs_url=None,  # its pages come from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )

    app.state.model = model  # with the thresholds of now

    def gate(inner: Any) -> Gate:
        app.state.gate = made = Gate(inner, most_bytes=most_bytes, body_seconds=body_seconds)
        return made

    app.add_middleware(gate)

    @app.post("/predict", summary="Labels of one image or several")
    async def predict(
        images: Annotated[list[UploadFile], File(description="Files of images.")],
        threshold: Annotated[
            float | None,
            Query(ge=0, le=1, description="Above which a label counts; that of each class in the model unless given."),
        ] = None,
        topk: Annotated[int | None, Query(ge=1, description="Only the k most probable labels.")] = None,
        all_scores: Annotated[bool, Query(description="Also the score of every class.")] = False,
    ) -> JSONResponse:
        if len(images) > most_images:
            raise HTTPException(413, f"A request holds at most {most_images} images. Send them in several.")
        files = [NamedImage((image.filename or "image")[:NAME_LENGTH], await image.read()) for image in images]
        limits = app.state.model.limits(threshold, topk)
        results = await app.state.batcher.score(files)
        predictions = [
            Prediction(file.name, error=str(result))
            if isinstance(result, DataError)
            else Prediction(
                file.name, tuple((model.classes[k], float(result[k])) for k in active_classes(result, limits, topk)), result
            )
            for file, result in zip(files, results, strict=True)
        ]
        names = model.classes if all_scores else ()
        status = 422 if all(prediction.error for prediction in predictions) else 200
        return JSONResponse({"predictions": [prediction.as_json(names) for prediction in predictions]}, status)

    @app.get("/model", summary="The classes, the thresholds and the size of images")
    async def about() -> dict[str, Any]:
        return {
            "schema_version": 1,
            "model": model.path.name,
            "head": model.card.model.head,
            "backbone": model.card.model.backbone,
            "img_size": model.card.img_size,
            "calibrated": bool(model.card.calibrated),
            "demo": demo,
            "thresholds": dict(zip(model.classes, np.round(app.state.model.thresholds, 6).tolist(), strict=True)),
        }

    @app.get("/health", summary="Ready to answer")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": app.state.batcher.waiting}

    @app.get("/metrics", summary="Counters, as Prometheus reads them", response_class=PlainTextResponse)
    async def metrics() -> str:
        batcher = app.state.batcher
        lines = app.state.gate.lines()
        for name, kind, value in (
            ("images_total", "counter", batcher.images),
            ("batches_total", "counter", batcher.batches),
            ("images_waiting", "gauge", batcher.waiting),
        ):
            lines += [f"# TYPE sadcl_{name} {kind}", f"sadcl_{name} {value}"]
        return "\n".join([*lines, ""])

    if demo:
        from sadcl_core.serving.demo import add_demo

        add_demo(app, index)
    _add_errors(app)
    _add_pages(app)
    return app


def _add_errors(app: FastAPI) -> None:
    """Answer what the core raises with its sentence."""
    for kind, status in ((QueueFullError, 503), (UsageError, 422), (DataError, 422), (NotFiniteError, 500)):

        async def answer(_: Any, error: Exception, status: int = status) -> JSONResponse:
            return JSONResponse({"detail": str(error)}, status, headers={"Retry-After": "1"} if status == 503 else None)

        app.add_exception_handler(kind, answer)


def _add_pages(app: FastAPI) -> None:
    """Show the ways to ask as a page that fetches nothing from elsewhere."""
    templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        text = templates.get_template("serve.html").render(api=app.openapi())
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})

    @app.get("/serve.{end}", include_in_schema=False)
    async def part(end: str) -> Response:
        kinds = {"css": "text/css", "js": "text/javascript"}
        if end not in kinds:
            raise HTTPException(404)
        return Response((TEMPLATES / f"serve.{end}").read_bytes(), media_type=kinds[end])
