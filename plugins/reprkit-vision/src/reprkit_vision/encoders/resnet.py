"""Residual networks for training from scratch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Width
from reprkit.types import Batch
from reprkit_vision.encoders.inputs import Normalize, group_norm

# depth -> block, blocks per stage (He et al. 2016, table 1)
DEPTHS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
_SMALL = 64  # pixels of the shorter side up to which the small stem is the default


class ResNet(Encoder):
    """ResNet (He et al. 2016, arXiv 1512.03385) of torchvision's blocks, with GroupNorm.

    The cells of its last feature map are the tokens (b n d), ``grid`` their rows and columns.

    The small stem is a 3 x 3 convolution, so images of 32 pixels give 4 x 4 cells (Chen et al. 2020, arXiv
    2002.05709, appendix B.9); the large one is the paper's 7 x 7 convolution of stride 2 with max-pooling, with which
    224 pixels give 7 x 7 cells.  Every stage but the first halves the map.

    Args:
        depth: 10, 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        width: channels of the first stage; each further stage doubles them.
        stages: number of stages, 1 to 4; fewer give larger maps and fewer parameters.
        stem: "small", "large", or None: small up to 64 pixels.
        data: the signature of the data; field ``x`` is an image (h w c) with a range.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or has no range.
    """

    def __init__(
        self,
        depth: Literal[10, 18, 34, 50, 101, 152] = 18,
        *,
        width: Width = 64,
        stages: Annotated[int, Ge(1), Le(4)] = 4,
        stem: Literal["small", "large"] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        channels = data["x"].channels
        half = (0.5,) * channels
        self.normalize = Normalize(data, "encoder resnet", mean=half, std=half)
        rows, columns = (int(size or 0) for size in data["x"].shape[:2])
        large = (min(rows, columns) > _SMALL) if stem is None else stem == "large"
        block, counts = DEPTHS[depth]
        self.stem = _make_stem(channels, width, large)
        layers, in_channels = [], width
        for stage, count in enumerate(counts[:stages]):
            planes = width * 2**stage
            for number in range(count):
                stride = 2 if stage and not number else 1
                layers.append(_make_block(block, in_channels, planes, stride))
                in_channels = planes * block.expansion
        self.layers = nn.Sequential(*layers)
        self.out_dim = in_channels
        halvings = stages - 1 + 2 * large
        self.cells = -(-rows // 2**halvings), -(-columns // 2**halvings)  # odd sizes are rounded up
        _initialize(self)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """The cells of the last feature map (b n out_dim).

        Raises:
            BuildError: ``keep`` was given: the receptive fields of neighboring cells overlap.
        """
        if keep is not None:
            raise BuildError("encoder resnet cannot read only some cells: they overlap; use vit")
        features = self.layers(self.stem(self.normalize(batch["x"])))
        return Features(x=rearrange(features, "b d h w -> b (h w) d"), grid=self.cells)

    def count(self, batch: Batch) -> int:
        """Number of cells of the last feature map."""
        return self.cells[0] * self.cells[1]

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Rows and columns of the last feature map."""
        return self.cells


def _make_stem(channels: int, width: int, large: bool) -> nn.Sequential:
    first = nn.Conv2d(channels, width, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
    layers = nn.Sequential(first, group_norm(width), nn.ReLU(inplace=True))
    if large:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return layers


def _make_block(
    block: type[BasicBlock | Bottleneck], in_channels: int, planes: int, stride: int
) -> nn.Module:
    """A block of torchvision, with a 1 x 1 convolution as the shortcut if sizes differ."""
    shortcut, out_channels = None, planes * block.expansion
    if stride != 1 or in_channels != out_channels:
        conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
        shortcut = nn.Sequential(conv, group_norm(out_channels))
    return block(in_channels, planes, stride=stride, downsample=shortcut, norm_layer=group_norm)


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    """Initialize convolutions as torchvision does (He et al. 2015, arXiv 1502.01852)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
