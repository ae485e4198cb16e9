"""The methods as data: each is a head with its options, the losses of each stage with their weights, and nothing else.

A preset says how long, how fast and on which images (`sadcl_core.config.presets`). A stage without a loss is left out. A new
method is a row in METHODS; `sadcl_core.registry` and `sadcl_core.training.terms` say what a new head or loss needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from sadcl_core.config.layers import Layer
from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest

PAPERS = {
    "SADCL": "Ma et al., Semantic-Aware Dual Contrastive Learning, ECAI 2023, arXiv 2307.09715",
    "MulCon": "Dao et al., Contrastive Learning for Multi-Label Image Classification, Neurocomputing 2023, arXiv 2107.11626",
    "Kornblith": "Kornblith et al., Do Better ImageNet Models Transfer Better?, CVPR 2019, arXiv 1805.08974",
    "Query2Label": "Liu et al., Query2Label, 2021, arXiv 2107.10834",
    "GeM": "Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019, arXiv 1711.02512",
    "CSRA": "Zhu and Wu, Residual Attention, ICCV 2021, arXiv 2108.02456",
    "ML-Decoder": "Ridnik et al., ML-Decoder, WACV 2023, arXiv 2111.12933",
    "ML-GCN": "Chen et al., Multi-Label Image Recognition with Graph Convolutional Networks, CVPR 2019, arXiv 1904.03582",
    "DSDL": "Zhou et al., Deep Semantic Dictionary Learning for Multi-label Image Classification, AAAI 2021, arXiv 2012.12509",
    "ADD-GCN": "Ye et al., Attention-Driven Dynamic Graph Convolutional Network, ECCV 2020, arXiv 2012.02994",
    "SSGRL": "Chen et al., Learning Semantic-Specific Graph Representation, ICCV 2019, arXiv 1908.07325",
    "KGGR": "Chen et al., Knowledge-Guided Multi-Label Few-Shot Learning, TPAMI 2022, arXiv 2009.09450",
    "C-Tran": "Lanchantin et al., General Multi-label Image Classification with Transformers, CVPR 2021, arXiv 2011.14027",
    "AdaHGNN": "Wu et al., Adaptive Hypergraph Neural Networks for Multi-Label Image Classification, ACM MM 2020",
    "SST": "Chen et al., Spatial and Semantic Transformers for Multi-Label Image Recognition, TIP 2022",
    "P-GCN": "Chen et al., Learning Graph Convolutional Networks for Multi-Label Recognition, TPAMI 2023",
    "MS-CMA": "You et al., Cross-Modality Attention with Semantic Graph Embedding, AAAI 2020, arXiv 1912.07872",
    "CCD": "Liu et al., Contextual Debiasing for Visual Recognition with Causal Mechanisms, CVPR 2022",
    "CPCL": "Zhou et al., Category Prototype Compositional Learning, TCSVT 2022",
    "MCAR": "Gao and Zhou, Learning to Discover Multi-Class Attentional Regions, TIP 2021, arXiv 2007.01755",
    "RNN-Att": "Wang et al., Recurrently Discovering Attentional Regions, ICCV 2017, arXiv 1711.02816",
    "TDRG": "Zhao et al., Transformer-based Dual Relation Graph, ICCV 2021, arXiv 2110.04722",
}

SHORT = {
    "asymmetric": "ASL",
    "sample_to_sample": "S2S",
    "prototype_to_sample": "P2S",
    "image_to_image": "I2I",
    "two_way": "2WAY",
    "hill": "HILL",
    "splc": "SPLC",
    "selective": "CSL",
    "focal": "FOCAL",
    "polynomial": "POLY",
    "zlpr": "ZLPR",
    "auxiliary": "AUX",
    "splice_consistency": "CL",
    "dictionary": "DICT",
    "penalty": "PEN",
    "hinge": "HINGE",
    "distillation": "KD",
}  # as shown

CONTRASTIVE = ("sample_to_sample", "prototype_to_sample", "image_to_image")
USED = ("asymmetric", *CONTRASTIVE)  # by the methods
CLASSIFICATION: dict[str, float] = {"asymmetric": 1.0}


@dataclass(frozen=True)
class Method:
    """A method of the papers.

    Attributes:
        summary: what it is, in a few words.
        source: a row of PAPERS, with the place in it.
        layer: its settings over the defaults.
    """

    summary: str
    source: str
    layer: Layer

    @property
    def head(self) -> str:
        """Name of its head, a row of HEADS."""
        return str(self.layer["model"]["head"])

    @property
    def stages(self) -> dict[str, dict[str, float]]:
        """The stages it is trained in, each with the weights of its losses.

        Example:
            >>> METHODS["baseline"].stages
            {'classification': {'asymmetric': 1.0}}
        """
        weights = {name: {k: w for k, w in stage["losses"].items() if w} for name, stage in self.layer["stages"].items()}
        return {name: losses for name, losses in weights.items() if losses}


def _layer(
    head: str,
    options: Mapping[str, Any] | None = None,
    *,
    first: Mapping[str, float] = CLASSIFICATION,
    second: Mapping[str, float] | None = None,
    bank_slots: int = 0,
    views: int = 1,
    known_share: float = 0.0,
    second_look: int = 0,
    loss: Layer | None = None,
) -> Layer:
    """Return every setting that tells methods apart, zeros included."""
    losses = {"classification": first, "contrastive": second or {}}
    stages = {
        name: {
            "losses": {term: float(losses[name].get(term, 0.0)) for term in dict.fromkeys([*USED, *losses[name]])},
            "views": views if name == "contrastive" else 1,
            "known_share": known_share,
        }
        for name in RunConfig().stages
    }
    model: dict[str, Any] = {"head": head, "second_look": second_look}
    if options:
        model["heads"] = {head: dict(options)}
    return {"model": model, "loss": {"sample_to_sample": {"bank_slots": bank_slots}, **(loss or {})}, "stages": stages}


def _linear_probe() -> Layer:
    """Return the settings of logistic regression on a frozen backbone: no stage has a loss."""
    layer = _layer("pooled", {"pooling": "root-mean", "standardise": True}, first={})
    model = {**layer["model"], "global_branch": "none", "freeze_stride": 64}
    return {**layer, "model": model, "features": {"once": True}, "optim": {"solve_linear": True}}


SARL = {"encoder_layers": 1, "self_attention": False}

# of SADCL, from the defaults: 100 and 50 beside 1000 times a mean classification loss in the published script
BOTH = RunConfig().stages["contrastive"].losses
S2S = {name: weight for name, weight in BOTH.items() if name != "prototype_to_sample"}
P2S = {name: weight for name, weight in BOTH.items() if name != "sample_to_sample"}
BANK = RunConfig().loss.sample_to_sample.bank_slots
ADDED = {"s2s": "sample_to_sample", "p2s": "prototype_to_sample"}  # contrast of SADCL, by what stands behind a method's name

METHODS: dict[str, Method] = {
    "sadcl": Method("SARL, then S2S (memory bank) and P2S contrast", "SADCL", _layer("sarl", SARL, second=BOTH, bank_slots=BANK)),
    "sarl": Method("a transformer reads one feature per label", "SADCL, stage 1", _layer("sarl", SARL)),
    "sarl-no-encoder": Method(
        "SARL without its encoder: SARL*", "SADCL, ablation", _layer("sarl", {**SARL, "encoder_layers": 0})
    ),
    "sarl-s2s": Method(
        "SARL, then S2S contrast (memory bank)", "SADCL, ablation", _layer("sarl", SARL, second=S2S, bank_slots=BANK)
    ),
    "sarl-p2s": Method("SARL, then P2S contrast", "SADCL, ablation", _layer("sarl", SARL, second=P2S)),
    "baseline": Method("global average pooling, one linear layer", "SADCL, ResNet-101*", _layer("pooled", {"pooling": "mean"})),
    "baseline-max": Method(
        "maximum over the locations, one linear layer", "SADCL, ResNet-101*", _layer("pooled", {"pooling": "max"})
    ),
    "baseline-gem": Method("generalised mean over the locations, one linear layer", "GeM", _layer("pooled", {"pooling": "gem"})),
    "baseline-contrastive": Method(
        "baseline, then I2I contrast over two views",
        "MulCon, its claim",
        _layer("pooled", second={**CLASSIFICATION, "image_to_image": 0.5}, views=2),
    ),
    "baseline-two-views": Method(
        "baseline over two views, no contrast", "MulCon, its claim", _layer("pooled", second=CLASSIFICATION, views=2)
    ),
    "mulcon": Method(
        "set attention, then S2S contrast over two views",
        "MulCon",
        _layer("mulcon", second={**CLASSIFICATION, "sample_to_sample": 0.5}, views=2),
    ),
    "mulcon-classification": Method(
        "set attention over two views, no contrast", "MulCon, ablation", _layer("mulcon", second=CLASSIFICATION, views=2)
    ),
    "linear-probe": Method("frozen features, logistic regression; strength by cross-validation", "Kornblith", _linear_probe()),
    "query2label": Method("the network of SARL, which is Query2Label's default", "Query2Label", _layer("sarl", SARL)),
    "query2label-self-attention": Method(
        "the same, whose classes look at each other",
        "Query2Label, its switches on",
        _layer("sarl", {**SARL, "self_attention": True}),
    ),
    "csra": Method("locations are scored, the strongest count twice", "CSRA", _layer("csra")),
    "ml-decoder": Method(
        "fixed queries read from the locations, each for a group of classes", "ML-Decoder", _layer("ml_decoder")
    ),
    "ml-gcn": Method("a graph of co-occurring classes makes the classifier from words", "ML-GCN", _layer("generated")),
    "dsdl": Method(
        "scores are coefficients in a dictionary made from words",
        "DSDL",
        _layer("generated", {"generator": "dictionary"}, first={**CLASSIFICATION, "dictionary": 1.0}),
    ),
    "add-gcn": Method("class features by masks, then a static graph and one of the image", "ADD-GCN", _layer("add_gcn")),
    "ssgrl": Method("words say where to look, classes exchange what they see on a graph", "SSGRL", _layer("ssgrl")),
    "kggr": Method(
        "SSGRL with a second graph over the classifier (our reading)", "KGGR", _layer("ssgrl", {"classifier_rounds": 3})
    ),
    "c-tran": Method("labels and locations in one encoder; labels may be known", "C-Tran", _layer("c_tran", known_share=0.75)),
    "tdrg": Method(
        "a transformer over three scales and a graph of class features",
        "TDRG",
        _layer("tdrg", first={**CLASSIFICATION, "auxiliary": 1.0}),
    ),
    "adahgnn": Method("words look at two scales, a learned hypergraph joins the classes", "AdaHGNN", _layer("adahgnn")),
    "sst": Method("a transformer over space, then one over classes (our reading)", "SST", _layer("sst")),
    "p-gcn": Method("class features by masks on ML-GCN's graph (our reading)", "P-GCN", _layer("p_gcn")),
    "ms-cma": Method(
        "attention by the cosine with label embeddings (our reading)",
        "MS-CMA",
        _layer("ms_cma", first={**CLASSIFICATION, "penalty": 1.0}),
    ),
    "ccd": Method(
        "cosine classifiers; the context that the first sees is removed",
        "CCD",
        _layer("debiased", second=CLASSIFICATION, loss={"prototype_to_sample": {"prototype_min_score": 0.0}}),
    ),
    "cpcl": Method(
        "distances of class features to compositions with prototypes",
        "CPCL",
        _layer("cpcl", first={**CLASSIFICATION, "hinge": 1.0}),
    ),
    "mcar": Method(
        "a second look at the regions of the best classes; the larger score counts",
        "MCAR",
        _layer("pooled", {"pooling": "max"}, first={**CLASSIFICATION, "auxiliary": 1.0}, second_look=4),
    ),
    "rnn-att": Method(
        "an LSTM looks at one window of the map after the other (our reading)",
        "RNN-Att",
        _layer("rnn_att", first={**CLASSIFICATION, "penalty": 0.1}),
    ),
}


def find_method(name: str) -> Method:
    """Return a row of METHODS, with `+s2s` or `+p2s` behind its name also with this contrastive loss of SADCL.

    Raises:
        UsageError: there is no method of this name, or it has the loss by itself.

    Example:
        >>> find_method("mulcon").head
        'mulcon'
        >>> find_method("tdrg+s2s+p2s").stages["contrastive"]
        {'asymmetric': 1.0, 'sample_to_sample': 0.1, 'prototype_to_sample': 0.05, 'auxiliary': 1.0}
    """
    base, *short = name.split("+")
    if base not in METHODS:
        raise UsageError(f"There is no method {base!r}. {suggest(base, METHODS)}")
    method = METHODS[base]
    for one in short:
        if one not in ADDED:
            raise UsageError(f"{name!r}: +{one} is no contrast that can be added. Choose from: {', '.join(ADDED)}.")
        loss = ADDED[one]
        if loss in method.stages.get("contrastive", {}):
            raise UsageError(f"{name!r}: the loss {loss} is there twice. Leave out +{one}.")
        layer = with_contrast(method, {loss: BOTH[loss]})
        method = Method(f"{method.summary}, with {SHORT[loss]} contrast", method.source, layer)
    return method


def method_names() -> Iterator[str]:
    """Yield every name that `find_method` takes.

    Example:
        >>> [name for name in method_names() if name.startswith("sarl-s2s")]
        ['sarl-s2s', 'sarl-s2s+p2s']
    """
    for base, method in METHODS.items():
        own = method.stages.get("contrastive", {})
        new = [short for short, loss in ADDED.items() if loss not in own]
        yield from ("+".join((base, *short)) for count in range(len(new) + 1) for short in permutations(new, count))


def with_contrast(method: Method, weights: Mapping[str, float]) -> Layer:
    """Return the layer of a method with contrastive losses in its second stage: beside its own, or those of its first.

    With S2S it has the memory bank of SADCL as well.
    """
    stages, loss = method.layer["stages"], method.layer["loss"]
    losses = stages["contrastive" if "contrastive" in method.stages else "classification"]["losses"]
    contrastive = {**stages["contrastive"], "losses": {**losses, **weights}}
    if "sample_to_sample" in weights:
        loss = {**loss, "sample_to_sample": {"bank_slots": BANK}}
    return {**method.layer, "loss": loss, "stages": {**stages, "contrastive": contrastive}}


# the rows of the published ablation (SADCL, ECAI 2023, ablation table), first the one the others are compared with
ABLATION = ("baseline", "sarl-no-encoder", "sarl", "sarl-s2s", "sarl-p2s", "sadcl")
