"""sadcl search: alike images, odd ones and near duplicates, by the features that sadcl embed wrote."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadcl_cli.console import counting, say, show, show_json
from sadcl_cli.display.model import model_sentence
from sadcl_cli.display.search import index_sentence, match_document, search_title, show_duplicates, show_matches
from sadcl_cli.options import MOST, Device, Json, Weights, takes_verbosity
from sadcl_core.errors import UsageError

if TYPE_CHECKING:
    from sadcl_core.inference.embedding_index import EmbeddingIndex

EXCLUSIVE = (
    *(("IMAGE", "--outliers"), ("IMAGE", "--duplicates"), ("IMAGE", "--prototype")),
    *(("--label", "--duplicates"), ("--outliers", "--duplicates"), ("--outliers", "--prototype")),
)
COUNT, OF_EACH, PAIRS = 20, 3, 1000  # matches, outliers of each label, and pairs that are shown


@takes_verbosity
def search(
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="Image to compare with.")] = None,
    label: Annotated[
        str | None, typer.Option("--label", "-l", metavar="CLASS", help="Compare what this label looks like, not whole images.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", metavar="DIR", help="Folder that sadcl embed wrote; that of the run unless given.")
    ] = None,
    prototype: Annotated[
        bool, typer.Option("--prototype", help="With --label and no image: compare with the prototype that the model learned.")
    ] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, max=MOST, help="Images to show; 20 unless given.")] = None,
    outliers: Annotated[
        bool, typer.Option("--outliers", help="Images whose label looks least like it does in the others; of each label 3.")
    ] = False,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Pairs of images that look nearly the same.")] = False,
    min_cosine: Annotated[
        float, typer.Option("--min-cosine", min=-1, max=1, help="With --duplicates: from which on two images are the same.")
    ] = 0.98,
    weights: Weights = None,
    device: Device = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Contact sheet (png, svg or pdf); search.png in the index unless given.")
    ] = None,
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw the images found.")] = True,
    json: Json = False,
) -> None:
    """Find images that look alike.

    IMAGE --label dog: images whose dog looks like this dog. IMAGE: alike whole images. --label dog: the most typical dogs.
    The features are those that sadcl embed wrote.
    """
    _check({"IMAGE": image, "--label": label, "--outliers": outliers, "--duplicates": duplicates, "--prototype": prototype})
    opened = _open(index, weights, image)
    if label is not None:
        opened.rows_of(label)  # before a model is loaded

    from sadcl_core.inference import search as searching

    document: dict[str, Any]
    if duplicates:
        with counting("comparing images") as progress:
            pairs = searching.duplicates(opened, cosine=min_cosine, count=count or PAIRS, progress=progress)
        matches = [match for pair in pairs for match in pair]
        title = f"pairs of images with a cosine of {min_cosine:g} or more: {len(pairs):,}"
        document = {"pairs": [[match_document(match) for match in pair] for pair in pairs]}
    else:
        if outliers:
            matches = searching.outliers(opened, label, count=count or (OF_EACH if label is None else COUNT))
            title = f"least like {label or 'their label'} in the other images"
        else:
            model = None
            if image is not None:
                from sadcl_core.inference.load import load_trained

                source = weights or opened.about.get("model") or None
                model = load_trained(source, device=device, img_size=opened.about.get("img_size"))
                say(model_sentence(model))
            matches = searching.search(opened, image, label, model=model, prototype=prototype, count=count or COUNT)
            title = search_title(image, label, prototype=prototype)
        document = {"matches": [match_document(match) for match in matches]}
    if json:
        show_json({"schema_version": 1, "search": title, "index": str(opened.folder), **document})
    elif duplicates:
        show_duplicates(pairs, min_cosine)
    elif matches:
        show_matches(matches)
    else:
        show("no label of the index has 3 images or more, so that one could be unlike the others" if outliers else "no match")
    if sheet and matches:
        path = output or (opened.folder or Path()) / "search.png"
        searching.draw_matches(matches, path, title=title, query=image)
        say(f"contact sheet saved to {path}")


def _check(given: dict[str, object]) -> None:
    """Raise a UsageError for options that make no sense together, or do not say what to search for."""
    for one, other in EXCLUSIVE:
        if given[one] and given[other]:
            raise UsageError(f"{one} and {other} exclude each other. Leave one of them out.")
    if given["--prototype"] and not given["--label"]:
        raise UsageError("--prototype is that of a label. Give --label CLASS as well.")
    if not any(given.values()):
        raise UsageError("Nothing to search for. Give an image, --label, --outliers or --duplicates.")


def _open(index: Path | None, weights: Path | None, image: Path | None) -> EmbeddingIndex:
    """Open the index of a run, unless another is named; an image that cannot be read is refused first."""
    from sadcl_core.data.images import image_size
    from sadcl_core.inference.embedding_index import open_index
    from sadcl_core.inference.load import find_card

    if image is not None:
        image_size(image)
    remedy = "sadcl embed" if weights is None else f"sadcl embed -w {shlex.quote(str(weights))}"
    opened = open_index(index or find_card(weights).folder("embeddings"), remedy=remedy)
    say(index_sentence(opened))
    return opened
