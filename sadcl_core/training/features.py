"""Compute the features of a frozen backbone for the images of a run, where they are missing, before its first step."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import PLAIN, kept_views
from sadcl_core.inference.feature_cache import FeatureCache, cache_folder, feature_card
from sadcl_core.inference.feature_store import FeatureStore
from sadcl_core.inference.forward import Forward
from sadcl_core.model.classifier import Classifier
from sadcl_core.runtime.distributed import barrier, broadcast
from sadcl_core.training.listeners import events
from sadcl_core.training.setup import make_card
from sadcl_core.training.time_budget import RECIPES

FEATURES_SHARE = 0.5  # of a time budget, at most, for features
TIMED_IMAGES = 96  # whose features are computed to know the time of a view

Views = Mapping[Split, tuple[str, ...]]


@contextmanager
def open_features(
    config: RunConfig,
    sources: Mapping[str, str],
    classifier: Classifier,
    manifest: Manifest,
    *,
    device: torch.device,
    precision: str,
    started: float,
    listen: events.Listener,
) -> Iterator[tuple[FeatureCache | None, RunConfig]]:
    """Yield the features of a run, all of them computed, and keep them from being removed in the block; None if none are frozen.

    The configuration comes with them: a time budget, counted from `started` on as by time.perf_counter, decides on its number of
    views unless the user does. The classifier, with the weights of its backbone, is moved to the device. Of
    several processes the first of each machine computes; the others wait.

    Raises:
        UsageError: the features do not fit under the limit, or the folder cannot be written to.
        DataError: an image cannot be read.
        MachineError: the disk is full.
        NotFiniteError: features are not finite.
        KeyboardInterrupt: what was computed is kept.
    """
    if not config.features.once:
        yield None, config
        return
    if config.model.pretrained is False and not config.model.init_from:
        listen(events.Problem("The backbone has random weights and will keep them. Give it trained ones with --pretrained."))
    preprocessing = make_card(config, classifier, manifest).preprocessing
    forward = Forward(classifier.to(device), preprocessing, device=device, precision=precision)
    card = feature_card(forward, stride=min(config.model.stride, config.model.freeze_stride), kept=config.features.precision)
    first, budget = int(os.environ.get("LOCAL_RANK", "0")) == 0, config.optim.time_budget
    with FeatureStore(cache_folder(config.features), card) as store:
        cache = FeatureCache(store)
        if budget and sources.get("features.views", "").startswith(RECIPES):
            left = FEATURES_SHARE * (budget - (time.perf_counter() - started))
            views = _views_within(left, cache, forward, config, manifest, listen) if first else 0
            config = _with_views(config, broadcast(views))
        if first:
            _compute(cache, views_of_run(config, manifest), forward, config, listen)
        barrier()
        store.refresh()
        yield cache, config


def _views_within(
    budget: float, cache: FeatureCache, forward: Forward, config: RunConfig, manifest: Manifest, listen: events.Listener
) -> int:
    """Return how many views of each training image a budget in seconds leaves, one at least.

    Some views that are missing are computed to know the time of one.
    """
    most = config.features.views
    missing = {count: cache.missing(views_of_run(_with_views(config, count), manifest)) for count in range(1, most + 1)}
    timed = missing[1] if len(missing[1]) > TIMED_IMAGES else missing[most]
    seconds = 0.0
    if len(timed) > TIMED_IMAGES:  # few take no time
        ends: list[tuple[float, int]] = []
        with cache.store.writing(lambda: listen(events.FeaturesAwaited(cache.store.folder))):
            cache.compute(
                timed[:TIMED_IMAGES],
                forward,
                workers=config.data.workers,
                progress=lambda rows: ends.append((time.perf_counter(), rows)),
            )
        (start, _), *rest = ends  # the first batch is slower
        seconds = (ends[-1][0] - start) / max(sum(rows for _, rows in rest), 1)
    costs = {count: seconds * sum(len(image.views) for image in images) for count, images in missing.items()}
    choice = max((count for count, cost in costs.items() if cost <= max(budget, 0.0)), default=1)
    listen(events.ViewsPlanned(choice, most, costs[choice], config.optim.time_budget))
    return choice


def _with_views(config: RunConfig, views: int) -> RunConfig:
    return config.model_copy(update={"features": config.features.model_copy(update={"views": views})})


def views_of_run(config: RunConfig, manifest: Manifest) -> Views:
    """Return the views that a run needs: of images to train on those of every stage, of the others the plain one."""
    stages = [config.stages[name] for name in config.used_stages]
    views = dict.fromkeys(view for stage in stages for view in kept_views(stage.augment, config.features.views))
    if config.optim.solve_linear:
        views |= dict.fromkeys(linear_views(config))
    return {manifest.split(config.data.train_split): tuple(views), manifest.split(config.data.eval_split): (PLAIN,)}


def linear_views(config: RunConfig) -> tuple[str, ...]:
    """Return the views of each training image that the linear layer is fitted on: as it is, and one more that is kept."""
    first = next(iter(config.stages.values()))
    return kept_views(first.augment, min(2, config.features.views) if config.features.once else 1)


def _compute(cache: FeatureCache, views: Views, forward: Forward, config: RunConfig, listen: events.Listener) -> None:
    """Report the missing features, make room for them, and compute them."""
    store, start = cache.store, time.perf_counter()
    rows, absent = cache.count(views), sum(len(image.views) for image in cache.missing(views))
    size, new = rows * store.card.row_bytes, absent * store.card.row_bytes
    removed = store.make_room(new, size, limit=round(config.features.limit_gb * 1e9)) if new else ()
    listen(events.FeaturesPlanned(store.folder, sum(map(len, views)), rows, absent, size, new, removed))
    computed = 0
    if absent:
        with store.writing(lambda: listen(events.FeaturesAwaited(store.folder))):
            missing = cache.missing(views)  # fewer, where another process has computed some
            absent = sum(len(image.views) for image in missing)

            def progress(count: int) -> None:
                nonlocal computed
                computed += count
                listen(events.FeaturesProgress(computed, absent))

            cache.compute(missing, forward, workers=config.data.workers, progress=progress)
    listen(events.FeaturesComputed(computed, time.perf_counter() - start))
