"""Pre-norm transformer blocks with torch's attention, and a key-value cache for decoding token by token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.errors import BuildError
from reprkit.layers.dropout import Dropout
from reprkit.layers.field_checks import check_attention, check_heads
from reprkit.layers.gather_rows import gather_rows, gather_tokens


def attention_mask(mask: Bool[Tensor, "b n"] | None, causal: bool) -> Bool[Tensor, "b 1 q k"] | None:
    """Return the keys that each query may attend to; None where no mask is needed besides ``is_causal``.

    A query without any valid key attends to itself (its output is masked anyway), since a row without keys would
    be NaN.
    """
    if mask is None:
        return None
    if not causal:
        return (mask | ~mask.any(1, keepdim=True))[:, None, None]
    count = mask.shape[1]
    earlier = torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
    diagonal = torch.eye(count, dtype=torch.bool, device=mask.device)
    return ((mask[:, None] & earlier) | diagonal)[:, None]


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
        """Map (b n d) to (b n d); ``mask`` is that of ``attention_mask``, ``queries`` and ``index`` are as in ``Blocks``."""
        if index is not None:
            query, key, value = self._project_distinct(x, queries, index)
        else:
            query, key, value = (
                self._project(x) if queries is None else self._project_queries(x, gather_tokens(x, queries))
            )
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal and mask is None
        )
        return self.out(rearrange(attended, "b h n d -> b n (h d)"))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: int, mask: Tensor | None) -> Tensor:
        """Attend from one token (b 1 d) at ``position``; writes its key and value into the caches (b h length d)."""
        size, heads, _, d = keys.shape
        # No rearrange here: for one token it costs as much as the matrix products.
        query, key, value = self.qkv(x).view(size, 3, heads, d).unbind(1)
        keys[:, :, position], values[:, :, position] = key, value
        past, query = slice(position + 1), query.unsqueeze(2)
        attended = F.scaled_dot_product_attention(query, keys[:, :, past], values[:, :, past], attn_mask=mask)
        return self.out(attended.reshape(size, 1, heads * d))

    def _project_queries(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        width = len(self.qkv.weight) // 3
        query = F.linear(tokens, self.qkv.weight[:width], self.qkv.bias[:width])
        both = F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        key, value = both.chunk(2, dim=-1)
        return self._heads(query), self._heads(key), self._heads(value)

    def _project_distinct(
        self, rows: Tensor, queries: Tensor | None, index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Project each distinct row (r d) once, then gather the projections by ``index``."""
        projected = self.qkv(rows)
        width = projected.shape[-1] // 3
        if queries is None:
            query, key, value = gather_rows(projected, index).chunk(3, dim=-1)
        else:
            query = gather_rows(projected[:, :width], index.gather(1, queries))
            key, value = gather_rows(projected[:, width:], index).chunk(2, dim=-1)
        return self._heads(query), self._heads(key), self._heads(value)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # not a single rearrange: its backward copies twice
        return self._heads(query), self._heads(key), self._heads(value)

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (h d) -> b h n d", h=self.heads)


class Block(nn.Module):
    """Attention and an MLP, each after a LayerNorm and with a residual connection (pre-norm: arXiv 2002.04745)."""

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
        """Map (b n d), or (r d) with ``index``, to (b n d); with ``queries`` (b m) only those tokens' output (b m d)."""
        normed = self.norm(x)
        if index is not None:
            x = gather_rows(x, index if queries is None else index.gather(1, queries))
        elif queries is not None:
            x = gather_tokens(x, queries)
        x = x + self.drop(self.attention(normed, mask, causal, queries, index))
        return x + self.drop(self.feed(x))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: int, mask: Tensor | None) -> Tensor:
        """Process one token (b 1 d), given the caches of the earlier ones."""
        x = x + self.attention.step(self.norm(x), keys, values, position, mask)
        return x + self.feed(x)


class Blocks(nn.Module):
    """``depth`` blocks and a final LayerNorm, the trunk of all transformers here.

    Linear layers are initialized Xavier-uniform with zero biases, as in the masked autoencoder's released code.
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
        """Map (b n d) to (b n d); no other token attends to tokens where ``mask`` is False.

        Args:
            x: tokens (b n d), or with ``index`` the distinct ones (r d).
            mask: True at valid tokens.
            queries: indices of the tokens to return (b m d); the last block skips the others.
            index: row of ``x`` at each position (b n): the first block normalizes and projects each row once, however
                often it occurs in the batch.

        Raises:
            BuildError: ``queries`` of causal blocks, or more tokens than attention is practical for.
        """
        if index is None:
            check_attention(x.shape[1], "transformer")
        if queries is not None and self.causal:
            raise BuildError(
                "queries= selects the output of some tokens, and causal blocks do not support that"
            )
        allowed = attention_mask(mask, self.causal)
        if index is not None and self.training and self.drop.p:
            x, index = gather_rows(x, index), None  # dropout makes equal rows differ
        x = self.drop(x)
        last = len(self.blocks) - 1
        for depth, block in enumerate(self.blocks):
            x = block(x, allowed, self.causal, queries if depth == last else None, index)
            index = None
        return self.norm(x)

    def _typed_blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def caches(self, size: int, length: int) -> tuple[Tensor, Tensor]:
        """Allocate caches for the keys and the values of ``length`` tokens: two tensors (depth b h length d)."""
        weight = self.norm.weight
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        # Tensor parallelism leaves some of the heads to this process.
        heads = self._typed_blocks()[0].attention.heads if len(self.blocks) else self.heads
        shape = (len(self.blocks), size, heads, length, self.width // self.heads)
        caches = torch.zeros(2, *shape, dtype=dtype, device=weight.device)
        return caches[0], caches[1]

    def step(
        self, x: Tensor, keys: Tensor, values: Tensor, position: int, mask: Tensor | None = None
    ) -> Tensor:
        """Process one token (b 1 d) at ``position``; reads the caches and writes to them; ``mask`` is (b length)."""
        allowed = None
        if mask is not None:
            allowed = mask[:, None, None, : position + 1].clone()
            allowed[..., position] = True
        for block, key, value in zip(self._typed_blocks(), keys, values, strict=True):
            x = block.step(x, key, value, position, allowed)
        return self.norm(x)
