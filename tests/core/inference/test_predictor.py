from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.images import ImageSource, read_pixels
from sadcl_core.inference.predictor import Predictor
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.run_directory import RunDirectory

CARD = ModelCard(classes=("red", "green", "blue"), img_size=16, mean=(0, 0, 0), std=(1, 1, 1), model=ModelSection())


@dataclass
class MeanColour(Predictor[npt.NDArray[np.uint8]]):
    """The probability of a colour is its mean."""

    card: ModelCard = CARD
    path: Path = Path("colours.bin")
    run: RunDirectory | None = None
    is_last_run: bool = False

    def read(self, source: ImageSource, name: object = None) -> npt.NDArray[np.uint8]:
        return read_pixels(source, name)

    def score(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        return np.array([image.mean(axis=(0, 1)) / 255 for image in images], np.float32)


def test_images_of_any_size_go_through_whatever_predicts(tmp_path: Path) -> None:
    Image.new("RGB", (9, 5), (255, 0, 204)).save(tmp_path / "a.png")
    model = MeanColour()
    assert model.folder("eval") == Path("eval")
    red = model.predict(tmp_path / "a.png")
    assert [(name, round(score, 6)) for name, score in red.labels] == [("red", 1.0), ("blue", 0.8)]
    green = np.zeros((3, 7, 3), np.uint8)
    green[:, :, 1] = 255
    predictions = model.predict([tmp_path / "a.png", green, b"broken", tmp_path / "none.png"], topk=1, batch_size=3)
    assert [[name for name, _ in prediction.labels] for prediction in predictions] == [["red"], ["green"], [], []]
    assert [prediction.image for prediction in predictions] == [tmp_path / "a.png", 1, 2, tmp_path / "none.png"]
    assert [bool(prediction.error) for prediction in predictions] == [False, False, True, True]
    assert model({"image": [green], "id": [3]})["labels"] == [["green"]]
