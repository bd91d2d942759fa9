"""Short digests of the weights that give a code its meaning, by which a string of bytes knows its model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from reprkit.models.model import Model


def fingerprint(model: Model) -> bytes:
    """Return 4 bytes that depend on all that turns symbols into an output: latents, their tables, adapters and decoder.

    Encoders and objectives are left out: they may change without changing what a string stands for.
    """
    digest = hashlib.blake2b(digest_size=4)
    for name, factor in model.factors.items():
        tables = factor.latent.frequencies()
        digest.update(repr((name, type(factor.latent).__qualname__, factor.latent.vocab)).encode())
        _hash_tensors(digest, {} if tables is None else {"frequencies": tables})
    encoding = ("objective.", *(f"factors.{name}.{part}." for name in model.factors for part in _ENCODING))
    _hash_tensors(digest, {k: v for k, v in model.state_dict().items() if not k.startswith(encoding)})
    return digest.digest()


_ENCODING = ("encoder", "adapter", "conditioner", "usage")  # what a factor has before its latent


def module_fingerprint(module: nn.Module) -> bytes:
    """Return 4 bytes that depend on all weights and buffers of a module."""
    digest = hashlib.blake2b(digest_size=4)
    _hash_tensors(digest, module.state_dict())
    return digest.digest()


def _hash_tensors(digest: hashlib.blake2b, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
