"""Maps from the disk are those of the backbone, for every view, and scores from them those of the images."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.images import read_image
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import Preprocessing, kept_view
from sadcl_core.errors import NotFiniteError, UsageError
from sadcl_core.inference.feature_cache import FeatureCache, feature_card, hash_of_weights
from sadcl_core.inference.feature_store import FeatureStore
from sadcl_core.inference.forward import Forward
from sadcl_core.model.classifier import Classifier

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
VIEWS = ("plain", "mirror", "crop-1", "shift-1")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, drawn_coco: Path) -> Manifest:
    return prepare("coco", data=drawn_coco, output=tmp_path_factory.mktemp("prepared") / "p").manifest


@functools.cache
def make_forward(head: str = "sarl") -> Forward:
    torch.manual_seed(0)
    heads = {"sarl": {"width": 16, "feedforward": 16}, "mulcon": {"width": 16, "token_width": 16}}
    section = ModelSection(backbone="test_resnet", stride=16, freeze_stride=64, head=head, heads=heads, projection_width=8)
    return Forward(Classifier(section, num_classes=10, img_size=32), PREPROCESSING, device=CPU)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def cached(
    request: pytest.FixtureRequest, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeatureCache]:
    forward = make_forward()
    with FeatureStore(tmp_path_factory.mktemp("cache"), feature_card(forward, stride=16, kept=request.param)) as store:
        cache = FeatureCache(store)
        compute(cache, forward, {manifest.split("train"): VIEWS, manifest.split("val"): ("plain",)})
        yield cache


def compute(cache: FeatureCache, forward: Forward, views: dict[Split, tuple[str, ...]]) -> int:
    done: list[int] = []
    with cache.store.writing():
        cache.compute(cache.missing(views), forward, batch_size=5, progress=done.append)
    return sum(done)


def test_fewer_large_views_go_through_the_backbone_at_a_time(manifest: Manifest, tmp_path: Path) -> None:
    forward = Forward(make_forward().classifier, Preprocessing(1280, mean=(0.5,) * 3, std=(0.5,) * 3), device=CPU)
    done: list[int] = []
    with FeatureStore(tmp_path / "cache", feature_card(forward, stride=16, kept="fp16")) as store:
        cache = FeatureCache(store)
        with store.writing():
            cache.compute(cache.missing({manifest.split("val"): ("plain",)})[:4], forward, progress=done.append)
    assert done == [3, 1]


def assert_close(cache: FeatureCache, actual: Tensor, expected: Tensor) -> None:
    tolerance = 1e-6 if cache.store.card.kept == "fp32" else 1e-3
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("view", VIEWS)
def test_scores_are_those_of_the_images_in_the_same_views(cached: FeatureCache, manifest: Manifest, view: str) -> None:
    forward, split = make_forward(), manifest.split("train")
    contents = cached.contents(split)
    for maps, targets, indices in cached.loader(split, batch_size=7, views=(view,)):
        images = torch.stack([kept_view(read_image(split.path(i)), view, 32, content=contents[i]) for i in indices.tolist()])
        uncached, output = forward(images, need_attention=True), forward(maps, need_attention=True)
        for name in ("logits", "label_features", "image_features", "attention"):
            assert_close(cached, getattr(output, name), getattr(uncached, name))
        assert torch.equal(targets, torch.from_numpy(split.all_targets())[indices])


def test_the_plain_view_is_what_is_evaluated(cached: FeatureCache, manifest: Manifest) -> None:
    forward, split = make_forward(), manifest.split("val")
    uncached = [forward(images).logits for images, *_ in make_loader(split, PREPROCESSING.resize, batch_size=5, workers=0)]
    loader = cached.loader(split, batch_size=5, limit=9)
    assert len(loader) == 2
    logits = torch.cat([forward(maps).logits for maps, *_ in loader])
    assert_close(cached, logits, torch.cat(uncached)[:9])


def test_maps_are_those_of_the_backbone_to_the_bit_in_fp32(cached: FeatureCache, manifest: Manifest) -> None:
    split = manifest.split("val")
    maps, _, _ = next(iter(cached.loader(split, batch_size=5)))
    images, _, _ = next(iter(make_loader(split, PREPROCESSING.resize, batch_size=5, workers=0)))
    expected = make_forward().frozen_features(images)
    assert all(a.stride()[1] == b.stride()[1] == 1 for a, b in zip(maps, expected, strict=True))  # channels last
    if cached.store.card.kept == "fp32":
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    else:
        assert all(torch.equal(a, b.half()) for a, b in zip(maps, expected, strict=True))


def test_heads_that_read_several_maps(tmp_path: Path, manifest: Manifest) -> None:
    forward, split = make_forward("mulcon"), manifest.split("val")
    with FeatureStore(tmp_path, feature_card(forward, stride=16, kept="fp32")) as store:
        cache = FeatureCache(store)
        compute(cache, forward, {split: ("plain",)})
        assert len(store.card.shapes) == len(forward.classifier.head.LEVELS)
        maps, _, _ = next(iter(cache.loader(split, batch_size=12)))
        images, _, _ = next(iter(make_loader(split, PREPROCESSING.resize, batch_size=12, workers=0)))
        torch.testing.assert_close(forward(maps).logits, forward(images).logits, rtol=1e-5, atol=1e-6)


def test_only_images_that_are_new_are_computed(tmp_path: Path, manifest: Manifest) -> None:
    forward, train, val = make_forward(), manifest.split("train"), manifest.split("val")
    with FeatureStore(tmp_path, feature_card(forward, stride=16, kept="fp16")) as store:
        cache = FeatureCache(store)
        assert compute(cache, forward, {train: ("plain",)}) == 24
        assert compute(cache, forward, {train: ("plain",), val: ("plain",)}) == 12
        assert compute(cache, forward, {train: ("plain", "mirror"), val: ("plain",)}) == 24
        assert compute(cache, forward, {train: ("plain", "mirror"), val: ("plain",)}) == 0
        assert cache.count({train: ("plain", "mirror"), val: ("plain",)}) == len(store) == 60
        with pytest.raises(KeyError, match="12 maps of val"):
            cache.loader(val, batch_size=4, views=("plain", "mirror"))


def test_what_is_computed_before_an_interruption_is_kept(tmp_path: Path, manifest: Manifest) -> None:
    forward, train = make_forward(), manifest.split("train")
    with FeatureStore(tmp_path, feature_card(forward, stride=16, kept="fp16")) as store:
        cache = FeatureCache(store)

        def interrupt(count: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), store.writing():
            cache.compute(cache.missing({train: ("plain",)}), forward, batch_size=10, progress=interrupt)
        assert compute(cache, forward, {train: ("plain",)}) == 14


def batches(cache: FeatureCache, split: Split, epoch: int, skip: int = 0, **options: object) -> list[tuple[Tensor, list[int]]]:
    settings = {"batch_size": 7, "views": VIEWS, "shuffle_seed": 3, **options}
    loader = cache.loader(split, **settings)  # type: ignore[arg-type]
    return [(maps[-1], indices.tolist()) for maps, _, indices in loader.epoch(epoch, skip=skip)]


def test_views_of_an_epoch_depend_on_seed_and_epoch_alone(cached: FeatureCache, manifest: Manifest) -> None:
    split = manifest.split("train")
    whole, rest, other = (batches(cached, split, epoch, skip) for epoch, skip in ((2, 0), (2, 2), (1, 0)))
    assert all(torch.equal(a, b) and i == j for (a, i), (b, j) in zip(whole[2:], rest, strict=True))
    assert sorted(index for _, indices in whole for index in indices) == list(range(24))
    assert [indices for _, indices in other] != [indices for _, indices in whole]
    rows = cached.rows(split, VIEWS)
    drawn = {
        next(v for v in range(4) if torch.equal(features.reshape(-1), plain(cached, rows[index, v])))
        for maps, indices in whole
        for features, index in zip(maps.permute(0, 2, 3, 1), indices, strict=True)
    }
    assert drawn == {0, 1, 2, 3}


def plain(cache: FeatureCache, row: int) -> Tensor:
    return torch.from_numpy(cache.store.read(np.array([row]))[0])


def test_two_views_of_an_image_differ(cached: FeatureCache, manifest: Manifest) -> None:
    split = manifest.split("train")
    for maps, _ in batches(cached, split, 1, views=VIEWS[:2], per_image=2):
        assert maps.shape[1] == 2
        assert all(not torch.equal(first, second) for first, second in maps)
    for maps, _ in batches(cached, split, 1, views=VIEWS[:1], per_image=2):  # of an image that is not augmented
        assert all(torch.equal(first, second) for first, second in maps)


def test_two_processes_share_a_batch(cached: FeatureCache, manifest: Manifest) -> None:
    split = manifest.split("train")
    whole = batches(cached, split, 1, batch_size=8)
    shares = [batches(cached, split, 1, batch_size=8, process=(rank, 2)) for rank in range(2)]
    for (maps, indices), *parts in zip(whole, *shares, strict=True):
        assert torch.equal(maps, torch.cat([part for part, _ in parts]))
        assert indices == [index for _, part in parts for index in part]


def test_rare_images_are_drawn_more_often(cached: FeatureCache, manifest: Manifest) -> None:
    weights = np.zeros(24)
    weights[5] = 1.0
    assert {index for _, indices in batches(cached, manifest.split("train"), 1, weights=weights) for index in indices} == {5}


def test_a_view_depends_on_the_image_and_its_name_alone() -> None:
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = kept_view(image, "crop-1", 32, content=b"x")
    state = torch.get_rng_state()
    again = kept_view(image, "crop-1", 32, content=b"x")
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())
    for name, content in (("crop-2", b"x"), ("crop-1", b"y"), ("plain", b"x")):
        assert not torch.equal(first, kept_view(image, name, 32, content=content))
    assert torch.equal(kept_view(image, "mirror", 32, content=b""), kept_view(image, "plain", 32, content=b"").flip(-1))
    assert torch.equal(kept_view(image, "plain", 32, content=b""), PREPROCESSING.resize(image))
    assert kept_view(torch.zeros(3, 1, 1, dtype=torch.uint8), "crop-1", 32, content=b"").shape == (3, 32, 32)


def test_the_key_depends_on_the_weights_and_not_on_their_layout() -> None:
    backbone = deepcopy(make_forward().classifier.backbone)
    before = hash_of_weights(backbone)
    backbone.set_memory_format(torch.contiguous_format)
    assert hash_of_weights(backbone) == before
    with torch.no_grad():
        next(backbone.parameters()).view(-1)[0] += 1e-3
    assert hash_of_weights(backbone) != before


@pytest.mark.parametrize(("factor", "match"), [(1e7, "features.precision=fp32"), (float("nan"), "other weights")])
def test_numbers_that_cannot_be_kept_are_refused(tmp_path: Path, manifest: Manifest, factor: float, match: str) -> None:
    forward, split = deepcopy(make_forward()), manifest.split("val")
    card = feature_card(forward, stride=16, kept="fp16")
    weights = forward.classifier.backbone.state_dict()
    with torch.no_grad():
        next(tensor for name, tensor in reversed(weights.items()) if name.endswith("weight")).mul_(factor)
    with FeatureStore(tmp_path, card) as store, store.writing():
        features = FeatureCache(store)
        with pytest.raises(NotFiniteError, match=match):
            features.compute(features.missing({split: ("plain",)}), forward)


def test_shards_are_refused(tmp_path: Path, drawn_coco: Path) -> None:
    prepare("coco", data=drawn_coco, output=tmp_path / "p", shards=tmp_path / "shards")
    split, card = load_manifest(tmp_path / "shards").split("train"), feature_card(make_forward(), stride=16, kept="fp16")
    with FeatureStore(tmp_path / "cache", card) as store, pytest.raises(UsageError, match="Leave --frozen out"):
        FeatureCache(store).contents(split)
