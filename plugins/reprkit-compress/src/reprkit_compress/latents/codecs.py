"""Standard codecs as latents: JPEG and WebP between two networks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from reprkit import Code, Features, Latent
from reprkit.errors import CompressionError, PartArgumentError
from reprkit.interfaces import require
from reprkit.latents.functional import straight_through, zero_padding
from reprkit.registry.constraints import NonNegative
from reprkit_compress.latents.map_layout import map_shape
from reprkit_compress.layers.dct_rate import dct_rate

Quality = Annotated[int, Ge(1), Le(100)]
Sampling = Literal["4:4:4", "4:2:0"]
_LARGEST = 2**14  # pixels a side of a picture: WebP's limit


class Codec(Latent):
    """Base of latents that write their code as a picture of a standard codec.

    Tokens are pixels in the order of ``features.grid`` (rows, columns); without such a grid they are one row.  Features in [0, 1]
    are black to white, others are cut.  ``z`` is the picture that the codec gives back, in training too; its gradient is that of
    the features (straight-through).

    Args:
        channels: 1, a gray picture, or 3, an RGB picture.
        quality: of the codec.
        beta: weight of loss "rate".

    Attributes:
        quality: of what is written from now on; a string is read at any.
    """

    collapse_floor = 0.0
    format: ClassVar[str]

    def __init__(self, channels: int, quality: int, beta: float) -> None:
        require(channels in (1, 3), f"a picture has 1 or 3 channels, and channels is {channels}")
        super().__init__(in_dim=channels, out_dim=channels, weights={"rate": float(beta)})
        self.quality = quality

    @property
    def rate(self) -> float:
        """The quality, as a rate."""
        return float(self.quality)

    @rate.setter
    def rate(self, value: float) -> None:
        self.quality = round(value)

    def options(self) -> dict[str, Any]:
        """Return Pillow's options of the codec."""
        raise NotImplementedError

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n channels).

        Raises:
            PartArgumentError: features that are not finite, or a picture that is larger than the codec allows.
        """
        x = zero_padding(features).float()
        rows, _ = map_shape(features)
        cut = straight_through(x.detach().clamp(0, 1), x)  # features beyond black and white find back
        pictures = rearrange(cut, "b (h w) c -> b h w c", h=rows)
        require(
            bool(torch.isfinite(cut).all()),
            f"{self.format} writes no picture of features that are not finite",
        )
        payload = tuple(self.encode(picture) for picture in pictures.detach().cpu())
        decoded = torch.stack([self.decode(string, pictures.shape[1:]) for string in payload]).to(x)
        z = straight_through(rearrange(decoded, "b h w c -> b (h w) c"), cut)
        if features.mask is not None:
            z = z.masked_fill(~features.mask.unsqueeze(-1), 0.0)
        bits = torch.tensor([8.0 * len(string) for string in payload], device=x.device)
        losses = {}
        if self.training and self.weights["rate"]:
            losses["rate"] = self._rate(pictures, bits)
        return Code.of(
            features,
            z=z.to(features.x.dtype),
            bits=bits,
            payload=None if self.training else payload,
            losses=losses,
        )

    def _rate(self, pictures: Float[Tensor, "b h w c"], bits: Float[Tensor, " b"]) -> Float[Tensor, ""]:
        """Return the nats of the bytes, an example, with the gradient of ``dct_rate`` rescaled to them."""
        estimate = dct_rate(pictures, self.quality)
        real = bits * np.log(2)
        return (estimate * (real / estimate.detach().clamp(min=1.0))).mean()

    def encode(self, picture: Float[Tensor, "h w c"]) -> bytes:
        """Return the file of a picture in [0, 1].

        Raises:
            PartArgumentError: the picture is larger than the codec allows.
        """
        require(
            max(picture.shape[:2]) <= _LARGEST,
            f"{self.format} takes pictures of up to {_LARGEST:,} pixels a side, and this one has {picture.shape[0]:,} x "
            f"{picture.shape[1]:,}",
        )
        levels = (picture * 255).round().to(torch.uint8).numpy()
        file = io.BytesIO()
        Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(
            file, self.format, **self.options()
        )
        return file.getvalue()

    def decode(self, string: bytes, shape: Sequence[int]) -> Float[Tensor, "h w c"]:
        """Return the picture of a file in [0, 1].

        Raises:
            CompressionError: the bytes are no picture of this codec, or one of another size.
        """
        try:
            with Image.open(io.BytesIO(string), formats=(self.format,)) as opened:
                if (opened.height, opened.width) != tuple(shape[:2]):
                    raise CompressionError(
                        f"the {self.format} picture has {opened.height} x {opened.width} pixels, and its code "
                        f"{shape[0]} x {shape[1]}"
                    )
                levels = np.array(opened.convert("L" if shape[2] == 1 else "RGB"))
        except CompressionError:
            raise
        except Exception as error:  # Pillow raises many kinds
            raise CompressionError(f"a {self.format} picture cannot be decoded: {error}") from error
        return torch.from_numpy(levels.reshape(tuple(shape))).float() / 255

    def write(self, code: Code) -> list[bytes]:
        """Return the files of the pictures.

        Raises:
            PartArgumentError: the code holds no files: it was made in training, or was changed.
        """
        if code.payload is not None and torch.equal(self.read(code.payload, code).z, code.z):
            return list(code.payload)
        raise PartArgumentError(
            f"this code is not what {self.format} gives back: it was made in training or changed after. Encode in evaluation mode"
        )

    def read(self, strings: Sequence[bytes], like: Code) -> Code:
        """Invert ``write``; see ``Latent.read``."""
        shape = (*map_shape(like), like.z.shape[-1])
        pictures = torch.stack([self.decode(string, shape) for string in strings])
        z = rearrange(pictures, "b h w c -> b (h w) c").to(like.z)
        if like.mask is not None:
            z = z.masked_fill(~like.mask.unsqueeze(-1), 0.0)
        return Code.of(like, z=z, bits=None, payload=tuple(strings))


class Jpeg(Codec):
    """JPEG between two networks (Jiang et al. 2017, arXiv 1708.00838): the code is the picture that JPEG gives back.

    ::

        x (b h*w channels), a small picture in [0, 1] ──► JPEG's bytes ──► z, the decoded picture
        loss "rate": size of the bytes, nats an example, in training

    The paper trains the encoder without the codec, since its gradient is zero; here the gradient passes straight through the real
    codec. That of the rate is the one of log2(1 + |c| / step) over the coefficients c of the blocks' cosine transform, rescaled
    to the real size. Without ``beta`` the encoder may raise contrast at the cost of any number of bits.

    Features reach the codec through the core's linear adapter, so an encoder that ends in a picture (``compact``) starts as that
    picture.  Strings are complete JPEG files, with optimized tables.

    Args:
        channels: 1 or 3.
        quality: of JPEG, 1 to 100; also an attribute, which may be set after training.
        sampling: "4:2:0" halves the resolution of colors.
        beta: weight of loss "rate".

    Raises:
        PartArgumentError: an argument out of its range.
    """

    format = "JPEG"

    def __init__(
        self,
        channels: Literal[1, 3] = 3,
        *,
        quality: Quality = 50,
        sampling: Sampling = "4:2:0",
        beta: NonNegative = 0.0,
    ) -> None:
        super().__init__(channels, quality, beta)
        self.sampling = sampling

    def options(self) -> dict[str, Any]:
        """Return Pillow's options."""
        found: dict[str, Any] = {"quality": self.quality, "optimize": True}
        return found if self.out_dim == 1 else {**found, "subsampling": self.sampling}


class Webp(Codec):
    """WebP between two networks: as ``jpeg``, with the lossy codec of WebP, whose colors have half the resolution.

    The gradient of loss "rate" is that of JPEG's cosine transform; its value is the size of WebP's bytes.  A gray picture is
    written as one of three equal channels, since WebP has no gray ones, and read as gray.

    Args:
        channels: 1 or 3.
        quality: of WebP, 1 to 100; also an attribute, which may be set after training.
        method: effort, 0 to 6.
        beta: weight of loss "rate".

    Raises:
        PartArgumentError: an argument out of its range.
    """

    format = "WEBP"

    def __init__(
        self,
        channels: Literal[1, 3] = 3,
        *,
        quality: Quality = 50,
        method: Annotated[int, Ge(0), Le(6)] = 4,
        beta: NonNegative = 0.0,
    ) -> None:
        super().__init__(channels, quality, beta)
        self.method = method

    def options(self) -> dict[str, Any]:
        """Return Pillow's options."""
        return {"quality": self.quality, "method": self.method}
