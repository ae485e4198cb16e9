"""Evaluate a model or scores from a file: every number that is reported, each under the name of its convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import UsageError
from sadcl_core.evaluation.columns import MEASURES, NUMBERS, PER_CLASS, Measured
from sadcl_core.evaluation.intervals import choose_resamples
from sadcl_core.evaluation.label_errors import write_suspects
from sadcl_core.evaluation.published_rows import find_table, rows_with_ours
from sadcl_core.evaluation.result import Evaluation
from sadcl_core.evaluation.scored_split import Listener, ScoredSplit, score_or_read
from sadcl_core.evaluation.scores_file import check_target, write_scores
from sadcl_core.inference.thresholds import DEFAULT, ThresholdRequest, Thresholds, choose
from sadcl_core.metrics import precision_recall
from sadcl_core.metrics.label_errors import suspected_label_errors
from sadcl_core.metrics.localisation import Localisation
from sadcl_core.runs.card import ModelCard
from sadcl_core.runtime.launcher import is_main_process
from sadcl_core.runtime.progress import Progress, StagedProgress, stage

PAPER_TOPK = 3  # the published tables have "All" and "Top-3"
SUSPECTS = 1000  # rows of the table of suspected label errors


def evaluate(
    run_or_scores: str | Path | None = None,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    labels: str | Path | None = None,
    label_options: Mapping[str, Any] | None = None,
    logits: bool = False,
    by_order: bool = False,
    topk: int = PAPER_TOPK,
    threshold: ThresholdRequest = None,
    uncalibrated: bool = False,
    report: bool = False,
    label_errors: bool = False,
    against: str | Path | None = None,
    bootstrap: int | None = None,
    save_scores: str | Path | None = None,
    img_size: int | None = None,
    tta: str = "none",
    resize: int = 0,
    known_share: float = 0.0,
    batch_size: int = 32,
    limit: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    output: str | Path | None = None,
    listen: Listener | None = None,
    progress: StagedProgress | None = None,
) -> Evaluation:
    """Compute every number of a model on held-out images, or of scores from a file, and write them as JSON and CSV.

    Of several processes each scores its share of the images and returns the same result; the first one writes the files.

    Args:
        run_or_scores: a run, a model file, None for the run that finished last; or a file of scores of any program (`.npy`,
            `.npz`, `.csv`, `.parquet`).
        data: other images than the run's own: a name, a folder, a label file.
        split: of the images; the run's held-out split unless given.
        labels: of a file of scores: any label file, folder or data set; those in the file unless given.
        label_options: how they are read: `absent`, `delimiter` and the like, as of `sadcl_core.prepare`.
        logits: the file holds logits, before the sigmoid.
        by_order: where only the scores or only the labels name their images, they are in the same order.
        topk: also count only the k best labels of each image, beside the 3 best of the published tables.
        threshold: a label counts when its score is above; unless given 0.5 for the published rows, and the model's own
            thresholds, where it has any, for the classes and a row beside the others.
        uncalibrated: use the model as it was trained.
        report: also write a page to look at the errors, and the table of suspected label errors.
        label_errors: also write the table of suspected label errors.
        against: `paper` or a CSV file, whose rows are set beside ours.
        bootstrap: resamples for the intervals; 1,000 on usual data unless given, 0 for none.
        save_scores: also write all scores into this file.
        img_size: in pixels; that of the training unless given.
        tta: none, flip or crops: scores from the mean over an image and its mirror image, or five crops of it.
        resize: side in pixels that images are resized to before their centre of `img_size` is cut out; 0: no centre is.
        known_share: of the labels of each image, from 0 to below 1, that are given with it and not counted, to a head that takes
            known labels.
        batch_size: images at a time.
        limit: only the first images.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        workers: processes that read images.
        output: folder for the files; `eval` inside the run, or here, unless given.
        listen: called with what is opened on the way, see `sadcl_core.evaluation.scored_split.Listener`.
        progress: called with what is done, how far, and of how many.

    Raises:
        DataError: there is no model, no data or no scores, or they are damaged or do not fit.
        UsageError: an argument makes no sense, or a file cannot be written.
        MachineError: the device or precision is not available.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.savez(folder / "s.npz", scores=[[0.9, 0.2], [0.4, 0.7]], targets=[[1, 0], [0, 1]])
        >>> result = evaluate(folder / "s.npz", output=folder)
        >>> result.numbers["mAP_interpolated"], result.files["json"].name
        (100.0, 's-eval.json')
    """
    refuse_bad_output(output, save_scores, inputs=(run_or_scores, labels))
    if not 0 <= known_share < 1:
        reason = "no label would be left to score" if known_share >= 1 else "it is no share of the labels"
        raise UsageError(f"--known-share {known_share:g}: {reason}. Give a share from 0 to below 1.")
    if known_share and save_scores is not None:
        raise UsageError("--save-scores would mix the scores of labels that --known-share gives with others. Leave one out.")
    against = None if against is None else str(against)
    choose_resamples(bootstrap, (1, 1))

    def check_card(path: Path, card: ModelCard) -> None:
        choose(threshold, card.classes, card.thresholds, calibrated=bool(card.temperatures))
        find_table(against, card.classes)

    scored = score_or_read(
        run_or_scores,
        final=True,
        data=data,
        split=split,
        labels=labels,
        label_options=label_options,
        logits=logits,
        by_order=by_order,
        img_size=img_size,
        tta=tta,
        resize=resize,
        known_share=known_share,
        batch_size=batch_size,
        limit=limit,
        device=device,
        precision=precision,
        workers=workers,
        uncalibrated=uncalibrated,
        similarity=report or label_errors,
        check_card=check_card,
        listen=listen,
        progress=progress,
    )
    find_table(against, scored.classes)
    calibrated = None if scored.model is None else scored.as_trained is not None
    limits = None
    if threshold is not None:
        limits = choose(threshold, scored.classes, scored.own_thresholds, calibrated=calibrated)
    folder = results_folder(scored, output)
    result = measure(
        scored,
        folder,
        limits=limits,
        topk=tuple(sorted({PAPER_TOPK, topk})),
        resamples=choose_resamples(bootstrap, scored.scores.shape),
        progress=stage(progress, "resampling images"),
    )
    if report or label_errors:
        suspects = suspected_label_errors(
            scored.scores, scored.targets, thresholds=result.thresholds, similarity=scored.similarity, most=SUSPECTS
        )
        result = replace(result, suspects=tuple(suspects))
    if against is not None:
        result = replace(result, against=rows_with_ours(result, against))
    return _write(scored, result, folder, save_scores, report, progress) if is_main_process() else result


def _write(
    scored: ScoredSplit,
    result: Evaluation,
    folder: Path,
    save_scores: str | Path | None,
    report: bool,
    progress: StagedProgress | None,
) -> Evaluation:
    """Write the numbers, and what was requested beside them; return the result with the names of its files."""
    path = result.save(folder)
    files = {"json": path, "csv": path.with_suffix(".csv")}
    if save_scores is not None:
        target = Path(save_scores)
        if target.resolve() in {path.with_suffix(end).resolve() for end in (".json", ".csv", ".html")}:
            raise UsageError(f"--save-scores {target} is where the evaluation itself is. Choose another name.")
        write_scores(target, scored.scores, scored.classes, scored.images)
        files["scores"] = target
    if result.suspects is not None:
        files["label_errors"] = path.with_name(f"{path.stem}-label-errors.csv")
        write_suspects(files["label_errors"], result.suspects, scored.names, scored.classes)
    if report:
        from sadcl_core.evaluation.report.build import make_page
        from sadcl_core.evaluation.report.page import write_page

        files["report"] = path.with_suffix(".html")
        write_page(make_page(scored, result, stage(progress, "drawing images")), files["report"])
    return replace(result, files=files)


def measure(
    scored: ScoredSplit,
    folder: Path,
    *,
    limits: Thresholds | None = None,
    topk: tuple[int, ...] = (PAPER_TOPK,),
    resamples: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Compute every number of a scored split, for a file in a folder, which decides whether its name has to name the run.

    Without requested thresholds 0.5 is taken on the scores as trained for the rows, as in the published tables, and, where the
    model has thresholds of its own, these for the classes and for a row beside the others; the rest is as of `evaluate_scores`.

    Raises:
        ValueError: a score is NaN.
    """
    for_rows = limits or choose(DEFAULT, scored.classes)
    own = scored.own_thresholds if limits is None else ()
    result = evaluate_scores(
        scored.scores,
        scored.targets,
        scored.classes,
        thresholds=own or for_rows.values,
        published=None if not own else scored.scores if scored.as_trained is None else scored.as_trained,
        topk=topk,
        resamples=resamples,
        localisation=scored.localisation,
        seconds=scored.seconds,
        subject={**scored.about, "thresholds": for_rows.description, "name": scored.file_name(for_rows.name, folder)},
        progress=progress,
    )
    return replace(result, tuned_here=scored.tuned_here)


def evaluate_scores(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    classes: Sequence[str] | None = None,
    *,
    thresholds: npt.ArrayLike = DEFAULT,
    published: npt.NDArray[np.floating[Any]] | None = None,
    topk: Sequence[int] = (PAPER_TOPK,),
    resamples: int = 0,
    localisation: Localisation | None = None,
    seconds: float = 0.0,
    subject: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compute every number of arrays.

    Args:
        scores: (N, K) in 0..1.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out of every number.
        classes: K names; numbers from 0 unless given.
        thresholds: one or K; a label counts when its score is above.
        published: (N, K) scores for the rows of the published tables, over all and the k best labels, at 0.5 whatever the
            thresholds are; None takes those rows at the thresholds.
        topk: each gives a row of the seven values.
        resamples: of the images, for the intervals; 0 for none.
        localisation: of the same model on the same images.
        seconds: that the scoring took.
        subject: what was evaluated.
        progress: called with how many resamples are done, of how many.

    Raises:
        ValueError: a score is NaN or not in 0..1, the shapes do not fit, or a k is below 1.

    Example:
        >>> result = evaluate_scores([[0.9, 0.2], [0.4, 0.7]], [[1, 0], [0, 1]], ["cat", "dog"])
        >>> result.summary
        'mAP 100.0 interpolated · 100.0 non-interpolated · 2/2 classes · 2 images'
        >>> result.per_class["F1"].tolist(), result.numbers["hamming_loss"]
        ([100.0, 100.0], 0.0)
    """
    array = np.asarray(scores)
    limits = np.broadcast_to(np.asarray(thresholds, np.float64), array.shape[1:])
    measured = Measured(array, np.asarray(targets), limits, resamples, localisation, seconds, progress)
    for_rows, level = (measured.scores, measured.thresholds) if published is None else (published, DEFAULT)
    rows = {"all": precision_recall(for_rows, measured.targets, level)}
    rows |= {f"top{k}": precision_recall(for_rows, measured.targets, level, k) for k in topk}
    if published is not None:
        rows["own_thresholds"] = precision_recall(measured.scores, measured.targets, measured.thresholds)
    numbers = {column.key: column.value(measured) for column in NUMBERS}
    per_class = {column.key: column.value(measured) for column in PER_CLASS}
    return Evaluation(
        classes=tuple(map(str, range(len(limits)))) if classes is None else tuple(classes),
        numbers={key: value for key, value in numbers.items() if value is not None},
        per_class={key: values for key, values in per_class.items() if values is not None},
        rows={row: {column.key: 100 * column.value(values) for column in MEASURES} for row, values in rows.items()},
        subject=subject or {},
    )


def results_folder(scored: ScoredSplit, output: str | Path | None) -> Path:
    """Return the folder for the files of an evaluation: `output`, or `eval` inside the run or here."""
    if output is not None:
        return Path(output)
    return Path("eval") if scored.model is None else scored.model.folder("eval")


def refuse_bad_output(
    output: str | Path | None, save_scores: str | Path | None = None, *, inputs: Sequence[str | Path | None] = ()
) -> None:
    """Raise a UsageError for places that cannot be written to, or that hold what is read."""
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"-o {output} is a file. Name a folder.")
    if save_scores is None:
        return
    target = Path(save_scores)
    check_target(target)
    if any(target.resolve() == Path(path).resolve() for path in inputs if path is not None):
        raise UsageError(f"--save-scores {target} would overwrite what is read. Choose another name.")
