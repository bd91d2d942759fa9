"""Any of torchvision's networks, with weights from a file: frozen, partly frozen, or trained."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.registry.constraints import Count, CountOrZero
from reprkit.registry.create import is_restoring
from reprkit.types import Batch
from reprkit_vision.encoders import extraction
from reprkit_vision.encoders.inputs import HALF, IMAGENET, Normalise, group_norm


class Torchvision(Encoder):
    """One of torchvision's classification networks without its head; the cells of its last map are the tokens.

    With ``weights`` its BatchNorms keep the statistics that they were trained with; without, they are
    replaced by GroupNorm.  It always runs as in evaluation (no dropout, no stochastic depth), so that an
    image's features depend on no other image and two ranks equal one; gradients flow all the same.  A ViT
    gives its patches, not its class token; its positions are interpolated to the size of the images.

    Args:
        name: such as "efficientnet_b0", "resnet50", "convnext_tiny", "vit_b_16"; an unknown one lists all.
        weights: a local file of torchvision's weights for that network (.pth of a ``state_dict``, or
            .safetensors); None starts fresh.  A saved model holds them itself.
        freeze: "none", "all", or how many resolutions from the input on stay as they are (of a ViT: patches,
            then blocks).
        resize: pixels that images are resized to, for networks trained at 224; None leaves them.
        mean: of each of three channels, of values in [0, 1]; ImageNet's with weights, 0.5 without.
        std: deviation of each.
        data: the signature of what it reads, field ``x``, an image of three channels or one (h w c).

    Raises:
        PartArgumentError: no such network, or an argument out of its range.
        DataError: a file that is missing, or holds no weights of that network.
        BuildError: images that it cannot read.
    """

    def __init__(
        self,
        name: str = "efficientnet_b0",
        *,
        weights: str | None = None,
        freeze: Literal["none", "all"] | CountOrZero = "none",
        resize: Count | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        self.name = extraction.checked_name(name)
        usual = HALF if weights is None else IMAGENET
        self.normalise = Normalise(
            data, "encoder torchvision", channels=3, mean=mean or usual[0], std=std or usual[1]
        )
        self.resize = resize
        height, width = (resize or int(size or 0) for size in data["x"].shape[:2])
        self.vit = extraction.is_vit(self.name)
        shape = extraction.shape_of(self.name, height, width)
        self.out_dim = shape[-1] if self.vit else shape[1]
        side = round((shape[1] - 1) ** 0.5) if self.vit else 0
        self.cells = (side, side) if self.vit else (shape[2], shape[3])
        made = extraction.network(self.name, height, width, pretrained=weights is not None)
        if weights is None:
            _without_batch_norm(made)
        elif not is_restoring():
            _fill(made, Path(weights).expanduser(), self.name, height)
        self.body = extraction.cut(made, {extraction.plan(self.name).node: "x"})
        self.frozen = _freeze(self.body, self.name, freeze)
        self.whole = self.frozen == len(extraction.plan(self.name).stages)
        self.train()

    def train(self, mode: bool = True) -> Torchvision:
        """The part's mode; the network inside stays as in evaluation."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """The cells of the last map, or a ViT's patches (b n out_dim).

        Raises:
            BuildError: it was asked to read some tokens only.
        """
        if keep is not None:
            raise BuildError("encoder torchvision cannot read only some cells; use vit")
        image = self.normalise(batch["x"])
        image = image.expand(-1, 3, -1, -1)
        if self.frozen and not self.whole:
            # GroupNorm's backward on the CPU crashes (torch 2.11) where its input is channels-last and frozen.
            image = image.contiguous()
        if self.resize is not None:
            size = (self.resize, self.resize)
            image = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.whole):
            made = self.body(image)["x"]
        made = made[:, 1:] if self.vit else rearrange(made, "b d h w -> b (h w) d")
        return Features(x=made, grid=self.cells)

    def count(self, batch: Batch) -> int:
        """Cells of the last map."""
        return self.cells[0] * self.cells[1]

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Rows and columns of the last map."""
        return self.cells


def _without_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, group_norm(child.num_features))
        else:
            _without_batch_norm(child)


def _freeze(body: nn.Module, name: str, freeze: Any) -> int:
    """Let the first stages stay as they are; how many."""
    stages = extraction.plan(name).stages
    count = {"none": 0, "all": len(stages)}.get(freeze, freeze) if isinstance(freeze, str) else freeze
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= len(stages):
        listed = "; ".join(f"{number} {', '.join(each)}" for number, each in enumerate(stages, 1))
        raise PartArgumentError(
            f"freeze is 'none', 'all' or a number from 0 to {len(stages)}, not {freeze!r}\n"
            f"  the stages of {name}: {listed}"
        )
    if count == len(stages):
        body.requires_grad_(False)
    for block in (block for stage in stages[:count] for block in stage):
        body.get_submodule(block).requires_grad_(False)
    if count and extraction.is_vit(name):
        for part, value in body.named_parameters():
            if part in ("class_token", "encoder.pos_embedding"):
                value.requires_grad_(False)
    return count


def _fill(made: nn.Module, path: Path, name: str, height: int) -> None:
    """Read weights into the network; those of its head may be of other classes.

    Raises:
        DataError: no such file, not a file of weights, or of another network.
    """
    state = _read(path)
    if extraction.is_vit(name):
        state = _interpolated(state, made, height)
    own = made.state_dict()
    body = [
        key for key in own if key.partition(".")[0] not in ("classifier", "fc", "head", "heads", "AuxLogits")
    ]
    body = [key for key in body if not key.startswith("aux") and not key.endswith("num_batches_tracked")]
    missing = [key for key in body if key not in state]
    other = [key for key in body if key in state and state[key].shape != own[key].shape]
    if missing or other:
        few = ", ".join((missing or other)[:4])
        more = f" and {len(missing or other) - 4} more" if len(missing or other) > 4 else ""
        raise DataError(
            f"{path} does not hold the weights of {name}: it {'lacks' if missing else 'has other sizes of'} "
            f"{few}{more}\n  give the file of that network, or the name= of the network that it is of"
        )
    made.load_state_dict({key: value for key, value in state.items() if key in body}, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(
            f"no file of weights {str(path)!r}\n  nothing is downloaded: fetch torchvision's file yourself and name it"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read as weights: only a state_dict of tensors is, never other pickled objects\n"
            "  save one with torch.save(model.state_dict(), PATH)"
        ) from error
    except Exception as error:  # safetensors raises its own
        raise DataError(f"{str(path)!r} cannot be read as weights: {error}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{str(path)!r} holds no state_dict of tensors but {type(state).__name__}")
    return state


def _interpolated(state: dict[str, Tensor], made: nn.Module, height: int) -> dict[str, Tensor]:
    """A ViT's weights with the positions of this size of images."""
    held, wanted = state.get("encoder.pos_embedding"), made.state_dict()["encoder.pos_embedding"]
    if held is None or held.shape == wanted.shape or held.shape[-1] != wanted.shape[-1]:
        return state
    return dict(interpolate_embeddings(height, made.patch_size, dict(state)))
