"""A syntax tree as the code: a network writes it by the rules of a grammar, and the decoder reads nothing else."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Code, Features, Latent, Signature
from reprkit.errors import PartArgumentError
from reprkit.latents.functional import (
    check_indices,
    draw_noise,
    fixed_rate_bits,
    perplexity,
    sample_exponential,
    zero_padding,
)
from reprkit.layers.positions import sinusoidal_positions
from reprkit.registry.constraints import BelowOne, NonNegative, Width
from reprkit_structure.layers.python_rules import rules_of
from reprkit_structure.layers.rules import Machine, mask_rules
from reprkit_structure.layers.tree_writer import Source, TreeWriter


class Derivation(Latent):
    """Map features (b n width) to a syntax tree: ``indices`` (b length 1), the rules that derive it, ``z`` (b length width).

    ::

        x (b n width) ──► writer, rule by rule ──► indices: sampled in training, the likeliest in evaluation
        z = embeddings of each rule, of the one that opened its symbol and of its place in the sequence: the decoder's only input

    The rules are those of the data's field ``tree``.  Only rules that replace the next open symbol, and that leave a tree which
    fits into ``length``, have a probability: **every code is a whole tree**, in training and before it.  The code has its own
    tokens: ``count(n)`` is ``length`` for any n, ``mask`` (b length) is True at the tree's rules, and ``grid`` is ().

    It is the inference network q(tree | text) of Yin et al. 2018 (arXiv 1806.07832, section 3.2), with the writer of Yin and
    Neubig 2018; ``z`` has no gradient to the writer, ``log_prob`` (b length), that of each rule, has.  The latent also has the
    prior p(tree), a language model of trees: ``prior_log_prob_of``.

    Losses, nats an example: "kl", the KL of the rules' distributions from the prior's, summed along the written tree, weight
    ``beta``; "entropy", minus the entropy of these distributions, weight ``entropy``.  Metrics: ``kl``, ``rules``, the mean number
    of rules, ``entropy`` of a rule, ``perplexity``.  ``bits``: log2(vocabulary) for each rule.

    Args:
        width: of features, embeddings and states.
        length: most rules of a tree; longer trees cannot be written, nor given.
        prior: width of the prior.
        copy: whether rules are also copied from the text.
        dropout: dropout rate of writer and prior, in [0, 1).
        beta: weight of loss "kl"; objective ``structvae`` has the KL in its reward instead.
        entropy: weight of loss "entropy".
        tree: the field of the data with derivations.
        data: the signature of the data.

    Raises:
        BuildError: the data has no such field.
        DataError: the field holds no derivations of a grammar.
        PartArgumentError: ``length`` is too short for any tree.
    """

    provides = frozenset({"derivations", "log_prob"})  # derivations: has ``code_of`` and ``log_prob_of``
    collapse_hint = "supervised training (objective parse), or a weight on entropy"

    def __init__(
        self,
        width: Width = 64,
        length: Annotated[int, Ge(1), Le(1000)] = 48,
        *,
        prior: Width = 64,
        copy: bool = True,
        dropout: BelowOne = 0.0,
        beta: NonNegative = 0.0,
        entropy: NonNegative = 0.0,
        tree: str = "tree",
        data: Signature,
    ) -> None:
        rules = rules_of(data[tree].form)
        vocab = len(rules.names)
        super().__init__(
            in_dim=width, out_dim=width, vocab=(vocab,), weights={"kl": beta, "entropy": entropy}
        )
        self.rules, self.length = rules, length
        self.machine = Machine(rules, length)
        self.writer = TreeWriter(vocab, rules.widest, width, copy=copy, dropout=dropout)
        self.language = TreeWriter(vocab, rules.widest, prior, copy=False, dropout=dropout, attends=False)
        self.embedding, self.above = nn.Embedding(vocab, width), nn.Embedding(vocab + 1, width)

    def count(self, tokens: int) -> int:
        """Return ``length``; shorter trees are masked."""
        return self.length

    def forward(self, features: Features) -> Code:
        """Write the tree of features (b n width): sampled in training, the likeliest rule at each step in evaluation."""
        source = self.source_of(features)
        gumbel = None
        if self.training:
            noise = draw_noise(
                sample_exponential, source.x.new_empty(len(source.x), self.length, len(self.rules.names))
            )
            gumbel = -noise.log()
        rules, valid = self._write(source.detach(), gumbel)
        above, place, allowed, _ = self.machine.read(rules)
        z = self._embed(rules, above, valid)
        log_p = mask_rules(self.writer.all_steps(rules, above, place, source), allowed)
        log_prior = mask_rules(self.language.all_steps(rules, above, place, None), allowed)
        chosen = log_p.gather(-1, rules.unsqueeze(-1)).squeeze(-1).masked_fill(~valid, 0.0)
        entropy = -(log_p.exp() * log_p).sum(-1).masked_fill(~valid, 0.0).sum(1)
        kl = (log_p.exp() * (log_p - log_prior)).sum(-1).masked_fill(~valid, 0.0).sum(1)
        missing, count = self.length - rules.shape[1], valid.sum(1)
        indices, mask = (
            nn.functional.pad(rules, (0, missing)).unsqueeze(-1),
            nn.functional.pad(valid, (0, missing)),
        )
        vocab = len(self.rules.names)
        return Code(
            z=nn.functional.pad(z, (0, 0, 0, missing)),
            indices=indices,
            log_prob=nn.functional.pad(chosen, (0, missing)),
            bits=fixed_rate_bits(Features(x=log_p, mask=valid), math.log2(vocab)),
            losses={"kl": kl.mean(), "entropy": -entropy.mean()},
            metrics={
                "kl": kl.mean().detach(),
                "rules": count.float().mean(),
                "entropy": (entropy.sum() / count.sum()).detach(),
                "perplexity": perplexity(indices, mask, vocab, over_ranks=self.training),
            },
            mask=mask,
            grid=(),
        )

    def embed(self, indices: Int[Tensor, "b m 1"]) -> Float[Tensor, "b m d"]:
        """Embed the rules of derivations (b m 1).

        Raises:
            PartArgumentError: indices of another shape, or out of the vocabulary.
        """
        check_indices(indices, 1, len(self.rules.names))
        rules = indices.squeeze(-1)
        above, _, _, valid = self.machine.read(rules)
        return self._embed(rules, above, valid)

    def _embed(
        self, rules: Int[Tensor, "b m"], above: Int[Tensor, "b m"], valid: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b m d"]:
        """Embed rules below given ones; zeros after the end of a tree."""
        z = self.embedding(rules) + self.above(above)
        places = torch.arange(rules.shape[1], device=rules.device)
        z = z + sinusoidal_positions(places, self.out_dim).to(z.dtype)
        return z * valid.unsqueeze(-1).to(z.dtype)

    def code_of(self, rules: Int[Tensor, "b m"], mask: Bool[Tensor, "b m"] | None = None) -> Code:
        """Turn given derivations into a code.

        Raises:
            PartArgumentError: a row is no whole tree, or longer than ``length``.
        """
        rules, mask = self._given(rules, mask)
        return Code(z=self.embed(rules.unsqueeze(-1)), indices=rules.unsqueeze(-1), mask=mask, grid=())

    def log_prob_of(
        self, features: Features | Source, rules: Int[Tensor, "b m"], mask: Bool[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b length"]:
        """Return the log-probability of each rule of given derivations, nats, 0 after their end: teacher forcing.

        Raises:
            PartArgumentError: as ``code_of``.
        """
        return self._log_prob(self.writer, *self._given(rules, mask), self.source_of(features))

    def prior_log_prob_of(
        self, rules: Int[Tensor, "b m"], mask: Bool[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b length"]:
        """Return the log-probability of each rule of given derivations under the prior, nats, 0 after their end.

        Raises:
            PartArgumentError: as ``code_of``.
        """
        return self._log_prob(self.language, *self._given(rules, mask), None)

    def source_of(self, features: Features | Source) -> Source:
        """Prepare features for the writer; a ``Source`` is returned unchanged."""
        if isinstance(features, Source):
            return features
        return self.writer.source(zero_padding(features), features.mask)

    def _given(
        self, rules: Tensor, mask: Tensor | None
    ) -> tuple[Int[Tensor, "b length"], Bool[Tensor, "b length"]]:
        mask = torch.ones_like(rules, dtype=torch.bool) if mask is None else mask
        longest = int(mask.sum(1).max()) if mask.numel() else 0
        if longest > self.length:
            raise PartArgumentError(
                f"a given tree has {longest} rules, and this latent writes at most length={self.length}"
            )
        check_indices(rules.unsqueeze(-1), 1, len(self.rules.names))
        if not bool(self.machine.is_whole(rules, mask).all()):
            raise PartArgumentError("a given derivation is no whole tree of the grammar")
        padding = self.length - rules.shape[1]
        rules = nn.functional.pad(rules.masked_fill(~mask, 0), (0, padding))
        return rules, nn.functional.pad(mask, (0, padding))

    def _log_prob(self, writer: TreeWriter, rules: Tensor, mask: Tensor, source: Source | None) -> Tensor:
        used = max(1, int(mask.sum(1).max()))
        rules, mask = rules[:, :used], mask[:, :used]
        above, place, allowed, _ = self.machine.read(rules)
        log_p = mask_rules(writer.all_steps(rules, above, place, source), allowed)
        chosen = log_p.gather(-1, rules.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0.0)
        return nn.functional.pad(chosen, (0, self.length - used))

    @torch.no_grad()
    def _write(self, source: Source, gumbel: Tensor | None) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
        size = len(source.x)
        open_, state = self.machine.begin(size), self.writer.begin(size)
        before, rules, valid = None, [], []
        for step in range(self.length):
            symbol, above, place = open_.top().unbind(1)
            scores, state = self.writer.one_step(before, above, place, state, source)
            log_p = mask_rules(
                scores, self.machine.allowed(symbol, self.length - step - open_.needed, open_.done)
            )
            before = (log_p if gumbel is None else log_p + gumbel[:, step]).argmax(-1)
            before = before.masked_fill(open_.done, 0)
            rules.append(before)
            valid.append(~open_.done)
            open_ = self.machine.advance(open_, before)
            if bool(open_.done.all()):
                break
        return torch.stack(rules, 1), torch.stack(valid, 1)
