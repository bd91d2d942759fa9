"""Pre-norm transformer blocks over torch's attention, with a cache for decoding token after token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.errors import BuildError
from reprkit.layers.dropout import Dropout
from reprkit.layers.field_checks import check_heads
from reprkit.layers.gather_rows import gather_rows, gather_tokens


def attention_mask(mask: Bool[Tensor, "b n"] | None, causal: bool) -> Bool[Tensor, "b 1 q k"] | None:
    """Which keys each query may look at; None where ``is_causal`` or nothing at all says it.

    A query without any valid key looks at itself (its output is masked anyway): a row without keys would be
    NaN.
    """
    if mask is None:
        return None
    if not causal:
        return (mask | ~mask.any(1, keepdim=True))[:, None, None]
    count = mask.shape[1]
    earlier = torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(count, dtype=torch.bool, device=mask.device)
    return ((mask[:, None] & earlier) | itself)[:, None]


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        queries: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """(b n d) to (b n d); ``mask`` as ``attention_mask`` makes it, ``only`` and ``index`` as in ``Blocks``."""
        if index is not None:
            query, key, value = self._distinct(x, queries, index)
        else:
            query, key, value = (
                self._project(x) if queries is None else self._asked(x, gather_tokens(x, queries))
            )
        seen = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal and mask is None
        )
        return self.out(rearrange(seen, "b h n d -> b n (h d)"))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, place: int, mask: Tensor | None) -> Tensor:
        """One token (b 1 d) at ``place``; writes its key and value into the caches (b h length d)."""
        size, heads, _, d = keys.shape
        # No rearrangement here: at one token it costs as much as the products.
        query, key, value = self.qkv(x).view(size, 3, heads, d).unbind(1)
        keys[:, :, place], values[:, :, place] = key, value
        known, query = slice(place + 1), query.unsqueeze(2)
        seen = F.scaled_dot_product_attention(query, keys[:, :, known], values[:, :, known], attn_mask=mask)
        return self.out(seen.reshape(size, 1, heads * d))

    def _asked(self, x: Tensor, asking: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        width = x.shape[-1]
        query = F.linear(asking, self.qkv.weight[:width], self.qkv.bias[:width])
        both = F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        key, value = both.chunk(2, dim=-1)
        return self._heads(query), self._heads(key), self._heads(value)

    def _distinct(self, rows: Tensor, queries: Tensor | None, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each of the rows (r d) is projected once, and then put wherever it stands."""
        made, width = self.qkv(rows), rows.shape[-1]
        if queries is None:
            query, key, value = gather_rows(made, index).chunk(3, dim=-1)
        else:
            query = gather_rows(made[:, :width], index.gather(1, queries))
            key, value = gather_rows(made[:, width:], index).chunk(2, dim=-1)
        return self._heads(query), self._heads(key), self._heads(value)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # not one rearrangement: its backward copies twice
        return self._heads(query), self._heads(key), self._heads(value)

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (h d) -> b h n d", h=self.heads)


class Block(nn.Module):
    """Attention and a perceptron, each after a LayerNorm and around a skip (pre-norm: arXiv 2002.04745)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        queries: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """(b n d), or (r d) with ``index``, to (b n d); with ``only`` (b m) just those tokens' output (b m d)."""
        seen = self.norm(x)
        if index is not None:
            x = gather_rows(x, index if queries is None else index.gather(1, queries))
        elif queries is not None:
            x = gather_tokens(x, queries)
        x = x + self.drop(self.attention(seen, mask, causal, queries, index))
        return x + self.drop(self.feed(x))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, place: int, mask: Tensor | None) -> Tensor:
        """One token (b 1 d), given the caches of those before it."""
        x = x + self.attention.step(self.norm(x), keys, values, place, mask)
        return x + self.feed(x)


class Blocks(nn.Module):
    """``depth`` blocks and a last LayerNorm, the trunk of every transformer here.

    Linear layers start Xavier-uniform with zero biases, as in the masked autoencoder's released code.
    """

    def __init__(
        self, width: int, *, depth: int, heads: int, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(heads, width)
        self.width, self.heads, self.causal = width, heads, causal
        self.drop = Dropout(dropout)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        x: Float[Tensor, "b n d"] | Float[Tensor, "r d"],
        mask: Bool[Tensor, "b n"] | None = None,
        *,
        queries: Int[Tensor, "b m"] | None = None,
        index: Int[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """(b n d) to (b n d); tokens where ``mask`` is False are seen by nobody else.

        With ``only``, indices of tokens, just their output (b m d): the last block spares the others.  With
        ``index`` (b n), ``x`` holds distinct tokens (r d) and the index says which of them stands where: the
        first block normalises and projects each of them once, however often it stands in the batch.
        """
        if queries is not None and self.causal:
            raise BuildError("queries= asks for some tokens' output, which causal blocks do not know")
        allowed = attention_mask(mask, self.causal)
        if index is not None and self.training and self.drop.p:
            x, index = gather_rows(x, index), None  # dropout makes them differ
        x = self.drop(x)
        last = len(self.blocks) - 1
        for place, block in enumerate(self.blocks):
            x = block(x, allowed, self.causal, queries if place == last else None, index)
            index = None
        return self.norm(x)

    def _each(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def caches(self, size: int, length: int) -> tuple[Tensor, Tensor]:
        """Room for the keys and the values of ``length`` tokens: twice (depth b h length d), made once."""
        weight = self.norm.weight
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        shape = (len(self.blocks), size, self.heads, length, self.width // self.heads)
        room = torch.zeros(2, *shape, dtype=dtype, device=weight.device)
        return room[0], room[1]

    def step(self, x: Tensor, keys: Tensor, values: Tensor, place: int, mask: Tensor | None = None) -> Tensor:
        """One token (b 1 d) at ``place``, given the caches, which it fills; ``mask`` is (b length)."""
        allowed = None
        if mask is not None:
            allowed = mask[:, None, None, : place + 1].clone()
            allowed[..., place] = True
        for block, key, value in zip(self._each(), keys, values, strict=True):
            x = block.step(x, key, value, place, allowed)
        return self.norm(x)
