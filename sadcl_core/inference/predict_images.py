"""Labels of any number of images: to whoever listens, into a file, and beside or instead of it into other places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadcl_core.data.image_stream import ImageStream
from sadcl_core.data.images import NamedImage
from sadcl_core.errors import DataError
from sadcl_core.inference.predict import Prediction
from sadcl_core.inference.predictor import Predictor
from sadcl_core.inference.sinks import Sink
from sadcl_core.inference.thresholds import ThresholdRequest
from sadcl_core.runtime.progress import Progress
from sadcl_core.runtime.threads import map_ahead


@dataclass(frozen=True)
class PredictedImages:
    """Numbers of images that were predicted.

    Attributes:
        images: how many, broken ones among them.
        errors: how many could not be read.
        resumed: how many of them an earlier process had done.
    """

    images: int
    errors: int
    resumed: int


def predict_images(
    model: Predictor[Any],
    images: ImageStream,
    *,
    output: Path | None = None,
    exist_ok: bool = False,
    sinks: Sequence[Sink] = (),
    each: Callable[[Prediction], None] | None = None,
    threshold: ThresholdRequest = None,
    topk: int | None = None,
    exclude: Sequence[str] = (),
    all_scores: bool = False,
    embed: bool = False,
    batch_size: int = 32,
    workers: int | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> PredictedImages:
    """Predict the labels of any number of images in constant memory.

    Args:
        model: from `sadcl_core.load`.
        images: from `sadcl_core.open_images`.
        output: .parquet, .jsonl or .csv; it appears when all is done, and a process that was killed goes on where the same call
            is made again.
        exist_ok: write over `output`.
        sinks: are given each image that could be read, from several threads.
        each: called with each prediction of this process, in order.
        threshold: as for `Model.predict`.
        topk: as for `Model.predict`.
        exclude: classes that are never predicted, whatever their score.
        all_scores: write the score of every class into `output`.
        embed: write features into `output`, which is Parquet: of the image, and of each of its labels.
        batch_size: images that go through the network at a time.
        workers: threads that read images; by default one for each processor, 8 at most.
        chunk: images that are lost at most when a process is killed.
        progress: called with how many images are done in this process, of how many (0: not known).

    Raises:
        DataError: there is no image, or a list, table or shard cannot be read.
        UsageError: `output` cannot be written or was begun with other options, or as for `Model.predict`.
        NotFiniteError: the model gives NaN.

    Example:
        >>> predict_images(load("runs/coco"), open_images(["photos"]), output=Path("labels.parquet"))  # doctest: +SKIP
        PredictedImages(images=100000, errors=2, resumed=0)
    """
    if output is not None:
        from sadcl_core.inference.prediction_file import CHUNK, PredictionFile, check_target

        check_target(output, exist_ok=exist_ok, embed=embed)
    batch_size = min(batch_size, model.LARGEST_BATCH)  # chunks are whole batches
    stream, resumed, errors = iter(images), 0, 0
    total = (images.count() or 0) if progress is not None else 0
    with ExitStack() as stack:
        file = None
        if output is not None:
            asked = {"threshold": [float(value) for value in model.choose_thresholds(threshold).values], "topk": topk}
            places = {"images": images.places, "recursive": images.recursive, "column": images.column, "part": images.part}
            beside = {"set_of_results": [sink.place for sink in sinks]}
            job = {**model.settings, **asked, "exclude": list(exclude), "batch_size": batch_size, **places, **beside}
            written = PredictionFile(
                output, model.classes, job, batch_size, all_scores=all_scores, features=embed, chunk=chunk or CHUNK
            )
            file = stack.enter_context(written)
            resumed, errors = file.skip(stream)
        for sink in sinks:
            stack.enter_context(sink.opened())
        done = resumed
        for prediction in _predict(
            model,
            stream,
            sinks,
            threshold=threshold,
            topk=topk,
            exclude=exclude,
            details=embed or any(sink.needs_details for sink in sinks),
            batch_size=batch_size,
            workers=workers,
        ):
            done += 1
            errors += bool(prediction.error)
            for receive in (each, None if file is None else file.add):
                if receive is not None:
                    receive(prediction)
            if progress is not None:
                progress(done - resumed, max(0, total - resumed))
        if not done:
            raise DataError(f"There is no image in {', '.join(images.places)[:200]}. Name files, folders or lists of images.")
        if file is not None:
            file.finish()
    return PredictedImages(done, errors, resumed)


def _predict(
    model: Predictor[Any], images: Iterable[NamedImage], sinks: Sequence[Sink], *, workers: int | None, **options: Any
) -> Iterator[Prediction]:
    """Yield predictions after they have been given to the sinks."""
    waiting: deque[NamedImage] = deque()

    def remember() -> Iterator[NamedImage]:
        for image in images:
            waiting.append(image)
            yield image

    predictions = model.iter_predict(remember() if sinks else images, workers=workers, **options)
    if not sinks:
        yield from predictions
        return

    def give(pair: tuple[NamedImage, Prediction]) -> Prediction:
        image, prediction = pair
        for sink in sinks if not prediction.error else ():
            sink(image, prediction)
        return prediction

    pairs = ((waiting.popleft(), prediction) for prediction in predictions)
    yield from map_ahead(give, pairs, workers=workers)
