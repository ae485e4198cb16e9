"""Checks of the data and of their labels."""

from __future__ import annotations

import numpy as np

from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.verdict import Verdict, found, named, passed, there

FEW = 10  # positives of a class in the training split
LEAK_SERIOUS = 0.01  # share of the held-out images that were trained on


def same_images(evidence: Evidence) -> Verdict:
    """Whether held-out images are among those that were trained on."""
    same = there(evidence.same_images)
    train, held_out = evidence.train_split.name, evidence.held_out.name
    numbers = vars(same)
    by_content = f"; of {same.compared:,} others compared by content none" if same.compared else ", contents were not compared"
    if not same.same_path + same.same_content:
        return passed(f"none of the {same.images:,} images of split {held_out} is listed in {train}{by_content}", **numbers)
    share = max(same.same_path / max(same.images, 1), same.same_content / max(same.compared, 1))
    twin = "" if same.example is None or same.example[0] == same.example[1] else f", whose twin is {same.example[1]}"
    return found(
        "serious" if share > LEAK_SERIOUS else "doubtful",
        f"{same.same_path:,} of the {same.images:,} images of split {held_out} are listed in {train} as well, and of "
        f"{same.compared:,} others compared by content {same.same_content:,} are: the mAP says little of new images. The first "
        f"is {'' if same.example is None else same.example[0]}{twin}.",
        "Divide the data anew, with duplicates on one side: sadcl prepare-data ... --split 0.8,0.1,0.1",
        **numbers,
    )


def label_names(evidence: Evidence) -> Verdict:
    """Whether the data count the same classes in the same order as the model."""
    ours, theirs = there(evidence.card).classes, there(evidence.manifest).classes
    if ours == theirs:
        return passed(f"the data and the model have the same {len(ours)} classes in the same order")
    lacking, strange = [name for name in theirs if name not in ours], [name for name in ours if name not in theirs]
    again = "Prepare the data with the classes of the model: sadcl prepare-data ... --classes FILE"
    if lacking or strange:
        parts = [f"the model does not know {named(lacking)}"] if lacking else []
        parts += [f"the data lack {named(strange)}"] if strange else []
        said = f"The data have {len(theirs)} classes and the model {len(ours)}: {'; '.join(parts)}."
        return found("serious" if lacking else "doubtful", said, again, unknown_to_model=lacking, not_in_data=strange)
    first = next(k for k in range(len(ours)) if ours[k] != theirs[k])
    said = (
        f"The data count the classes in another order than the model: number {first} is {theirs[first]!r} there and "
        f"{ours[first]!r} here. sadcl goes by the names; what goes by the numbers mixes them up."
    )
    return found("doubtful", said, again, first=first)


def few_positives(evidence: Evidence) -> Verdict:
    """Whether classes have too few images to be learned, or none to be measured on."""
    split = evidence.train_split
    counts, classes = split.class_counts(), evidence.train_split.manifest.classes
    none = [classes[k] for k in np.flatnonzero(counts == 0)]
    few = [f"{classes[k]} ({counts[k]})" for k in np.flatnonzero((counts > 0) & (counts < FEW))]
    numbers = {"without": none, "few": few, "classes": len(classes)}
    if not none and not few:
        return passed(f"every class has {int(counts.min()):,} training images or more", **numbers)
    parts = [f"{len(none)} of {len(classes)} classes have no training image: {named(none)}"] if none else []
    parts += [f"{len(few)} of {len(classes)} have fewer than {FEW}: {named(few)}"] if few else []
    said = f"{'; '.join(parts)}."
    action = "Add images of these classes, or leave the classes out: sadcl prepare-data ... --classes FILE"
    return found("doubtful" if none or len(few) > len(classes) / 2 else "minor", said, action, **numbers)


def data_changed(evidence: Evidence) -> Verdict:
    """Whether the prepared data are still those that were trained on."""
    state, manifest = there(evidence.state), there(evidence.manifest)
    if not state.fingerprint:
        return passed("the run does not say which data it had")
    if manifest.fingerprint() == state.fingerprint:
        return passed("the data are those that were trained on")
    said = f"Images, splits or labels of {manifest.description.name} were prepared anew since the training and are others now."
    return found("minor", said, "Train again on the data as they are, if numbers are to be compared")
