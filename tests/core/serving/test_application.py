from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import sadcl_core as sadcl
from sadcl_core.data.images import NamedImage
from sadcl_core.errors import NotFiniteError
from sadcl_core.exporting.export import Export
from sadcl_core.inference.predictor import NAN
from tests.core.inference.test_predictor import MeanColour

pytest.importorskip("uvicorn", reason="sadcl[serve] is not installed")

from starlette.testclient import TestClient

from sadcl_core.serving.application import build_application
from sadcl_core.serving.batcher import Batcher, QueueFullError
from sadcl_core.serving.gate import Gate


def picture(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 5), (red, 0, 51)).save(file, "png")
    return file.getvalue()


class Held(MeanColour):
    """Scores when it is let go, and notes how many images went through together."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.started, self.sizes = threading.Event(), threading.Event(), list[int]()

    def score(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        self.started.set()
        assert self.go.wait(60)
        self.sizes.append(len(images))
        return super().score(images)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(build_application(MeanColour(), most_images=3, most_bytes=2000)) as client:
        yield client


def test_labels_and_errors_of_several_images(client: TestClient) -> None:
    files = [("images", ("a.png", picture(255))), ("images", ("b.txt", b"no image")), ("images", ("c.png", picture(0)))]
    answer = client.post("/predict?all_scores=true", files=files)
    assert answer.status_code == 200
    first, broken, last = answer.json()["predictions"]
    assert first["image"] == "a.png"
    assert first["labels"] == [{"name": "red", "score": 1.0}]
    assert first["scores"] == {"red": 1.0, "green": 0.0, "blue": 0.2}
    assert broken["error"] == "b.txt: not an image."
    assert last["labels"] == []
    assert client.post("/predict", files=files[1:2]).status_code == 422
    labels = client.post("/predict?threshold=0.1", files=files[:1]).json()["predictions"][0]["labels"]
    assert [label["name"] for label in labels] == ["red", "blue"]
    labels = client.post("/predict?topk=1", files=files[2:]).json()["predictions"][0]["labels"]
    assert [label["name"] for label in labels] == ["blue"]


@pytest.mark.parametrize(
    ("address", "files", "status"),
    [
        ("/predict", [("images", ("a.png", b"x"))] * 4, 413),
        ("/predict", [("images", ("a.png", b"x" * 2001))], 413),
        ("/predict", [], 422),
        ("/predict", [("pictures", ("a.png", b"x"))], 422),
        ("/predict?threshold=1.5", [("images", ("a.png", picture(9)))], 422),
        ("/predict?threshold=nan", [("images", ("a.png", picture(9)))], 422),
        ("/predict?topk=0", [("images", ("a.png", picture(9)))], 422),
        ("/nothing", [("images", ("a.png", picture(9)))], 404),
    ],
)
def test_requests_that_make_no_sense(
    client: TestClient, address: str, files: list[tuple[str, tuple[str, bytes]]], status: int
) -> None:
    answer = client.post(address, files=files)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}


def test_a_body_without_a_length_is_limited_as_well(client: TestClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/predict", content=iter([head, *[b"x" * 500] * 5]), headers=kind)
    assert answer.status_code == 413


def test_a_body_that_does_not_come_is_given_up() -> None:
    answers = []

    async def send(message: object) -> None:
        answers.append(message)

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    async def ask() -> None:
        scope = {
            "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"multipart/form-data; boundary=b")],
        }  # fmt: skip
        await build_application(MeanColour(), body_seconds=0.01)(scope, receive, send)

    asyncio.run(ask())
    assert answers[0]["status"] == 408  # type: ignore[index]


def test_images_that_arrive_together_go_through_together_and_no_more_may_wait() -> None:
    model = Held()

    async def ask() -> None:
        images = [NamedImage(f"{number}.png", picture(number)) for number in range(9)]
        async with Batcher(model, batch_size=4, most_waiting=9) as batcher:
            first = asyncio.create_task(batcher.score(images[:1]))
            assert await asyncio.to_thread(model.started.wait, 60)
            others = [asyncio.create_task(batcher.score([image])) for image in images[1:]]
            given_up = others.pop()
            while batcher.waiting < 9:
                await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await batcher.score(images[:1])
            given_up.cancel()
            model.go.set()
            results = [*await first, *[scores for (scores,) in await asyncio.gather(*others)]]
            assert [float(np.asarray(scores)[0]) for scores in results] == pytest.approx([number / 255 for number in range(8)])
            assert batcher.waiting == 0
            assert batcher.images == sum(model.sizes)
            assert batcher.batches == len(model.sizes)

    asyncio.run(ask())
    assert max(model.sizes) <= 4
    assert len(model.sizes) < 8


def test_a_full_queue_and_a_model_that_fails() -> None:
    class Broken(MeanColour):
        def score(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
            raise NotFiniteError(NAN)

    files = [("images", ("a.png", picture(1)))] * 2
    with TestClient(build_application(MeanColour(), most_waiting=1)) as client:
        answer = client.post("/predict", files=files)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.post("/predict", files=files[:1]).status_code == 200
    with TestClient(build_application(Broken())) as client:
        for _ in range(2):  # it is alive afterwards
            answer = client.post("/predict", files=files)
            assert (answer.status_code, answer.json()["detail"]) == (500, NAN)


def test_many_at_once_each_get_their_own(trained: Path, exported: Export) -> None:
    paths = sorted((trained / "my-coco" / "val2017").iterdir())
    for source in (trained / "runs" / "coco", exported.path):
        model = sadcl.load(source, device="cpu")
        expected = {path.name: prediction.scores for path, prediction in zip(paths, model.predict(paths), strict=True)}
        with TestClient(build_application(model, batch_size=5)) as client, ThreadPoolExecutor(6) as pool:

            def ask(path: Path) -> npt.NDArray[np.float32]:
                answer = client.post("/predict?all_scores=true", files={"images": (path.name, path.read_bytes())})
                scores = answer.json()["predictions"][0]["scores"]
                return np.array([scores[name] for name in model.classes], np.float32)  # noqa: B023

            for path, scores in zip(paths, pool.map(ask, paths), strict=True):
                np.testing.assert_allclose(scores, expected[path.name], atol=1e-5)


def test_counters_and_pages(client: TestClient) -> None:
    client.post("/predict", files=[("images", ("a.png", picture(1)))] * 2)
    client.get("/nothing")
    text = client.get("/metrics").text
    counters = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert counters['sadcl_requests_total{status="200"}'] == "1"
    assert counters['sadcl_requests_total{status="404"}'] == "1"
    assert counters['sadcl_request_seconds_bucket{le="+Inf"}'] == counters["sadcl_request_seconds_count"] == "2"
    assert counters["sadcl_images_total"] == "2"
    assert client.get("/model").json()["thresholds"] == {"red": 0.5, "green": 0.5, "blue": 0.5}
    assert "/predict" in client.get("/openapi.json").json()["paths"]
    for address in ("/", "/docs"):
        page = client.get(address)
        assert "POST /predict" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for part in re.findall(r'(?:src|href)="(/[^"]*)"', page.text):
            assert client.get(part).status_code == 200
        assert "http" not in page.text  # nothing comes from elsewhere
    assert client.get("/serve.html").status_code == 404


def test_the_gate_counts_clients_that_leave() -> None:
    async def leave(*_: object) -> None:
        return None

    gate = Gate(leave, most_bytes=1, body_seconds=1)
    asyncio.run(gate({"type": "http", "headers": []}, leave, leave))  # type: ignore[arg-type]
    assert gate.answers == {499: 1}
