"""Write docs/methods.md and its figures: every method of the published tables, what it costs and what it reaches.

python docs/methods.py

Costs are counted on the heads as they are, published figures read from `sadcl_core.evaluation.published`, and ours from every
`comparison.json` of `sadcl compare` that is kept as docs/results/methods-*.json; what its file name says beyond the data set
tells how it was trained. Those of several seeds are drawn as
docs/results/methods-*.png, the common classes alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import timm
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from sadcl_core.config.methods import METHODS, PAPERS, Method
from sadcl_core.evaluation.published import CLASSES, Row, other_rows, published_figure, published_table
from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.plots.comparison import plot_comparison
from sadcl_core.registry import HEADS, resolve

DOCS = Path(__file__).resolve().parent
COUNTED = (80, 1000)  # classes, of COCO and of a large data set
GRID, STRIDE = 14, 32  # locations along a side of the deepest map, and pixels of one: ResNet-101 at 448 pixels
WIDTHS = {1: (2048,), 2: (1024, 2048)}  # of ResNet-101's maps, by how many a head reads
INCH, COLOURS = 80, 64  # pixels of an inch of a figure, and its colours
NAMES = {"coco": "COCO", "voc2007": "VOC 2007", "nuswide": "NUS-WIDE"}


@dataclass(frozen=True)
class Entry:
    """A section of the page.

    Attributes:
        title: name of the method in the tables.
        rows: of METHODS that it is about, the main one first; none where it is not one of them.
        new: what is new in it.
        needs: what it needs beside the feature map.
        take: when to take it, or why it is not built.
        steps: of its figure, from what it starts with to the logits; `word|step` is a step that reads something of the labels as
            well, and what a `step>loss` gives has a loss of its own.
        published: names of its rows in the tables.
        certainty: how much of it is known.
        page: that says how to do it, where it is built and none of METHODS.
        start: what it starts with, unless it is what its head reads.
    """

    title: str
    rows: tuple[str, ...]
    new: str
    needs: str
    take: str
    steps: tuple[str, ...]
    published: tuple[str, ...] = ()
    certainty: str = "known in every detail"
    page: str = ""
    start: str = ""

    @property
    def first(self) -> str:
        """Return the first box of the figure: the maps of the backbone, or the images."""
        two = bool(self.rows) and len(resolve(HEADS, METHODS[self.rows[0]].head, kind="head").LEVELS) == 2
        return self.start or ("two feature maps" if two else "feature map")


OURS = "our reading of an outline"
ENTRIES = (
    Entry(
        "Linear layer",
        ("baseline", "baseline-max", "baseline-gem"),
        "Nothing is new: the pooled feature and one linear layer. The maximum in place of the mean is most of what ML-GCN gains.",
        "Nothing.",
        "First, as what everything else is compared with.",
        ("pool: mean, max or GeM", "linear"),
        ("ResNet101", "ResNet-101", "ResNet-101: maximum"),
    ),
    Entry(
        "Contrast of whole images",
        ("baseline-contrastive", "baseline-two-views"),
        "MulCon's claim that contrast needs label features: a linear layer with contrast of images that share labels.",
        "Two views of each image in the second stage.",
        "To repeat that claim.",
        ("pool: mean>I2I contrast", "linear"),
    ),
    Entry(
        "Linear probe",
        ("linear-probe",),
        "The backbone is frozen, and logistic regression is solved on its features, its strength by cross-validation.",
        "Pretrained weights.",
        "With few images, or a minute of time.",
        ("frozen backbone", "root-mean pooling", "logistic regression"),
        start="image",
    ),
    Entry(
        "SADCL",
        ("sadcl", "sarl", "sarl-no-encoder", "sarl-s2s", "sarl-p2s"),
        "A transformer reads one feature per label (SARL); then the features of a label are drawn to each other (S2S) and to a "
        "prototype (P2S).",
        "A second stage.",
        "As the method of this program, and wherever label features are used: `search`, prototypes, `visualize embeddings`.",
        ("encoder over locations", "classes ask locations>S2S and P2S contrast", "linear per class"),
        ("SADCL", "SADCL: SARL without encoder", "SADCL: SARL", "SADCL: SARL and S2S", "SADCL: SARL and P2S"),
    ),
    Entry(
        "Query2Label",
        ("query2label", "query2label-self-attention"),
        "Class embeddings are the queries of a transformer decoder over the locations; the network of SARL without its contrast.",
        "Nothing.",
        "With large backbones pre-trained on ImageNet-22k, where the best published figures are.",
        ("encoder over locations", "classes ask locations", "linear per class"),
        ("Query2Label",),
    ),
    Entry(
        "MulCon",
        ("mulcon", "mulcon-classification"),
        "Set attention makes a feature per label; features of the same label in two views are drawn together.",
        "Two views of each image in the second stage, twice its time.",
        "To compare with SADCL.",
        ("set attention of locations", "label tokens ask locations>S2S contrast, two views", "linear per class"),
        ("MulCon",),
    ),
    Entry(
        "CSRA",
        ("csra",),
        "Each class scores every location; its logit is the mean of the scores plus lambda times a mean weighted by a softmax.",
        "Nothing.",
        "As a better linear layer: it costs nothing worth speaking of.",
        ("score of each location and class", "mean + lambda x softmax mean"),
        ("CSRA",),
    ),
    Entry(
        "ML-Decoder",
        ("ml-decoder",),
        "One layer of cross attention with fixed queries, each of which answers for a group of classes.",
        "Nothing.",
        "With thousands of classes: its cost hardly grows with them.",
        ("linear, ReLU", "fixed queries ask locations", "linear per group"),
        ("ML-Decoder",),
    ),
    Entry(
        "ML-GCN",
        ("ml-gcn",),
        "Graph convolutions over the words of the classes make the weights of the linear layer.",
        "Co-occurrence of the training labels, word vectors.",
        "Because it is cited; of its gain over a mean-pooled linear layer most is the maximum.",
        ("pool: max", "words, co-occurrence|x classifier from a graph"),
        ("ML-GCN",),
    ),
    Entry(
        "DSDL",
        ("dsdl",),
        "Scores are the coefficients of the image's feature in a dictionary that is made from the words of the classes.",
        "Word vectors, the loss `dictionary`.",
        "To complete a table of methods.",
        ("pool: max", "words|ridge regression in a dictionary"),
        ("DSDL",),
    ),
    Entry(
        "ADD-GCN",
        ("add-gcn",),
        "Class features by masks exchange what they know on a static graph and on one of each image.",
        "Batches of two and more, or `norm=layer`; K x K parameters.",
        "Where labels depend on each other and no word vectors are at hand.",
        ("masks of classes", "features of classes", "static graph, graph of the image", "linear per class"),
        ("ADD-GCN",),
    ),
    Entry(
        "SSGRL",
        ("ssgrl",),
        "Words say where to look for each class, and a gated network passes what is seen along the graph of co-occurrence.",
        "Co-occurrence, word vectors.",
        "Where the graph of labels carries much: few images, many related classes.",
        ("words|attention per class", "co-occurrence|gated graph, 3 rounds", "linear per class"),
        ("SSGRL",),
    ),
    Entry(
        "KGGR",
        ("kggr",),
        "SSGRL, and a second graph network that passes the weights of classifiers between classes.",
        "Co-occurrence, word vectors.",
        "With classes of very few images.",
        ("words|attention per class", "co-occurrence|gated graph, 3 rounds", "co-occurrence|classifiers from a graph"),
        ("KGGR",),
        certainty=f"{OURS}: widths and rounds of the second network are not known",
    ),
    Entry(
        "C-Tran",
        ("c-tran",),
        "Labels and locations are tokens of one encoder; in training a part of the labels is revealed.",
        "`known_share` above 0 in the stage, to learn from known labels.",
        "Where some labels are known when an image is scored: `predict --known dog=1,cat=0`, `eval --known-share`.",
        ("known labels|locations and labels as tokens", "encoder, 3 layers", "linear per class"),
        ("C-Tran",),
    ),
    Entry(
        "TDRG",
        ("tdrg",),
        "A transformer over three scales that inform each other, and a graph of each image that it informs.",
        "Two maps of the backbone; batches of two and more, or `norm=layer`; the loss `auxiliary`.",
        "With small objects beside large ones.",
        ("three scales, one transformer", "masks, features of classes", "graph of the image", "sum of two logits"),
        ("TDRG",),
    ),
    Entry(
        "AdaHGNN",
        ("adahgnn",),
        "Words look at two scales, and a learned hypergraph joins the classes.",
        "Two maps of the backbone, word vectors.",
        "To complete a table of methods.",
        ("words|attention at two scales", "learned hypergraph", "linear per class"),
        ("AdaHGNN",),
        certainty="probably right in every detail",
    ),
    Entry(
        "SST",
        ("sst",),
        "An encoder over the locations, then one over classes, whose tokens are maps of their scores.",
        "Nothing.",
        "To complete a table of methods.",
        ("encoder over locations", "maps of class scores", "encoder over classes", "sum of two logits"),
        ("SST",),
        certainty=OURS,
    ),
    Entry(
        "P-GCN",
        ("p-gcn",),
        "Class features by masks go through the graph of ML-GCN.",
        "Co-occurrence.",
        "To complete a table of methods.",
        ("masks of classes", "features of classes", "co-occurrence|graph convolutions", "score per node"),
        ("P-GCN",),
        certainty=f"{OURS}: the split of the features, the matrix and the widths are not known",
    ),
    Entry(
        "MS-CMA",
        ("ms-cma",),
        "The cosine of a location with a label's embedding is its attention; the embeddings follow the co-occurrence.",
        "Two maps of the backbone, co-occurrence, word vectors, the loss `penalty`.",
        "To complete a table of methods.",
        ("words, co-occurrence|cosine attention at two scales", "linear per class", "mean of two scales"),
        ("MS-CMA",),
        certainty=OURS,
    ),
    Entry(
        "CCD",
        ("ccd",),
        "Cosine classifiers; the context that a first one expects is taken off the feature before a second one scores.",
        "A second stage, with the mean feature of each class after the first.",
        "Where objects are missed outside their usual surroundings.",
        ("pool: mean and max", "context of the first classifier removed", "second cosine classifier"),
        ("CCD-R101",),
    ),
    Entry(
        "CPCL",
        ("cpcl",),
        "The logit is the difference of two distances: of a class feature to compositions with and without the class prototype.",
        "Co-occurrence, word vectors, the loss `hinge`; its attention is flat, since the map is pooled first.",
        "To complete a table of methods.",
        ("pool: max", "words|feature per class", "co-occurrence|prototypes", "difference of distances"),
        ("CPCL",),
    ),
    Entry(
        "MCAR",
        ("mcar",),
        "A second look: the regions of the best classes are cut out and go through the network again; the larger score counts.",
        "Five passes of the backbone, in training and in use; the loss `auxiliary`; `model.second_look=4` goes with any head.",
        "With small objects, where an image may cost five times as much.",
        ("pass over the image", "crops of the best 4 classes", "pass over the crops", "maximum"),
        ("MCAR",),
        start="image",
    ),
    Entry(
        "CPSD",
        (),
        "A teacher is trained for each group of related and of unrelated classes, and their scores teach one network.",
        "Ten further trainings; the loss `distillation`, which goes with any head and any teachers.",
        "Where eleven trainings are not too many; a student costs no more in use than without teachers.",
        ("ten teachers of class groups", "one student, distilled"),
        ("CPSD",),
        certainty="known in every detail; the rates of teachers and student are yours to choose",
        page="losses.md#distillation",
        start="image",
    ),
    Entry(
        "RNN-Att",
        ("rnn-att",),
        "A spatial transformer crops the map, an LSTM scores five crops in turn, and the maximum over the steps counts.",
        "The loss `penalty`.",
        "To complete a table of methods; every later one is above it.",
        ("spatial transformer", "LSTM, 5 steps", "maximum over the steps"),
        ("RNN-Att",),
        certainty=f"{OURS}: known from a re-implementation on VGG-16",
    ),
    Entry(
        "CNN-RNN",
        (),
        "An LSTM emits the labels of an image one after the other, in order of their frequency, by beam search.",
        "An order of the labels.",
        "It has no independent scores, so no loss, threshold or average precision here fits it.",
        ("feature of the image", "LSTM over labels", "beam search"),
        ("CNN-RNN",),
        certainty="known from the method section",
        start="image",
    ),
    Entry(
        "GM-MLIC",
        (),
        "A graph of image regions is matched with a graph of labels.",
        "Regions, word vectors.",
        "Regions, neighbours, widths, blocks and weights of the losses are not stated where we could read.",
        ("graph of regions", "graph of labels", "edges as scores"),
        ("GM-MLIC",),
        certainty="outline alone",
        start="image",
    ),
    Entry(
        "CADM",
        (),
        "Maps of the classifier's weights make a vector per class, and vectors of labels that come together are drawn together.",
        "Nothing.",
        "The size of the vectors, the form of the loss and its weight are not known; contrast on any head is its kin.",
        ("class maps", "vectors of pairs", "linear"),
        ("CADM",),
        certainty="outline alone",
    ),
)


INTRODUCTION = """# Methods

Every method of the published tables: what is new, what it needs and costs, what was published, what it reached here.
`--method NAME` takes one, `sadcl compare DATA --methods baseline,csra,sadcl` trains several side by side.
`add-gcn+s2s+p2s` is ADD-GCN with the contrast of SADCL, and so on: [heads](heads.md#contrast-on-any-head).
Options of the heads stand in [configuration](configuration.md); this page is written by `python docs/methods.py`.

Costs are those of the head alone with its published widths, for {few} and for {many:,} classes.
They are counted on maps of ResNet-101 at {size} pixels: {grid} x {grid} locations of {width:,} numbers.
What depends on no image, such as the weights that ML-GCN makes, is counted for each, though a batch needs it once.
A product and its addition are two operations.
ResNet-101 has {parameters:.1f} million parameters and takes {operations:.0f} billion operations.
Published figures are mAP in percent, with the sizes of training and test and the kind of AP where they are known.
Starred ones are of models that were pre-trained on COCO or run by others.
ASL, the two-way loss and SpliceMix go with any head: [losses](losses.md).
Word vectors are random unless `model.word_vectors` says otherwise; the papers have those of GloVe.
The numbers after *Here* are interpolated mAP of [comparisons](results/methods.md) on small images,
of frozen features or with the last stage trained.
In the figures, green is a loss beside that of the classification, and orange what is read of the labels.
The first line of each method ends with how well it is known: in every detail, or from an outline that we read in our way.
"""


def main() -> None:
    """Write the page and its figures."""
    tables = dict(_tables())
    ours = []
    for path in sorted((DOCS / "results").glob("methods-*.json")):
        comparison = json.loads(path.read_text(encoding="utf-8"))
        how = path.stem.removeprefix("methods-").removeprefix(comparison["dataset"]).replace("-", " ").strip() or "frozen"
        ours.append({**comparison, "how": how})
        if len(comparison["seeds"]) > 1:
            draw(ours[-1], path.with_suffix(".png"))
    backbone = backbone_cost()
    about = {"few": COUNTED[0], "many": COUNTED[1], "size": GRID * STRIDE, "grid": GRID, "width": WIDTHS[1][0]}
    lines = [INTRODUCTION.format(**about, parameters=backbone[0] / 1e6, operations=backbone[1] / 1e9)]
    for entry in ENTRIES:
        name = entry.title.lower().replace(" ", "-")
        (DOCS / "figures" / "methods" / f"{name}.svg").write_text(figure(entry), encoding="utf-8")
        lines += _section(entry, name, tables, ours, backbone[1])
    (DOCS / "methods.md").write_text("\n".join(lines), encoding="utf-8")


def _section(
    entry: Entry,
    name: str,
    tables: dict[str, list[Row]],
    ours: list[dict[str, Any]],
    operations: float,
) -> list[str]:
    """Return the lines of a method; `operations` are those of the backbone."""
    shown = "; ".join((entry.first, *entry.steps)).replace("|", " for ").replace(">", " with ")
    lines = [
        f"## {entry.title}",
        "",
        f"![{entry.title}: {shown}](figures/methods/{name}.svg)",
        "",
        entry.new.replace(". ", ".\n"),
        "",
    ]
    if entry.rows:
        methods = [METHODS[row] for row in entry.rows]
        paper = methods[0].source.partition(",")[0]
        names = ", ".join(f"`{row}`" for row in entry.rows)
        lines.append(f"- Methods: {names}, with the head `{methods[0].head}`; {PAPERS[paper]}; {entry.certainty}.")
    else:
        lines.append(f"- Certainty: {entry.certainty}.")
    lines.append(f"- Needs: {entry.needs}")
    if entry.rows:
        parts = [
            f"{_short(size / 1e6)} million parameters and {_short(own / 1e9)} billion operations for {classes:,} classes"
            for classes in COUNTED
            for size, own in [cost(methods[0], classes)]
        ]
        if passes := methods[0].layer["model"]["second_look"]:
            parts.append(f"and {passes} passes more of the backbone, {_short(passes * operations / 1e9)} billion operations")
        lines.append(f"- Costs: {', '.join(parts)}.")
    lines.append(f"- Published: {'; '.join(_published(entry, tables)) or 'nothing in these tables'}.")
    if entry.rows:
        lines.append(f"- Here: {'; '.join(_reached(entry, ours)) or 'not measured yet'}.")
    if entry.page:
        lines.append(f"- How: [three commands]({entry.page}).")
    word = "Take it" if entry.rows or entry.page else "Not built"
    return [*lines, f"- {word}: {entry.take[0].lower()}{entry.take[1:]}", ""]


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def cost(method: Method, classes: int) -> tuple[float, float]:
    """Return the parameters and the floating-point operations for an image of a method's head with its published widths."""
    kind = resolve(HEADS, method.head, kind="head")
    options = head_options(method.head, method.layer["model"].get("heads", {}).get(method.head, {}))
    channels = WIDTHS[len(kind.LEVELS)]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = kind(channels=channels, num_classes=classes, options=options).eval()
        maps = tuple(
            torch.empty(1, width, GRID * level, GRID * level) for width, level in zip(channels, kind.LEVELS, strict=True)
        )
        network(HeadInputs(maps, None, torch.empty(classes, network.width)))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def backbone_cost() -> tuple[float, float]:
    """Return the parameters and the floating-point operations for an image of ResNet-101 without its classifier."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = timm.create_model("resnet101", num_classes=0, global_pool="").eval()
        network(torch.empty(1, 3, GRID * STRIDE, GRID * STRIDE))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def _tables() -> Iterator[tuple[str, list[Row]]]:
    for data, classes in CLASSES.items():
        table = published_table(classes)
        assert table is not None
        yield data, [*table.rows, *other_rows(data)]


def _published(entry: Entry, tables: dict[str, list[Row]]) -> Iterator[str]:
    """Yield what was published of a method on each data set."""
    for data, rows in tables.items():
        figures = [published_figure(row, data) for row in rows if row["method"] in entry.published and row.get("mAP") is not None]
        if figures:
            yield f"{NAMES[data]} {', '.join(dict.fromkeys(figures))}"


def _reached(entry: Entry, ours: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what each row of a method reached in comparisons."""
    for comparison in ours:
        values = {row["method"]: row["mAP_interpolated"] for row in comparison["methods"]}
        reached = [
            f"`{name}` {values[name]['mean']:.1f}" + (f" ± {values[name]['deviation']:.1f}" if values[name]["deviation"] else "")
            for name in entry.rows
            if name in values and values[name]["mean"] is not None
        ]
        if reached:
            epochs = "+".join(str(count) for count in comparison["epochs"].values() if count)
            seeds = f"{len(comparison['seeds'])} seed{'s' if len(comparison['seeds']) > 1 else ''}"
            about = f"{comparison['dataset']}, {comparison['backbone']}, {comparison['how']}, {epochs} epochs, {seeds}"
            yield f"{about}: {', '.join(reached)}"


def draw(comparison: dict[str, Any], path: Path) -> None:
    """Draw a comparison, the methods in the order of their means."""
    runs = {row["method"]: [run["mAP_interpolated_common"] for run in row["runs"]] for row in comparison["methods"]}
    values = dict(sorted(runs.items(), key=lambda row: sum(row[1]), reverse=True))
    with matplotlib.rc_context({"savefig.dpi": INCH}):
        plot_comparison(values, comparison["seeds"], path, title=f"{comparison['dataset']}, {comparison['how']}: common classes")
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


SIZE, HEIGHT, GAP, MARGIN = 12, 30, 26, 6  # pixels
NARROW, WIDE = "fijlrt ,:.-", "mwMGLDC"  # letters


def _width(text: str) -> float:
    """Return the width of a text in pixels, and of the space beside it."""
    return SIZE * sum(0.4 if letter in NARROW else 0.95 if letter in WIDE else 0.62 for letter in text) + 20


def figure(entry: Entry) -> str:
    """Return an SVG picture of the steps to the logits; above them what they read of the labels, and their losses."""
    steps = [
        (*text.rpartition("|")[::2], loss) for text, _, loss in (s.partition(">") for s in (entry.first, *entry.steps, "logits"))
    ]
    top = 44 if any(facts or loss for facts, _, loss in steps) else MARGIN
    parts, x = [], float(MARGIN)
    for number, (facts, step, loss) in enumerate(steps):
        width = max(_width(step), _width(facts or loss))
        own = number in (0, len(steps) - 1)
        parts.append(_box(x, top, width, step, fill="#e8e8e8" if own else "#d8e6f6"))
        if facts or loss:
            ends = (MARGIN + 22, top) if facts else (top, MARGIN + 22)
            parts += [
                _box(x, MARGIN, width, facts or loss, fill="#f8e3cc" if facts else "#dcefd8", height=22),
                _arrow(x + width / 2, ends[0], x + width / 2, ends[1]),
            ]
        if number < len(steps) - 1:
            parts.append(_arrow(x + width, top + HEIGHT / 2, x + width + GAP, top + HEIGHT / 2))
        x += width + GAP
    size = f'width="{x - GAP + MARGIN:.0f}" height="{top + HEIGHT + MARGIN}"'
    head = '<marker id="a" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto"><path d="M0,0L6,3L0,6z"/></marker>'
    style = f'font-family="sans-serif" font-size="{SIZE}" text-anchor="middle" stroke-width="1"'
    page = '<rect width="100%" height="100%" fill="#fff"/>'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><defs>{head}</defs>{page}'
    return "\n".join([start, *parts, "</svg>", ""])


def _box(x: float, y: float, width: float, text: str, *, fill: str, height: float = HEIGHT) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4" fill="{fill}" stroke="#555"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + height / 2 + 4:.0f}">{escape(text)}</text>'
    )


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{to_x:.0f}" y2="{to_y:.0f}" stroke="#000" marker-end="url(#a)"/>'


if __name__ == "__main__":
    main()
