"""The equations of every head, slowly: what it gives with its weights for what it sees, by the names in `HeadOutput`.

Layers that several heads share and that have a test of their own are taken from them: in `test_graphs.py` the graphs and the
attention of words, in `test_layers.py` positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sadcl_core.model.graphs import conditional_probabilities, reweighted_adjacency
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.model.layers import sine_position_encoding
from tests.core.model.heads.inputs import facts_of, linear


def locations_of(layer: Any, feature_map: Tensor) -> Tensor:
    """A convolution of 1 x 1, or none, at each location: (B, L, D)."""
    locations = feature_map.flatten(2).mT
    if isinstance(layer, nn.Identity):
        return locations
    features: Tensor = locations @ layer.weight.flatten(1).T
    return features if layer.bias is None else features + layer.bias


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, root: float) -> tuple[Tensor, Tensor]:
    """What each part of the queries reads by its part of the keys, and the mean of the shares."""
    read, shares = [], []
    for q, k, v in zip(*(x.chunk(heads, dim=-1) for x in (queries, keys, values)), strict=True):
        shares.append((q @ k.mT / root).softmax(dim=-1))
        read.append(shares[-1] @ v)
    return torch.cat(read, dim=-1), torch.stack(shares).mean(dim=0)


def multihead(layer: Any, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, key, value), weights, biases, strict=True))
    read, shares = attend(q, k, v, layer.num_heads, layer.head_dim**0.5)
    return linear(layer.out_proj, read), shares


def feedforward(layer: Any, x: Tensor) -> Tensor:
    inner, unit, _, outer, _ = layer.layers
    return torch.as_tensor(layer.norm(x + linear(outer, unit(linear(inner, x)))))


def encoded(layer: Any, x: Tensor, position: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """An encoder layer, and its attention."""
    read, shares = multihead(layer.attention, x + position, x + position, x)
    return feedforward(layer.feedforward, layer.norm(x + read)), shares


def per_class(head: Any, features: Tensor) -> Tensor:
    """A linear classifier for each class."""
    return torch.stack([features[:, k] @ head.weight[k] + head.bias[k] for k in range(len(head.weight))], dim=1)


def positions_of(feature_map: Tensor, width: int) -> Tensor:
    rows, columns = feature_map.shape[-2:]
    return sine_position_encoding(rows, columns, width)


def on_map(shares: Tensor, feature_map: Tensor) -> Tensor:
    """Shares of the locations (B, K, L) as maps that sum to 1."""
    maps: Tensor = (shares / shares.sum(dim=2, keepdim=True)).unflatten(2, feature_map.shape[-2:])
    return maps


FACTS = facts_of([0, 1, 2])
CONDITIONAL = conditional_probabilities(FACTS)
GRAPH = reweighted_adjacency(CONDITIONAL)


def sarl(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    (feature_map,) = inputs.maps
    memory, position = (
        locations_of(head.input_projection, feature_map),
        positions_of(feature_map, head.width),
    )
    for layer in head.encoder:
        memory, _ = encoded(layer, memory, position)
    x, shares = torch.zeros(len(memory), *head.class_embedding.shape), memory
    for layer in head.decoder:
        if layer.self_attention is not None:
            asking = x + head.class_embedding
            x = layer.self_norm(x + multihead(layer.self_attention, asking, asking, x)[0])
        read, shares = multihead(layer.cross_attention, x + head.class_embedding, memory + position, memory)
        x = feedforward(layer.feedforward, layer.norm(x + read))
    features = head.decoder_norm(x)
    return {"logits": per_class(head, features), "label_features": features, "attention": on_map(shares, feature_map)}


def mulcon(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    def look(block: Any, queries: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Set attention: the residual is the projected query, and the root that of the whole width."""
        query = linear(block.query, queries)
        read, shares = attend(query, linear(block.key, members), linear(block.value, members), 2, query.shape[-1] ** 0.5)
        x = block.norm(query + read)
        return block.layer_norm(x + linear(block.layer, x).relu()), shares

    (feature_map,) = inputs.maps
    tokens = feature_map.flatten(2).mT
    for block in head.token_blocks:
        tokens, _ = look(block, tokens, tokens)
    features, shares = look(head.label_attention, head.label_tokens.expand(len(tokens), -1, -1), tokens)
    for block in head.label_blocks:
        features, _ = look(block, features, features)
    return {"logits": per_class(head, features), "label_features": features, "attention": on_map(shares, feature_map)}


def pooled(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    x = inputs.maps[0].flatten(2)
    kinds = {"mean": x.mean(dim=2), "max": x.amax(dim=2), "gem": x.clamp(min=1e-6).pow(3).mean(dim=2).pow(1 / 3)}
    feature = kinds[head.pooling]
    logits = linear(head.classifier, feature)
    return {"logits": logits, "label_features": feature[:, None].expand(-1, logits.shape[1], -1)}


def csra(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    (feature_map,) = inputs.maps
    x = feature_map.flatten(2).mT
    logits, attention = torch.zeros(len(x), len(head.weight)), torch.zeros(len(x), len(head.weight), x.shape[1])
    for image, k, (number, temperature) in product(range(len(x)), range(len(head.weight)), enumerate(head.temperatures)):
        vector = head.weight[k, number] / head.weight[k, number].norm()
        scores = torch.stack([vector @ location for location in x[image]])
        powers = (scores == scores.max()).float() if math.isinf(temperature) else (temperature * scores).exp()
        shares = powers / powers.sum()
        logits[image, k] += scores.mean() + head.attention_weight * (shares * scores).sum()
        attention[image, k] += shares / len(head.temperatures)
    features = x.mean(dim=1, keepdim=True) + head.attention_weight * attention @ x
    return {"logits": logits, "label_features": features, "attention": on_map(attention, feature_map)}


def ml_decoder(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    """Queries are the normalised noise, keys and values the projected locations, without positions."""
    (feature_map,) = inputs.maps
    tokens = linear(head.input_projection, feature_map.flatten(2).mT).relu()
    queries = head.query_norm(2 * head.queries).expand(len(tokens), -1, -1)
    read, shares = multihead(head.attention, queries, tokens, tokens)
    features = feedforward(head.feedforward, head.norm(queries + read))
    size = -(-len(head.weight) // len(head.queries))
    group = [k // size for k in range(len(head.weight))]
    features = features[:, group]
    own = features * head.weight if size > 1 else features
    return {"logits": per_class(head, features), "label_features": own, "attention": on_map(shares[:, group], feature_map)}


def generated(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    """ML-GCN: two graph convolutions of the words. DSDL: ridge regression on a dictionary made of them."""
    (feature_map,) = inputs.maps
    gcn = head.options.generator == "gcn"
    graph = GRAPH if gcn else torch.eye(3)
    rows = graph @ F.leaky_relu(graph @ head.words @ head.first, 0.2) @ head.second
    if not gcn:
        rows = (rows @ rows.T + head.options.ridge * torch.eye(3)).inverse() @ rows
    pool = torch.amax if head.options.pooling == "max" else torch.mean
    feature = pool(feature_map, dim=(2, 3))
    return {"logits": feature @ rows.T, "label_features": feature[:, None].expand(-1, 3, -1)}


def add_gcn(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    (feature_map,) = inputs.maps
    scores = locations_of(head.masks, feature_map).mT  # (B, K, L)
    nodes = scores.sigmoid() @ locations_of(head.projection, feature_map)
    heard = torch.stack([sum(head.static[k, i] * nodes[:, i] for i in range(3)) for k in range(3)], dim=1)
    hidden = nodes + F.leaky_relu(linear(head.static_layer, F.leaky_relu(heard, 0.2)), 0.2)
    features = nodes + head.dynamic(hidden, hidden.mean(dim=1))
    graph, masks = per_class(head, features), scores.amax(dim=2)
    branches = {"auxiliary.graph": graph, "auxiliary.masks": masks}
    attention = on_map(scores.sigmoid(), feature_map)
    return {"logits": (graph + masks) / 2, "label_features": features, "attention": attention, **branches}


def ssgrl(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    """Four locations are one, words look, classes speak, and what was seen is seen again beside what was heard."""
    (feature_map,) = inputs.maps
    coarse = feature_map.unfold(2, head.pool, head.pool).unfold(3, head.pool, head.pool).mean(dim=(4, 5))
    seen, shares = head.attention(locations_of(head.input_projection, coarse), FACTS.vectors)
    features = linear(head.output, torch.cat([head.network(seen, CONDITIONAL), seen], dim=2)).tanh()
    weight = head.weight
    if head.classifier_network is not None:  # KGGR: classes lend each other weights
        heard = head.classifier_network(weight[None], CONDITIONAL)[0]
        weight = linear(head.classifier_output, torch.cat([heard, weight], dim=1))
    fine = on_map(shares, coarse).repeat_interleave(head.pool, 2).repeat_interleave(head.pool, 3) / head.pool**2
    return {"logits": (features * weight).sum(dim=2) + head.bias, "label_features": features, "attention": fine}


def c_tran(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    (feature_map,) = inputs.maps
    locations, shares = locations_of(head.input_projection, feature_map), feature_map
    assert inputs.known is not None
    states = torch.stack([head.states[0], head.states[1], torch.zeros(head.width)])  # inactive, active, and -1: unknown
    labels = head.class_embedding + torch.stack([torch.stack([states[int(state)] for state in row]) for row in inputs.known])
    x, count = head.norm(torch.cat([locations, labels], dim=1)), locations.shape[1]
    for layer in head.encoder:
        x, shares = encoded(layer, x)
    features = x[:, count:]
    attention = on_map(shares[:, count:, :count], feature_map)  # what goes to labels is left out
    return {"logits": per_class(head, features), "label_features": features, "attention": attention}


def tdrg(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    def resized(x: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)

    shallow, deep = inputs.maps
    scales = [head.fine(shallow), head.middle(deep), head.coarse(deep)]
    together = scales[0] * resized(scales[1], shallow.shape[-2:]) * resized(scales[2], shallow.shape[-2:])
    x = [(scale + resized(together, scale.shape[-2:])).flatten(2).mT for scale in scales]
    for layer in head.encoder:
        x = [encoded(layer, tokens)[0] for tokens in x]
    structural = linear(head.structural, torch.cat([tokens.amax(dim=1) for tokens in x], dim=1))
    scores = locations_of(head.masks, deep).mT
    masks = scores.sigmoid()
    nodes = torch.cat([masks @ locations_of(head.content, deep), linear(head.context, masks @ x[1])], dim=2)
    features = nodes + head.dynamic(nodes, torch.cat([tokens.mean(dim=1) for tokens in x], dim=1))
    graph = per_class(head, features)
    branches = {
        "structural": structural,
        "graph": graph,
        "masks": scores.sort(dim=2).values[:, :, -2:].mean(dim=2),
    }  # of 48 a twentieth
    return {
        "logits": 0.7 * structural + 0.3 * graph,
        "label_features": features,
        "attention": on_map(masks, deep),
        **{f"auxiliary.{name}": logits for name, logits in branches.items()},
    }


def adahgnn(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    shares = head.incidence.sigmoid()
    nodes, edges = shares.sum(dim=1), shares.sum(dim=0)
    graph = torch.zeros(3, 3)
    for i, j in product(range(3), range(3)):
        graph[i, j] = (shares[i] * shares[j] / edges).sum() / (nodes[i] * nodes[j]).sqrt()
    heard, words, looked = [], shares, shares
    for seen, attention, (first, second) in zip(inputs.maps, head.attention, head.layers, strict=True):
        words, looked = attention(seen.flatten(2).mT, head.words)
        heard.append(graph @ linear(second, (graph @ linear(first, words)).relu()))
    features = linear(head.output, torch.cat([*heard, words], dim=2)).tanh()
    return {"logits": per_class(head, features), "label_features": features, "attention": on_map(looked, inputs.maps[-1])}


def sst(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    (feature_map,) = inputs.maps
    size = feature_map.shape[-2:]
    x = locations_of(head.projection, feature_map)
    for layer in head.space:
        x, _ = encoded(layer, x, positions_of(feature_map, head.width))
    maps = (x @ head.maps.weight.flatten(1).T + head.maps.bias).relu().mT
    grid = F.interpolate(maps.unflatten(2, size), size=(head.grid, head.grid), mode="bilinear", align_corners=False)
    tokens = linear(head.token, grid.flatten(2))
    for layer in head.classes:
        tokens, _ = encoded(layer, tokens)
    space, classes = linear(head.spatial, x.amax(dim=1)), per_class(head, tokens)
    branches = {"auxiliary.space": space, "auxiliary.classes": classes}
    return {"logits": space + classes, "label_features": tokens, "attention": on_map(maps + 1e-6, feature_map), **branches}


def p_gcn(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    (feature_map,) = inputs.maps
    masks = locations_of(head.masks, feature_map).mT.sigmoid()
    nodes = masks @ locations_of(head.projection, feature_map)
    features = GRAPH @ linear(head.second, F.leaky_relu(GRAPH @ linear(head.first, nodes), 0.2))
    return {"logits": per_class(head, features), "label_features": features, "attention": on_map(masks, feature_map)}


def ms_cma(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    embeddings = head.embedding(FACTS.vectors)
    features, z = [], embeddings
    for seen, projection in zip(inputs.maps, head.projections, strict=True):
        v = locations_of(projection, seen)
        z = F.cosine_similarity(v[:, None], embeddings[:, None], dim=-1).clamp(min=0) + 1e-6
        features.append((z[..., None] * v[:, None]).sum(dim=2) / z.sum(dim=2, keepdim=True))
    scores = [(f * w).sum(dim=2) for f, w in zip(features, head.weight.chunk(2, dim=1), strict=True)]
    total, count = torch.zeros(()), 0
    for i, j in product(range(3), range(3)):
        cosine, target = F.cosine_similarity(embeddings[i], embeddings[j], dim=0), (CONDITIONAL[i, j] + CONDITIONAL[j, i]) / 2
        if i != j and max(cosine, target) >= 0.4:
            total, count = total + (cosine - target) ** 2, count + 1
    return {
        "logits": (scores[0] + scores[1]) / 2 + head.bias,
        "label_features": torch.cat(features, dim=2),
        "attention": on_map(z, inputs.maps[-1]),
        "measures.penalty": (total / max(count, 1)).expand(len(scores[0])),
    }


def debiased(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    def cosines(x: Tensor, weight: Tensor) -> Tensor:
        total = torch.zeros(len(x), len(weight))
        for a, w in zip(x.chunk(2, dim=1), weight.chunk(2, dim=1), strict=True):
            total = total + 16 * (a / a.norm(dim=1, keepdim=True)) @ (w / (w.norm(dim=1, keepdim=True) + 1 / 32)).T
        return total

    feature, weight = inputs.maps[0].mean(dim=(2, 3)), head.first
    if inputs.prototypes is not None:  # the context that the first classifier sees is removed
        largest, shares = inputs.maps[0].amax(dim=(2, 3)), cosines(feature, weight).softmax(dim=1)
        feature, weight = largest - linear(head.context, largest).tanh() * (shares @ inputs.prototypes), head.second
    return {"logits": cosines(feature, weight), "label_features": feature[:, None].expand(-1, 3, -1)}


def cpcl(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    (feature_map,) = inputs.maps
    f = linear(head.image, feature_map.amax(dim=(2, 3)))
    prototypes = GRAPH @ linear(head.second, F.leaky_relu(GRAPH @ linear(head.first, head.words), 0.2))
    features, logits = [], []
    for k in range(3):
        u = linear(head.fusion, (f * linear(head.word, head.words[k])).tanh())
        both = torch.cat([u * prototypes[k], prototypes[k].expand(len(u), -1)], dim=1)
        near, far = ((u - linear(layer, both)).square().sum(dim=1).sqrt() for layer in (head.composed, head.decomposed))
        features.append(u)
        logits.append(far - near)
    flat = on_map(torch.ones(len(f), 3, feature_map[0, 0].numel()), feature_map)  # the map was pooled before classes appear
    return {"logits": torch.stack(logits, dim=1), "label_features": torch.stack(features, dim=1), "attention": flat}


def rnn_att(head: Any, inputs: HeadInputs) -> dict[str, Tensor]:
    """The whole map, and two windows; a grid of 4 x 4 that is halved."""
    (feature_map,) = inputs.maps
    height, width = feature_map.shape[-2:]
    logits, penalties, whole = [], [], torch.tensor([1.0, 1.0, 0.0, 0.0])
    for projected in head.projection(feature_map):
        memory, hidden, window, scores, penalty = torch.zeros(8), torch.zeros(8), whole, [], torch.zeros(())
        for step in range(3):
            crop = torch.zeros(4, 4, 4)
            for i, j in product(range(4), range(4)):
                x, y = ((-1 + 2 * place / 3) * window[axis] + window[2 + axis] for axis, place in ((0, j), (1, i)))
                column, row = (x + 1) / 2 * (width - 1), (y + 1) / 2 * (height - 1)
                for r, c in product(range(height), range(width)):
                    crop[:, i, j] += projected[:, r, c] * max(0, 1 - abs(float(row) - r)) * max(0, 1 - abs(float(column) - c))
            halved = crop.unflatten(2, (2, 2)).unflatten(1, (2, 2)).amax(dim=(2, 4))
            features = linear(head.window, halved.flatten()).relu()
            lstm = head.lstm
            gates = lstm.weight_ih @ features + lstm.bias_ih + lstm.weight_hh @ hidden + lstm.bias_hh
            put, keep, new, show = gates.chunk(4)
            memory = keep.sigmoid() * memory + put.sigmoid() * new.tanh()
            hidden = show.sigmoid() * memory.tanh()
            state = linear(head.state, hidden).relu()
            if step:
                scores.append(head.weight @ state + head.bias)
                scale, shift, anchor = window[:2], window[2:], torch.tensor([(0.0, 0.0), (0.5, 0.5)][step - 1])
                large, turned = (scale.abs() - 0.5).clamp(min=0).square(), 0.1 * (0.1 - scale).clamp(min=0)
                penalty = penalty + ((large + turned).sum() + 0.01 * 0.5 * (shift - anchor).square().sum()) / 2
            window = whole + linear(head.locate, state)
        logits.append(torch.stack(scores).amax(dim=0))
        penalties.append(penalty)
    return {"logits": torch.stack(logits), "measures.penalty": torch.stack(penalties)}


BY_HAND: dict[str, Callable[[Any, HeadInputs], dict[str, Tensor]]] = {
    function.__name__: function
    for function in (
        *(sarl, mulcon, pooled, csra, ml_decoder, generated, add_gcn, ssgrl, c_tran),
        *(tdrg, adahgnn, sst, p_gcn, ms_cma, debiased, cpcl, rnn_att),
    )
}
