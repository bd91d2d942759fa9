"""Any classification network of torchvision as an encoder, with weights from a file: frozen, partly frozen, or trained."""

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
from reprkit.registry.constraints import Count, CountOrZero, Positive, Real
from reprkit.registry.create import is_restoring
from reprkit.types import Batch
from reprkit_vision.encoders import extraction
from reprkit_vision.encoders.inputs import HALF, IMAGENET, Normalize, group_norm


class Torchvision(Encoder):
    """A classification network of torchvision without its head; the cells of its last feature map are the tokens.

    With ``weights`` its BatchNorm layers keep their trained statistics; without, they are replaced by GroupNorm.
    The network always runs in evaluation mode (no dropout, no stochastic depth), so that an image's features
    depend on no other image and training on two ranks equals training on one; gradients flow all the same.  A ViT
    returns its patch tokens without the class token; its position embeddings are interpolated to the image size.

    Args:
        name: such as "efficientnet_b0", "resnet50", "convnext_tiny", "vit_b_16"; the error for an unknown name lists all.
        weights: a local file of torchvision's weights for that network (.pth of a ``state_dict``, or
            .safetensors); None initializes at random.  A saved model contains the weights.
        freeze: "none", "all", or the number of stages, one per resolution from the input on, to freeze (of a ViT: the
            patch embedding, then the blocks).
        resize: side in pixels to resize images to, for networks trained at 224; None leaves them.
        mean: of each of three channels, of values in [0, 1]; ImageNet's with weights, 0.5 without.
        std: standard deviation of each channel; ImageNet's with weights, 0.5 without.
        data: the signature of the data; field ``x`` is an image (h w c) of three channels or one.

    Raises:
        PartArgumentError: no such network, or an argument out of its range.
        DataError: a file that is missing, or does not hold the weights of that network.
        BuildError: images that the network cannot read.
    """

    def __init__(
        self,
        name: str = "efficientnet_b0",
        *,
        weights: str | None = None,
        freeze: Literal["none", "all"] | CountOrZero = "none",
        resize: Count | None = None,
        mean: tuple[Real, Real, Real] | None = None,
        std: tuple[Positive, Positive, Positive] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        self.name = extraction.check_name(name)
        default = HALF if weights is None else IMAGENET
        self.normalize = Normalize(
            data, "encoder torchvision", channels=3, mean=mean or default[0], std=std or default[1]
        )
        self.resize = resize
        height, width = (resize or int(size or 0) for size in data["x"].shape[:2])
        self.vit = extraction.is_vit(self.name)
        shape = extraction.output_shape(self.name, height, width)
        self.out_dim = shape[-1] if self.vit else shape[1]
        side = round((shape[1] - 1) ** 0.5) if self.vit else 0
        self.cells = (side, side) if self.vit else (shape[2], shape[3])
        network = extraction.make_network(self.name, height, width, pretrained=weights is not None)
        if weights is None:
            _replace_batch_norm(network)
        elif not is_restoring():
            _load_weights(network, Path(weights).expanduser(), self.name, height)
        plan = extraction.plan_cut(self.name)
        self.body = extraction.cut_network(network, {plan.node: "x"})
        self.frozen = _freeze(self.body, self.name, freeze)
        self.whole = self.frozen == len(plan.stages)  # everything is frozen
        self.train()

    def train(self, mode: bool = True) -> Torchvision:
        """Set the part's mode; the network inside stays in evaluation mode."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """The cells of the last feature map, or a ViT's patch tokens (b n out_dim).

        Raises:
            BuildError: ``keep`` was given.
        """
        if keep is not None:
            raise BuildError("encoder torchvision cannot read only some cells; use vit")
        image = self.normalize(batch["x"])
        image = image.expand(-1, 3, -1, -1)
        if self.frozen and not self.whole:
            # GroupNorm's backward on the CPU crashes (torch 2.11) if its input is channels-last and frozen.
            image = image.contiguous()
        if self.resize is not None:
            size = (self.resize, self.resize)
            image = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.whole):
            features = self.body(image)["x"]
        tokens = features[:, 1:] if self.vit else rearrange(features, "b d h w -> b (h w) d")
        return Features(x=tokens, grid=self.cells)

    def count(self, batch: Batch) -> int:
        """Number of cells of the last feature map."""
        return self.cells[0] * self.cells[1]

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Rows and columns of the last feature map."""
        return self.cells


def _replace_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, group_norm(child.num_features))
        else:
            _replace_batch_norm(child)


def _freeze(body: nn.Module, name: str, freeze: Any) -> int:
    """Freeze the first stages; return their number."""
    stages = extraction.plan_cut(name).stages
    count = {"none": 0, "all": len(stages)}.get(freeze, freeze) if isinstance(freeze, str) else freeze
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= len(stages):
        listed = "; ".join(f"{number} {', '.join(blocks)}" for number, blocks in enumerate(stages, 1))
        raise PartArgumentError(
            f"freeze must be 'none', 'all' or a number from 0 to {len(stages)}, not {freeze!r}\n"
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


def _load_weights(network: nn.Module, path: Path, name: str, height: int) -> None:
    """Load weights into the network, without those of its head, which may be for other classes.

    Raises:
        DataError: no such file, not a file of weights, or of another network.
    """
    state = _read_weights(path)
    if extraction.is_vit(name):
        state = _interpolate_positions(state, network, height)
    own = network.state_dict()
    body = [
        key for key in own if key.partition(".")[0] not in ("classifier", "fc", "head", "heads", "AuxLogits")
    ]
    body = [key for key in body if not key.startswith("aux") and not key.endswith("num_batches_tracked")]
    missing = [key for key in body if key not in state]
    mismatched = [key for key in body if key in state and state[key].shape != own[key].shape]
    if missing or mismatched:
        faulty = missing or mismatched
        more = f" and {len(faulty) - 4} more" if len(faulty) > 4 else ""
        raise DataError(
            f"{path} does not hold the weights of {name}: it {'lacks' if missing else 'has other sizes of'} "
            f"{', '.join(faulty[:4])}{more}\n  give the file of that network, or the name= of the file's network"
        )
    network.load_state_dict({key: value for key, value in state.items() if key in body}, strict=False)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(
            f"no file of weights {str(path)!r}\n  nothing is downloaded: fetch torchvision's file and give its path"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read as weights: only a state_dict of tensors is read, never other pickled objects\n"
            "  save one with torch.save(model.state_dict(), PATH)"
        ) from error
    except Exception as error:  # safetensors raises its own
        raise DataError(f"{str(path)!r} cannot be read as weights: {error}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(
            f"{str(path)!r} holds no state_dict of tensors but an object of type {type(state).__name__}"
        )
    return state


def _interpolate_positions(state: dict[str, Tensor], network: nn.Module, height: int) -> dict[str, Tensor]:
    """A ViT's weights with its position embeddings interpolated to this image size."""
    name = "encoder.pos_embedding"
    positions, expected = state.get(name), network.state_dict()[name]
    if positions is None or positions.shape == expected.shape or positions.shape[-1] != expected.shape[-1]:
        return state
    return dict(interpolate_embeddings(height, network.patch_size, dict(state)))
