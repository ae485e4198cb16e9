"""RNN-Att, our reading: a spatial transformer crops the map, an LSTM scores each crop, and the maximum over the steps counts.

Wang et al., "Multi-label Image Recognition by Recurrently Discovering Attentional Regions", ICCV 2017. Known from a
re-implementation: after a look at the whole map, each step crops it by a window that the state of the LSTM before it chose
(a scale and a shift, which begin as the whole map), to a grid of 14 x 14, halved by a maximum; a layer, the LSTM and another
layer give the state that is scored. The loss `penalty` spreads the windows over the image and keeps them smaller than half.

Departures: our classification loss on the largest score in place of the distance of a softmax to the labels, whose scores are no
probabilities of single labels; a map of another width than VGG-16's 512 is projected to it; the penalty is a mean over the steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.heads.interface import HeadInputs, HeadOutput, LinearHead, in_full_precision

ANCHORS = ((0.0, 0.0), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5))  # of the windows of the steps in turn
LARGEST, SMALLEST = 0.5, 0.1  # scale of a window that costs nothing


class RNNAttHead(LinearHead):
    """Windows of the map, one after the other.

    Example:
        >>> options = RNNAttHead.Options(width=8, inner=4, grid=4)  # 4096, 512 and 14 in the paper
        >>> head = RNNAttHead(channels=(16,), num_classes=3, options=options)
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the paper's."""

        width: int = Field(4096, ge=1, le=WIDEST, description="D, width of the state and of the label features")
        inner: int = Field(512, ge=1, le=WIDEST, description="channels of the map that windows are cut from")
        grid: int = Field(14, ge=2, le=64, description="locations along a side of a window; halved before the linear layer")
        steps: int = Field(5, ge=1, le=64, description="windows that are scored")

    PER_CLASS = ("weight", "bias")
    extendable = True

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,). The windows begin as the whole map."""
        super().__init__()
        (in_channels,) = channels
        self.width, self.steps, self.grid = options.width, options.steps, options.grid
        self.projection: nn.Module = nn.Identity() if in_channels == options.inner else nn.Conv2d(in_channels, options.inner, 1)
        self.window = nn.Linear(options.inner * (options.grid // 2) ** 2, self.width)
        self.lstm = nn.LSTMCell(self.width, self.width)
        self.state = nn.Linear(self.width, self.width)
        self.locate = nn.Linear(self.width, 4)
        nn.init.zeros_(self.locate.weight)
        nn.init.zeros_(self.locate.bias)
        self.add_classifier(num_classes)

    @classmethod
    def measured(cls, options: Section) -> frozenset[str]:
        """Return what the loss `penalty` reads."""
        return frozenset({"penalty"})

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), the state of each label's best step (B, K, D) and its window (B, K, h, w)."""
        (feature_map,) = inputs.maps
        projected = self.projection(feature_map)
        whole = torch.tensor([1.0, 1.0, 0.0, 0.0], device=projected.device)  # scales and shifts, x and y
        window = whole.expand(projected.shape[0], -1)
        hidden: tuple[Tensor, Tensor] | None = None
        states, windows = [], []
        for step in range(self.steps + 1):
            features = self.window(F.max_pool2d(self._crop(projected, window), 2).flatten(1)).relu()
            with in_full_precision(features):
                hidden = self.lstm(features.float(), hidden)
            state = self.state(hidden[0]).relu()
            if step:
                states.append(state)
                windows.append(window)
            window = whole + self.locate(state).float()
        all_states, all_windows = torch.stack(states, dim=1), torch.stack(windows, dim=1)  # (B, T, D), (B, T, 4)
        best = (all_states.float() @ self.weight.float().T).argmax(dim=1)[..., None]  # (B, K, 1); each step has the same bias
        label_features = all_states.gather(1, best.expand(-1, -1, self.width))
        attention = _inside(all_windows.detach().gather(1, best.expand(-1, -1, 4)), feature_map) if need_attention else None
        measures = {"penalty": _penalty(all_windows)}
        return HeadOutput(self.logits_of(label_features), label_features, attention, measures=measures)

    def _crop(self, projected: Tensor, window: Tensor) -> Tensor:
        """Return windows (B, C, grid, grid) of maps, bilinear, zero outside."""
        scale, shift = window[:, None, None].chunk(2, dim=-1)  # (B, 1, 1, 2)
        with in_full_precision(projected):
            side = torch.linspace(-1, 1, self.grid, device=projected.device)
            places = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1) * scale + shift
            return F.grid_sample(projected.float(), places, align_corners=True)


def _inside(windows: Tensor, feature_map: Tensor) -> Tensor:
    """Return an even share for each location inside windows (B, K, 4), and a trace of it elsewhere: (B, K, h, w)."""
    inside = []
    for axis, count in ((1, feature_map.shape[-2]), (0, feature_map.shape[-1])):
        places = torch.linspace(-1, 1, count, device=windows.device)
        inside.append((places - windows[..., 2 + axis, None]).abs() <= windows[..., axis, None].abs())
    shares = (inside[0][..., :, None] & inside[1][..., None, :]).float() + 1e-6
    return shares / shares.sum(dim=(2, 3), keepdim=True)


def _penalty(windows: Tensor) -> Tensor:
    """Return what windows (B, T, 4) cost an image, mean over the steps: too large, far from their anchors, turned over."""
    anchors = torch.tensor([ANCHORS[step % len(ANCHORS)] for step in range(windows.shape[1])], device=windows.device)
    scale, shift = windows.chunk(2, dim=-1)
    large = (scale.abs() - LARGEST).relu().square().sum(dim=-1)
    far = 0.5 * (shift - anchors).square().sum(dim=-1)
    turned = (SMALLEST - scale).relu().sum(dim=-1)
    return (large + 0.01 * far + 0.1 * turned).mean(dim=1)
