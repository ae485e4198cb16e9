"""Whatever predicts labels of images: a network in torch, or its export. Importing this module imports no torch."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeAlias, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import UsageError
from sadcl_core.inference.predict import Details, Prediction, predict
from sadcl_core.inference.thresholds import DEFAULT, ThresholdRequest, Thresholds, choose
from sadcl_core.registry import suggest
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor

    from sadcl_core.data.images import ImageSource

    Images: TypeAlias = Iterable[ImageSource] | Tensor

Pixels = TypeVar("Pixels")  # an image as `read` returns it
NAN = (
    "The model gives NaN for some images: its weights are damaged, or its training diverged. "
    "Take another model file, or train again."
)


class Predictor(ABC, Generic[Pixels]):
    """A model file that is ready to predict. A kind of it says how an image is read, and how a batch is scored.

    Attributes:
        card: what the model file says of itself.
        path: of the model file.
        run: the run it belongs to, or None for a file on its own.
        is_last_run: nothing was named, and this is the run that finished last.
        LARGEST_BATCH: images at most that wait and go through together, whatever is asked for.
    """

    LARGEST_BATCH: ClassVar[int] = sys.maxsize

    card: ModelCard
    path: Path
    run: RunDirectory | None
    is_last_run: bool

    @abstractmethod
    def read(self, source: ImageSource, name: object = None) -> Pixels:
        """Read an image for `score` as `sadcl_core.data.images.read_image` does; called from any thread.

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def score(self, images: list[Pixels]) -> npt.NDArray[np.float32]:
        """Return the probability of every class in each of B images, (B, K) in 0..1.

        Raises:
            NotFiniteError: the model gives NaN.
        """

    def details(self, images: list[Pixels]) -> Details:
        """Return scores, features and attention of images that `read` gave.

        Raises:
            NotFiniteError: the model gives NaN.
            UsageError: the model file gives scores alone.
        """
        raise UsageError(f"{self.path} gives no features of images. Give the run that it was made from, or export that again.")

    def given(self, known: Mapping[str, int]) -> Self:
        """Return this model for images of which some labels are known: they inform the others, and stand as they are.

        Args:
            known: 1 for active and 0 for inactive, by class name.

        Raises:
            UsageError: there is no such class, a label is neither 1 nor 0, or the model cannot use labels that are known.
        """
        raise UsageError(f"{self.path} cannot use labels that are known. Give the run of a model of --method c-tran.")

    @property
    def settings(self) -> dict[str, Any]:
        """Return what scores depend on beside the image, as for JSON: equal settings give equal scores."""
        digest = hashlib.sha256()
        if self.path.is_file():
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        return {"model": digest.hexdigest(), "calibrated": bool(self.card.temperatures)}

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the K class names."""
        return self.card.classes

    @property
    def thresholds(self) -> npt.NDArray[np.float64]:
        """Return the probability above which each class counts, (K,) in 0..1: from the calibration, else 0.5."""
        return np.array(self.card.thresholds or [DEFAULT] * len(self.classes), dtype=np.float64)

    def folder(self, name: str) -> Path:
        """Return where results of a kind go by default, as `sadcl_core.inference.load.ModelFile.folder` does."""
        return self.run.path / name if self.run is not None else Path(name)

    def choose_thresholds(self, threshold: ThresholdRequest = None) -> Thresholds:
        """Return a threshold for every class; see `sadcl_core.inference.thresholds.choose` for the forms of a request."""
        return choose(threshold, self.classes, self.card.thresholds, calibrated=bool(self.card.temperatures))

    def limits(
        self, threshold: ThresholdRequest = None, topk: int | None = None, exclude: Sequence[str] = ()
    ) -> npt.NDArray[np.float32]:
        """Return the score (K,) above which each class is a label: -inf for any score, NaN for none; see `iter_predict`.

        Raises:
            UsageError: there is no such class, a threshold is not in 0..1, or topk is below 1.
        """
        if topk is not None and topk < 1:
            raise UsageError(f"--topk {topk}: at least one label must be asked for.")
        limits = np.full(len(self.classes), -np.inf, np.float32)
        if threshold is not None or topk is None:
            limits = np.array(self.choose_thresholds(threshold).values, np.float32)
        limits[self.card.class_indices(exclude)] = np.nan
        return limits

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is an iterable of texts
        self,
        images: ImageSource,
        *,
        threshold: ThresholdRequest = None,
        topk: int | None = None,
        known: Mapping[str, int] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        images: Iterable[ImageSource],
        *,
        threshold: ThresholdRequest = None,
        topk: int | None = None,
        known: Mapping[str, int] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        images: ImageSource | Images,
        *,
        threshold: ThresholdRequest = None,
        topk: int | None = None,
        known: Mapping[str, int] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> Prediction | list[Prediction]:
        """Predict the labels of one image or of many, in order.

        Args:
            images: paths, addresses, bytes of files, PIL images, uint8 arrays (H, W, 3) or uint8 tensors (3, H, W); one, or many
                in a list, an iterator, an array (N, H, W, 3) or a tensor (N, 3, H, W).
            threshold: probability above which a label counts: a number, one for each class, a table by class name, "auto" for
                the model's own, or a file of thresholds. By default the model's own, or 0.5 where it has none; with `topk` none.
            topk: only the k most probable labels.
            known: labels that are known of every image, 1 active and 0 inactive, by class name; to a model that can use them.
            batch_size: images that go through the network at a time.
            workers: threads that read images; by default one for each processor, 8 at most.

        Returns:
            A prediction, or a list of them. An image that cannot be read has its error in place of labels.

        Raises:
            UsageError: there is no such class, a threshold is not in 0..1, topk is below 1, or the model cannot use known labels.
            NotFiniteError: the model gives NaN.
        """
        model = self.given(known) if known else self
        many = model.iter_predict(self.many(images), threshold=threshold, topk=topk, batch_size=batch_size, workers=workers)
        return next(many) if _is_one(images) else list(many)

    def iter_predict(
        self,
        images: Images,
        *,
        threshold: ThresholdRequest = None,
        topk: int | None = None,
        exclude: Sequence[str] = (),
        details: bool = False,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """Yield predictions one by one, with a batch or two in memory, for any number of images, as of `sadcl_core.open_images`.

        Classes to `exclude` are never predicted, whatever their score; `details` are the features of the image and of its labels,
        and the attention of its labels. The other arguments are those of `predict`.

        Raises:
            UsageError: as for `predict`, or the model gives no details.
            NotFiniteError: the model gives NaN.
        """
        limits = self.limits(threshold, topk, exclude)
        return predict(
            images,
            self.read,
            self.details if details else self.score,
            self.classes,
            thresholds=limits,
            topk=topk,
            batch_size=min(batch_size, self.LARGEST_BATCH),
            workers=workers,
        )

    def __call__(
        self,
        batch: Mapping[str, Any],
        *,
        threshold: ThresholdRequest = None,
        topk: int | None = None,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Predict a batch of columns: the form of Ray Data's `map_batches`, of Daft and of Spark.

        Columns have equal length; `image` holds images, others are passed on. The other arguments are those of `predict`.

        Returns:
            The other columns, and: `labels`, a list of names for each image, the most probable first; `probabilities`, a list
            along with it; `scores` (N, K) float32, the probability of every class; `passed` (N, K) bool, whether the class is
            among the labels; `error`, why an image could not be read (its scores are NaN), or an empty text.

        Raises:
            UsageError: there is no column `image`.
        """
        if "image" not in batch:
            raise UsageError(f"The batch has no column 'image'. {suggest('image', batch)}")
        many = self.iter_predict(batch["image"], threshold=threshold, topk=topk, batch_size=batch_size, workers=workers)
        predictions = list(many)
        missing = np.full(len(self.classes), np.nan, np.float32)
        names = [[name for name, _ in prediction.labels] for prediction in predictions]
        return {
            **{name: values for name, values in batch.items() if name != "image"},
            "labels": names,
            "probabilities": [[probability for _, probability in prediction.labels] for prediction in predictions],
            "scores": np.array([missing if p.error else p.scores for p in predictions], np.float32).reshape(-1, len(missing)),
            "passed": np.array([[name in labels for name in self.classes] for labels in names], bool).reshape(-1, len(missing)),
            "error": [prediction.error for prediction in predictions],
        }

    def many(self, images: ImageSource | Images) -> Images:
        """Return one image, or many, as many."""
        return [cast("ImageSource", images)] if _is_one(images) else cast("Images", images)


def _is_one(images: object) -> bool:
    """Return True for one image, False for many."""
    from PIL import Image

    from sadcl_core.data.images import NamedImage

    if isinstance(images, str | Path | bytes | NamedImage | Image.Image):
        return True
    kind = getattr(getattr(images, "dtype", None), "kind", "")  # of a NumPy array: objects, bytes and texts are many images
    return getattr(images, "ndim", 4) <= 3 and kind not in ("O", "S", "U", "T")
