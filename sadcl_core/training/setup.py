"""Prepare a run before its first step: complete and check its configuration, describe its model, hash its files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from sadcl_core import __version__
from sadcl_core.config.automatic import Facts
from sadcl_core.config.layers import Layer, resolve_config
from sadcl_core.config.schema import FeatureSection, ModelSection, RunConfig, Section, StageSection
from sadcl_core.data.class_names import vectors_file
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.checks import require_inactive
from sadcl_core.data.prepare.shape import hide_labels, take_part
from sadcl_core.data.statistics import median_short_side
from sadcl_core.data.transforms import kept_views
from sadcl_core.errors import DataError, UsageError
from sadcl_core.model.classifier import Classifier, head_options
from sadcl_core.model.weights import weights_source
from sadcl_core.registry import AUGMENTATIONS, HEADS, resolve, suggest
from sadcl_core.runs.card import FirstWeights, ModelCard
from sadcl_core.runs.hub import repository_of
from sadcl_core.runs.run_directory import find_model
from sadcl_core.runtime.device import choose_device
from sadcl_core.runtime.files import from_home
from sadcl_core.runtime.words import counted
from sadcl_core.training.class_prior import card_of_first_model
from sadcl_core.training.teachers import check_teachers
from sadcl_core.training.terms import TERMS

PART_SEED = 1  # of the images that `data.limit` takes


def complete_config(config: RunConfig, manifest: Manifest) -> RunConfig:
    """Return the configuration with what depends on the data: their folder, the held-out split, every option of the head.

    Paths become absolute.

    Raises:
        UsageError: a split that was named is not there, or both are the same.
        DataError: there is nothing to hold out, or nothing can be measured on it.
    """
    data, splits = config.data, manifest.splits
    name = manifest.description.name
    held_out = data.eval_split or next((split for split in ("val", "test") if split in splits), "")
    if not held_out:
        raise DataError(
            f"{name} has no split val or test to hold out, only {', '.join(splits)}. Divide it: sadcl prepare-data ... --split "
            "0.8,0.1,0.1, or name one: --set data.eval_split=NAME."
        )
    for key, split in (("data.train_split", data.train_split), ("data.eval_split", held_out)):
        if split not in splits:
            raise UsageError(f"{key}={split}: {name} has no such split. {suggest(split, splits)}")
    if held_out == data.train_split:
        raise UsageError(f"data.train_split and data.eval_split are both {held_out}: hold other images out than are trained on.")
    if not manifest.split(held_out).class_counts().any():
        raise DataError(
            f"Split {held_out} of {name} has no active label, so no mAP can be measured on it. Check its annotations."
        )
    require_inactive(manifest.split(held_out))
    folder = str((manifest.folder or Path()).resolve())
    model = config.model
    options = head_options(model.head, model.heads.get(model.head, {}))
    features = config.features
    if features.cache:
        features = features.model_copy(update={"cache": str(from_home(features.cache).resolve())})
    selective, distillation = config.loss.selective, config.loss.distillation
    loss = {
        "selective": selective.model_copy(update={"prior_model": _absolute(selective.prior_model)}),
        "distillation": distillation.model_copy(update={"teachers": [_absolute(name) for name in distillation.teachers]}),
    }
    return config.model_copy(
        update={
            "loss": config.loss.model_copy(update=loss),
            "data": data.model_copy(update={"dataset": name, "manifest": folder, "eval_split": held_out}),
            "features": features,
            "model": model.model_copy(update={"heads": {model.head: options.model_dump()}}),
        }
    )


def _absolute(model: str) -> str:
    """Return the path of a model as an absolute one; an empty text and an address on the hub as they are."""
    return model if not model or repository_of(model) else str(from_home(model).resolve())


def check_stages(config: RunConfig) -> None:
    """Refuse stages that cannot be trained.

    Raises:
        UsageError: no stage is trained, one names an unknown loss or augmentation, or a linear layer has random features alone.

    Example:
        >>> check_stages(RunConfig())
    """
    linear = config.optim.solve_linear
    if linear:
        _check_linear(config)
    if not any(stage.epochs for stage in config.stages.values()) and not linear:
        raise UsageError("No stage has an epoch to train. Give --epochs 1 or more.")
    if not config.used_stages and not linear:
        raise UsageError(
            "No stage that has epochs has a loss. Give --epochs N,N, or set stages.classification.losses.asymmetric=1."
        )
    head = config.model.head
    options = head_options(head, config.model.heads.get(head, {}))
    if getattr(options, "norm", "") == "batch" and config.data.batch_size == 1 and config.used_stages:
        raise UsageError(
            f"The head {head} normalises over the images of a batch, and data.batch_size is 1. Give a larger one, or "
            f"--set model.heads.{head}.norm=layer."
        )
    for name, stage in config.stages.items():
        for loss in stage.weights if stage.epochs else ():
            _check_loss(name, loss, config.model, options)
        _check_second_look(name, stage, config)
        _check_added(name, stage, config)
        if stage.known_share:
            _check_known(name, stage, head)
        if config.features.once and stage.epochs:
            _check_once(name, stage, config.features)
        if stage.augment not in AUGMENTATIONS:
            raise UsageError(f"Stage {name}: there is no augmentation {stage.augment!r}. {suggest(stage.augment, AUGMENTATIONS)}")


def _check_linear(config: RunConfig) -> None:
    """Raise a UsageError if a linear layer is to be fitted and the network has none, or would have random features alone."""
    model = config.model
    if model.global_branch == "none" and model.head != "pooled":
        raise UsageError(
            f"optim.solve_linear fits a linear layer, and the head {model.head} has none. Give it one beside it: "
            "--set model.global_branch=mean."
        )
    if model.pretrained is False and not model.init_from and not config.used_stages:
        raise UsageError(
            "A linear layer on a backbone that nobody trained says nothing about images. Give it weights: --pretrained hub, "
            "--pretrained FILE, or --init-from RUN."
        )


def _check_loss(name: str, loss: str, model: ModelSection, options: Section) -> None:
    """Raise a UsageError if a loss of a stage is unknown, or reads measures that the head does not give."""
    if loss not in TERMS:
        raise UsageError(f"Stage {name}: there is no loss {loss!r}. {suggest(loss, TERMS)}")
    head, kind = model.head, resolve(HEADS, model.head, kind="head")
    if loss == "auxiliary" and not (any(kind.AUXILIARY.values()) or model.second_look):
        raise UsageError(f"Stage {name}: the head {head} has no branches for the loss auxiliary. Leave it out.")
    if loss == "sample_to_sample" and kind.SHARED_FEATURES:
        raise UsageError(
            f"Stage {name}: the loss sample_to_sample tells the labels of an image apart, and the head {head} has one feature "
            "for all of them. Take the loss image_to_image, which compares images."
        )
    if TERMS[loss].measures - kind.measured(options):
        raise UsageError(f"Stage {name}: the head {head} with its options has nothing for the loss {loss}. Leave it out.")


def _check_added(name: str, stage: StageSection, config: RunConfig) -> None:
    """Raise a UsageError if the losses or the bank of a stage cannot use its spliced images or pseudo labels, or lack them."""
    if "splice_consistency" in stage.weights and stage.mix != "splice":
        raise UsageError(
            f"Stage {name}: the loss splice_consistency compares spliced images. Add --set stages.{name}.mix=splice."
        )
    if stage.mix == "splice" and config.loss.sample_to_sample.bank == "batch" and config.bank_slots(stage):
        raise UsageError(
            f"Stage {name}: the bank has a slot for each image of a batch and none for spliced ones. Set "
            f"stages.{name}.mix=none, or loss.sample_to_sample.bank=ring."
        )
    unsure = [loss for loss in stage.weights if not TERMS[loss].probabilities]
    if config.optim.pseudo_labels and stage.epochs and unsure:
        raise UsageError(
            f"Stage {name}: optim.pseudo_labels takes scores for probabilities, and those of the loss {unsure[0]} are none. Set "
            "optim.pseudo_labels=0, or take the loss asymmetric."
        )


def _check_known(name: str, stage: StageSection, head: str) -> None:
    """Raise a UsageError if the head of a stage that reveals labels does not take them, or a loss mistakes them for unknown."""
    if not resolve(HEADS, head, kind="head").TAKES_KNOWN:
        raise UsageError(
            f"Stage {name}: the head {head} cannot use labels that are known. Set known_share to 0, or take --method c-tran."
        )
    for loss in stage.weights:
        if TERMS[loss].uses_unknown:
            raise UsageError(
                f"Stage {name}: the loss {loss} would learn the labels that known_share reveals as it learns unknown ones. Set "
                f"stages.{name}.known_share=0, or take another loss."
            )


def _check_second_look(name: str, stage: StageSection, config: RunConfig) -> None:
    """Raise a UsageError if a stage cannot look at regions of its images again, or learns nothing from them."""
    if not (config.model.second_look and stage.weights):
        return
    if config.features.once:
        raise UsageError(
            "model.second_look cuts regions out of images, which a run on features does not see. Leave one of both out."
        )
    if "auxiliary" not in stage.weights:
        raise UsageError(
            f"Stage {name}: what model.second_look sees is learned by the loss auxiliary. Give it a weight: "
            f"--set stages.{name}.losses.auxiliary=1."
        )


def _check_once(name: str, stage: StageSection, features: FeatureSection) -> None:
    """Raise a UsageError if features that are computed once cannot serve a stage."""
    if "distillation" in stage.weights:
        raise UsageError(
            f"Stage {name}: the teachers of the loss distillation look at images, which a run on features does not see. Leave "
            "one of both out."
        )
    if stage.mixup or stage.cutmix or stage.mix != "none":
        raise UsageError(
            f"Stage {name}: mixup, cutmix and mix=splice mix pixels, which a run on features does not see. Leave them out."
        )
    kept = len(kept_views(stage.augment, features.views))
    if 1 < kept < stage.views or (kept == features.views == 1 < stage.views):
        raise UsageError(
            f"Stage {name} sees {stage.views} views of each image at once, and features.views={features.views} are kept. Keep "
            f"more: --set features.views={stage.views}."
        )


def limited(manifest: Manifest, limit: int) -> Manifest:
    """Return `limit` images, in which every class keeps its share, or all for 0; they are the same ones whatever a run's seed is.

    Raises:
        UsageError: the images are in shards, and no part of those can be taken.
    """
    if limit and manifest.description.shards is not None:
        raise UsageError(
            f"--limit takes a part of images that are files, and those of {manifest.description.name} are in shards."
        )
    return take_part(manifest, limit, seed=PART_SEED) if limit else manifest


def used_part(manifest: Manifest, config: RunConfig) -> Manifest:
    """Return the images and labels that a run uses: all that `data.limit` and `data.hide_labels` leave.

    Raises:
        UsageError: the images are in shards, and no part of those can be taken.
    """
    data = config.data
    manifest = limited(manifest, data.limit)
    if not data.hide_labels and not data.single_positive:
        return manifest
    if manifest.description.shards is not None:
        raise UsageError(f"Labels are hidden of images that are files, and those of {manifest.description.name} are in shards.")
    return hide_labels(
        manifest,
        data.train_split,
        share=data.hide_labels,
        single_positive=data.single_positive,
        become=data.hidden_labels,
        seed=config.seed,
    )


def check_labels(config: RunConfig, manifest: Manifest) -> None:
    """Refuse training labels without an inactive one, unless every stage has a loss that uses unknown labels.

    Also refuse a first model or teachers that do not know the classes.

    Raises:
        UsageError: inactive labels are hidden, and a stage has no such loss; see also `check_teachers`.
        DataError: all labels are active or unknown, and a stage has no such loss.
    """
    if config.loss.selective.prior_model:
        card_of_first_model(config.loss.selective.prior_model, manifest.classes)
    check_teachers(config, manifest.classes)
    held_out = manifest.split(config.data.eval_split)
    if config.data.limit and not (held_out.class_counts().any() and held_out.inactive_counts().any()):
        raise DataError(
            f"Of the images that --limit {config.data.limit:,} takes, those of split {held_out.name} "
            f"({counted(len(held_out), 'image')}) have no active or no inactive label, so no mAP can be measured. Take more."
        )
    if learns_from_unknown(config):
        return
    split, data = manifest.split(config.data.train_split), config.data
    if (data.single_positive or data.hide_labels) and not split.inactive_counts().any():
        users = ", ".join(name for name, term in TERMS.items() if term.uses_unknown)
        raise UsageError(
            "Every inactive training label is hidden, so nothing can be learned. Give every stage a loss that uses unknown ones "
            f"({users}), or let hidden ones count as inactive: --set data.hidden_labels=inactive."
        )
    require_inactive(split)


def learns_from_unknown(config: RunConfig) -> bool:
    """Return True if every stage has a loss that uses unknown labels."""
    return all(any(TERMS[name].uses_unknown for name in config.stages[stage].weights) for stage in config.used_stages)


def one_sided_classes(manifest: Manifest, split: str) -> tuple[str, ...]:
    """Return the classes that are active in a split, and in no image of it known to be inactive.

    Example:
        >>> from sadcl_core.data.manifest import Description
        >>> from sadcl_core.data.rows import Record
        >>> records = [Record("a.jpg", "val", (0, 1)), Record("b.jpg", "val", (1,))]
        >>> one_sided_classes(Manifest.from_records(Description("pets", Path("photos"), ("cat", "dog")), records), "val")
        ('dog',)
    """
    images = manifest.split(split)
    one_sided = (images.class_counts() > 0) & (images.inactive_counts() == 0)
    return tuple(name for name, found in zip(manifest.classes, one_sided, strict=True) if found)


def gives_probabilities(config: RunConfig, stage: StageSection) -> bool:
    """Return True if the losses of a stage make scores probabilities; weights of classes and focusing shift them.

    Example:
        >>> gives_probabilities(RunConfig(), StageSection()), gives_probabilities(RunConfig(), StageSection(gamma_neg=4))
        (True, False)
    """
    if any(not TERMS[name].probabilities for name in stage.weights):
        return False
    options = config.loss_of(stage).asymmetric
    focused = "asymmetric" in stage.weights and bool(options.gamma_neg or options.gamma_pos or options.clip)
    return options.class_weights == "none" and not focused


def make_card(config: RunConfig, classifier: Classifier, manifest: Manifest) -> ModelCard:
    """Return the description that every model file of the run carries."""
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    pretrained = plain if config.data.normalise == "none" else classifier.backbone.pretrained_config
    return ModelCard(
        classes=manifest.classes,
        superclasses=manifest.description.superclasses,
        img_size=config.data.img_size,
        mean=pretrained.get("mean", (0.485, 0.456, 0.406)),
        std=pretrained.get("std", (0.229, 0.224, 0.225)),
        model=config.model.model_copy(
            update={"pretrained": False, "init_from": "", "init_classes": "", "class_map": "", "word_vectors": "random"}
        ),
        first_weights=_first_weights(config.model, classifier),
        trained={
            "dataset": config.data.dataset,
            "img_size": config.data.img_size,
            "method": config.method,
            "sadcl": __version__,
            "seed": config.seed,
        },
    )


def _first_weights(config: ModelSection, classifier: Classifier) -> FirstWeights:
    """Return what the weights were before training."""
    if config.init_from:
        return FirstWeights(source=Path(config.init_from).name)
    source = weights_source(classifier.backbone, config.pretrained)
    if not (source.hub or source.file):
        return FirstWeights(source="none", licence="none: random weights")
    return FirstWeights(source=source.hub or Path(source.file).name, licence=source.licence or "unknown")


def file_fingerprints(config: RunConfig) -> dict[str, str]:
    """Return a SHA-256 of each file that weights, classes or scores come from, by the setting that names it.

    Raises:
        DataError: a file is not there.

    Example:
        >>> file_fingerprints(RunConfig())
        {}
    """
    model, loss = config.model, config.loss
    files: dict[str, str | Path | None] = {
        "pretrained": model.pretrained if isinstance(model.pretrained, str) else "",
        "class_map": model.class_map,
        "word_vectors": vectors_file(model.word_vectors),
    }
    models = {
        "init_from": model.init_from,
        "prior_model": loss.selective.prior_model,
        **{f"teacher {number}": teacher for number, teacher in enumerate(loss.distillation.teachers, start=1)},
    }
    paths = {name: Path(value) for name, value in files.items() if value}
    paths |= {name: find_model(Path(value))[0] for name, value in models.items() if value}
    hashes = {}
    for name, path in paths.items():
        try:
            state = path.stat()
            hashes[name] = hash_file(path, state.st_mtime_ns, state.st_size)
        except OSError as error:
            setting = f"model.{name}=" if name in ModelSection.model_fields else f"The {name.replace('_', ' ')} "
            raise DataError(f"{setting}{path} cannot be read ({error.strerror}). Check the path.") from None
    return hashes


def refuse_other_models(config: RunConfig, before: Mapping[str, str]) -> None:
    """Refuse to go on with a run whose first model or teachers have other weights than before, as `file_fingerprints` has them.

    Raises:
        DataError: one is missing, or has changed.
    """
    read = config.model_copy(update={"model": ModelSection()})  # the network's own files are in the state
    for name, digest in file_fingerprints(read).items():
        if before.get(name, digest) != digest:
            raise DataError(
                f"The run's {name.replace('_', ' ')} has other weights than when the run was started, so it cannot go on as it "
                "was. Put them back, or start another run with --init-from."
            )


@lru_cache
def hash_file(path: Path, modified: int, size: int) -> str:
    """Return the SHA-256 of a file, read once for all runs of a comparison as long as it is not modified."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_facts(manifest: Manifest, layers: Sequence[tuple[str, Layer]]) -> Facts:
    """Return the facts that settings depend on: counts and sizes of the training split, and the kind of device."""
    config = resolve_config(layers)[0]
    name = config.data.train_split
    if name not in manifest.splits:  # `complete_config` says so
        return Facts(0, classes=len(manifest.classes))
    split = used_part(manifest, config).split(name)
    device = choose_device("auto").type if config.device == "auto" else config.device.partition(":")[0]
    return Facts(images=len(split), classes=len(manifest.classes), short_side=median_short_side(split), device=device)
