"""Parts of the page that `sadcl demo` adds: attention of labels, alike images, and thresholds that are kept in the model."""

from __future__ import annotations

import io
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
from fastapi import Body, FastAPI, File, HTTPException, Query, Response, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sadcl_core.data.images import open_image
from sadcl_core.errors import DataError
from sadcl_core.evaluation.calibrate import store_thresholds
from sadcl_core.inference.embedding_index import EmbeddingIndex
from sadcl_core.inference.load import Model
from sadcl_core.inference.search import search

HOSTS = ["127.0.0.1", "localhost", "[::1]"]  # by which this machine calls itself
LABELS = 12  # that attention is shown of, the most probable
ALIKE = 6  # images
SIZE = 200  # pixels of the longer side of these


def add_demo(app: FastAPI, index: EmbeddingIndex | None) -> None:
    """Add the requests of a demo to the application of a trained model; alike images are looked for in an index."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)  # pages of others may not write into the model

    @app.post("/details", summary="Where labels of an image were read from, and images alike")
    async def details(image: Annotated[UploadFile, File(description="File of an image.")]) -> dict[str, Any]:
        return await run_in_threadpool(explain, app.state.model, index, await image.read())

    @app.put("/thresholds", summary="Keep thresholds in the model file")
    async def keep(thresholds: Annotated[dict[str, float], Body(description="By class name.")]) -> dict[str, float]:
        app.state.model = await run_in_threadpool(store_thresholds, app.state.model, thresholds)
        return dict(zip(app.state.model.classes, app.state.model.thresholds.tolist(), strict=True))

    @app.get("/alike", summary="A small copy of an image of the index", response_class=Response)
    async def alike(path: Annotated[str, Query(description="Of the image, as /details gives it.")]) -> Response:
        if index is None or not path or pc.index(index.images.table["path"], path).as_py() < 0:
            raise HTTPException(404, "The index has no such image.")
        return Response(await run_in_threadpool(_small_copy, path), media_type="image/jpeg")


def explain(model: Model, index: EmbeddingIndex | None, image: bytes) -> dict[str, Any]:
    """Return the attention of the most probable labels of an image, each map from 0 to 1, and the images most alike.

    Raises:
        DataError: the image cannot be read.
    """
    prediction = next(model.iter_predict([image], topk=LABELS, details=True))
    if prediction.error:
        raise DataError(prediction.error)
    assert prediction.attention is not None, "asked for"
    maps = prediction.attention.astype(np.float64)
    maps -= maps.min(axis=(1, 2), keepdims=True)
    maps /= maps.max(axis=(1, 2), keepdims=True).clip(1e-12)
    document: dict[str, Any] = {
        "attention": {name: values for (name, _), values in zip(prediction.labels, np.round(maps, 3).tolist(), strict=True)},
        "alike": [],
        "note": "",
    }
    try:
        for match in search(index, image, model=model, count=ALIKE) if index is not None else ():
            document["alike"].append(
                {"image": match.image, "path": match.path, "cosine": round(match.cosine, 3), "labels": match.labels}
            )
    except DataError as error:  # an index of another model
        document["note"] = str(error)
    return document


def _small_copy(path: str) -> bytes:
    picture = open_image(path)
    picture.thumbnail((SIZE, SIZE))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()
