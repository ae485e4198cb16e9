"""Checks of the data and of their labels."""

from __future__ import annotations

import numpy as np

from sadcl_core.data.prepare.command import prepare_again
from sadcl_core.data.prepare.reading_options import DIVISION, join_names
from sadcl_core.data.split import spaced
from sadcl_core.data.twins import find_twins
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.findings import Finding, NotCheckedError, Severity, found, listed, passed
from sadcl_core.training.overlap import earlier_models, find_overlap
from sadcl_core.training.setup import used_part

FEW = 10  # positives of a class in the training split
LEAK_SERIOUS = 0.01  # share of the held-out images that were trained on
SAMPLE = 200  # held-out files whose content is compared
TRAINED = 20_000  # training files whose size is looked at
HASHED = 2_000  # files that are read at most


def same_images(evidence: Evidence) -> Finding:
    """Check that no held-out image was trained on: by all paths, and by the content of a sample of files."""
    train, held_out = evidence.need("train", evidence.train), evidence.need("held_out", evidence.held_out)
    trained = set(train)
    both = [image for image in held_out if image in trained]
    compared, twins = 0, list[tuple[str, str]]()
    if train.manifest.description.shards is None:
        root = train.manifest.description.root
        sample = spaced([image for image in held_out if image not in trained], SAMPLE)
        rivals = [root / image for image in spaced(list(train), TRAINED)]
        compared, pairs = find_twins([root / image for image in sample], rivals, most=HASHED)
        twins = [(image.relative_to(root).as_posix(), twin.relative_to(root).as_posix()) for image, twin in pairs]
    example = (both[0], both[0]) if both else twins[0] if twins else None
    numbers = {"images": len(held_out), "same_path": len(both), "compared": compared, "same_content": len(twins)}
    if example is None:
        by_content = f"; of {compared:,} others compared by content none" if compared else ", contents were not compared"
        message = f"none of the {len(held_out):,} images of split {held_out.name} is listed in {train.name}{by_content}"
        return passed(message, **numbers, example=None)
    share = max(len(both) / max(len(held_out), 1), len(twins) / max(compared, 1))
    twin = "" if example[0] == example[1] else f", whose twin is {example[1]}"
    return found(
        "serious" if share > LEAK_SERIOUS else "doubtful",
        f"{len(both):,} of the {len(held_out):,} images of split {held_out.name} are listed in {train.name} as well, and of "
        f"{compared:,} others compared by content {len(twins):,} are: the mAP says little of new images. The first is "
        f"{example[0]}{twin}.",
        f"Divide the data again, with duplicates on one side: {prepare_again(train.manifest, split=DIVISION)}, and train again",
        **numbers,
        example=example,
    )


def images_of_init(evidence: Evidence) -> Finding:
    """Check that no held-out image was trained on by a model that the run started or learned from: by content, all of them."""
    config, held_out = evidence.need("config", evidence.config), evidence.need("held_out", evidence.held_out)
    if not earlier_models(config):
        return passed("the run started from no trained model and had no teachers")
    overlap = find_overlap(config, held_out)
    numbers = {"images": len(held_out), "compared": overlap.compared, "same_content": len(overlap.twins)}
    if not overlap.compared:
        models = ", ".join((*overlap.unknown, *overlap.models)) or ", ".join(earlier_models(config))
        raise NotCheckedError(f"the images that {models} was trained on are not on this disk")
    if not overlap.twins:
        models = ", ".join(overlap.models)
        return passed(f"none of {overlap.compared:,} held-out images is a file that {models} was trained on", **numbers)
    image, twin = overlap.twins[0]
    return found(
        "serious" if len(overlap.twins) > LEAK_SERIOUS * len(held_out) else "doubtful",
        f"{len(overlap.twins):,} of the {len(held_out):,} images of split {held_out.name} were trained on by "
        f"{', '.join(overlap.models)}, from which the run started or learned: the mAP says little of new images. The first is "
        f"{image}, which is {twin}.",
        "Divide the data so that these images are in the training split, and train again.",
        **numbers,
    )


def label_names(evidence: Evidence) -> Finding:
    """Check that the data have the classes of the model, in the same order."""
    ours, manifest = evidence.need("card", evidence.card).classes, evidence.need("manifest", evidence.manifest)
    theirs = manifest.classes
    if ours == theirs:
        return passed(f"the data and the model have the same {len(ours)} classes in the same order")
    missing, unknown = [name for name in ours if name not in theirs], [name for name in theirs if name not in ours]
    action = f"Number them as the model does: {prepare_again(manifest, classes=join_names(ours))}"
    if missing:
        action = "Train again on the data as they are"
    if unknown:
        command = prepare_again(manifest, drop=[*manifest.description.options.get("drop", ()), *unknown])
        action = f"Leave out what the model does not know: {command}"
    if missing or unknown:
        parts = [f"the model does not know {listed(unknown)}"] if unknown else []
        parts += [f"the data lack {listed(missing)}"] if missing else []
        message = f"The data have {len(theirs)} classes and the model {len(ours)}: {'; '.join(parts)}."
        return found("serious" if unknown else "doubtful", message, action, unknown_to_model=unknown, not_in_data=missing)
    first = next(k for k in range(len(ours)) if ours[k] != theirs[k])
    message = (
        f"The data number the classes in another order than the model: number {first} is {theirs[first]!r} there and "
        f"{ours[first]!r} here. sadcl goes by the names; programs that go by the numbers mix them up."
    )
    return found("doubtful", message, action, first=first)


def few_positives(evidence: Evidence) -> Finding:
    """Check that no class has too few training images."""
    split = evidence.need("train", evidence.train)
    counts, classes = split.class_counts(), split.manifest.classes
    none = [classes[k] for k in np.flatnonzero(counts == 0)]
    few = [f"{classes[k]} ({counts[k]})" for k in np.flatnonzero((counts > 0) & (counts < FEW))]
    numbers = {"without": none, "few": few, "classes": len(classes)}
    if not none and not few:
        return passed(f"every class has {int(counts.min()):,} training images or more", **numbers)
    parts = [f"{len(none)} of {len(classes)} classes have no training image: {listed(none)}"] if none else []
    parts += [f"{len(few)} of {len(classes)} have fewer than {FEW}: {listed(few)}"] if few else []
    command = prepare_again(split.manifest, min_positives=FEW)
    action = f"Add images of these classes, or leave the classes out: {command}, and train again"
    severity: Severity = "doubtful" if none or len(few) > len(classes) / 2 else "minor"
    return found(severity, f"{'; '.join(parts)}.", action, **numbers)


def data_changed(evidence: Evidence) -> Finding:
    """Check that the prepared data are the same as in the training."""
    state, manifest = evidence.need("state", evidence.state), evidence.need("manifest", evidence.manifest)
    if not state.fingerprint:
        return passed("the run does not say which data it had")
    part = manifest if evidence.config is None else used_part(manifest, evidence.config)  # what older runs kept
    if state.fingerprint in (manifest.fingerprint(), part.fingerprint()):
        return passed("the data are those that were trained on")
    message = f"Images, splits or labels of {manifest.description.name} were prepared again since the training and have changed."
    return found("minor", message, "Train again on the data as they are, if numbers are to be compared")
