"""Context-free rules, and a machine that writes trees by them: whatever it writes within its limit is a whole tree.

A **derivation** is a tree as the sequence of the rules that build it, top-down and from left to right: each rule replaces the
first open symbol (the ``ApplyRule`` and ``GenToken`` actions of Yin and Neubig 2018, arXiv 1810.02720, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.errors import PartArgumentError

FORBIDDEN = -1e4  # log-probability of a rule that cannot be applied: exp is 0, and 0 times it is 0, not NaN


class Rules:
    """A grammar of which every rule replaces one symbol by others; a rule without symbols on its right is a leaf.

    Args:
        rules: of each rule its name, the symbol on its left, and those on its right.
        start: the symbol of the root.

    Attributes:
        names: of the rules (v).
        left: number of the symbol on the left (v).
        right: numbers of the symbols on the right, of each rule (v).
        cost: least number of rules that make a whole tree of each symbol (s).
        rule_cost: least number of rules of a tree that begins with each rule (v).
        widest: largest number of symbols on the right.

    Raises:
        PartArgumentError: a symbol that no rules end, two rules of one symbol with one name, or no rules for the start.
    """

    def __init__(self, rules: Sequence[tuple[str, str, tuple[str, ...]]], start: str) -> None:
        self.names = tuple(name for name, _, _ in rules)
        self.symbols = tuple(dict.fromkeys([start, *(left for _, left, _ in rules)]))
        number = {symbol: place for place, symbol in enumerate(self.symbols)}
        missing = {symbol for _, _, right in rules for symbol in right} - set(number)
        if missing or start not in {left for _, left, _ in rules}:
            raise PartArgumentError(f"no rule replaces {', '.join(sorted(missing)) or start}")
        self.left = tuple(number[left] for _, left, _ in rules)
        self.right = tuple(tuple(number[symbol] for symbol in right) for _, _, right in rules)
        self.find = {(left, name): place for place, (name, left, _) in enumerate(rules)}
        if len(self.find) < len(rules):
            raise PartArgumentError("two rules of one symbol have the same name")
        self.widest = max((len(right) for right in self.right), default=0)
        self.cost, self.rule_cost = self._costs()

    def _costs(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        most = 10**6
        cost = [most] * len(self.symbols)
        for _ in range(len(self.symbols) + 1):
            whole = [1 + sum(cost[symbol] for symbol in right) for right in self.right]
            for left, value in zip(self.left, whole, strict=True):
                cost[left] = min(cost[left], value)
        endless = [symbol for symbol, value in zip(self.symbols, cost, strict=True) if value >= most]
        if endless:
            raise PartArgumentError(
                f"these symbols can never be replaced by leaves alone: {', '.join(endless)}"
            )
        return tuple(cost), tuple(whole)


@dataclass(frozen=True)
class State:
    """Open symbols of a batch while trees are written.

    Attributes:
        stack: of each open symbol, the next one last: its number, the rule that opened it (``len(rules)`` for the root), and its
            place on the right of that rule (b d 3).
        depth: number of open symbols (b); 0: the tree is whole.
        needed: least number of rules that make the tree whole (b).
        rows: 0 to b - 1.
    """

    stack: Int[Tensor, "b d 3"]
    depth: Int[Tensor, " b"]
    needed: Int[Tensor, " b"]
    rows: Int[Tensor, " b"]

    @property
    def done(self) -> Bool[Tensor, " b"]:
        """Which trees are whole."""
        return self.depth == 0

    def top(self) -> Int[Tensor, "b 3"]:
        """Return number, rule above and place of the next open symbol; of no meaning where the tree is whole."""
        return self.stack[self.rows, (self.depth - 1).clamp(0, self.stack.shape[1] - 1)]


class Machine(torch.nn.Module):
    """Apply rules to open symbols, a batch at a time; it has no weights.

    Args:
        rules: the grammar.
        length: most rules of a tree.

    Raises:
        PartArgumentError: no tree has as few rules as ``length``.
    """

    def __init__(self, rules: Rules, length: int) -> None:
        super().__init__()
        if rules.cost[0] > length:
            raise PartArgumentError(
                f"the smallest tree of this grammar has {rules.cost[0]} rules: length={length} is too few"
            )
        self.rules, self.length, self.wide = rules, length, max(1, rules.widest)
        opened = [
            [(symbol, rule, place) for place, symbol in enumerate(right)][::-1]
            + [(0, 0, 0)] * (self.wide - len(right))
            for rule, right in enumerate(rules.right)
        ]
        # A last row that does nothing, for trees that are whole already.
        deeper = [*(len(right) - 1 for right in rules.right), 0]
        needs = [
            *(whole - 1 - rules.cost[left] for whole, left in zip(rules.rule_cost, rules.left, strict=True)),
            0,
        ]
        for name, values in (
            ("left", rules.left), ("opened", [*opened, [(0, 0, 0)] * self.wide]), ("deeper", deeper), ("needs", needs),
            ("cost", rules.cost), ("rule_cost", rules.rule_cost),
        ):  # fmt: skip
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    left: Tensor
    opened: Tensor
    deeper: Tensor
    needs: Tensor
    cost: Tensor
    rule_cost: Tensor

    def begin(self, size: int) -> State:
        """Return ``size`` trees of which only the root is open."""
        stack = self.left.new_zeros(size, self.length + self.wide, 3)
        stack[:, 0, 1] = len(self.rules.names)
        ones = self.left.new_ones(size)
        return State(stack, ones, self.cost[0] * ones, torch.arange(size, device=stack.device))

    def allowed(
        self, symbol: Int[Tensor, "*b"], spare: Int[Tensor, "*b"], done: Bool[Tensor, "*b"]
    ) -> Bool[Tensor, "*b v"]:
        """Return which rules replace a symbol and leave a tree that can be made whole; of a whole tree all are.

        Args:
            symbol: the next open one.
            spare: rules that may still be written, minus ``State.needed``.
            done: which trees are whole: what is written after them is masked.
        """
        fits = self.rule_cost <= (spare + self.cost[symbol]).unsqueeze(-1)
        return (fits & (self.left == symbol.unsqueeze(-1))) | done.unsqueeze(-1)

    def advance(self, state: State, rule: Int[Tensor, " b"]) -> State:
        """Replace the next open symbol of each tree that is not whole by the right side of a rule."""
        rule = rule.masked_fill(state.done, len(self.rules.names))
        at = (state.depth - 1).clamp(min=0)[:, None] + torch.arange(self.wide, device=rule.device)
        at = at.clamp(max=state.stack.shape[1] - 1)  # only rules that ``allowed`` does not give need more
        stack = state.stack.scatter(1, at.unsqueeze(-1).expand(-1, -1, 3), self.opened[rule])
        return replace(
            state, stack=stack, depth=state.depth + self.deeper[rule], needed=state.needed + self.needs[rule]
        )

    def read(self, rules: Int[Tensor, "b m"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return of given derivations what each rule was chosen from.

        Returns:
            the rule that opened the symbol, and the symbol's place there (b m); which rules were possible in a tree of at most
            ``length`` (b m v); and which belong to the tree (b m): those after its end do not.
        """
        state, tops, spare, done = self.begin(len(rules)), [], [], []
        for step, rule in enumerate(rules.unbind(1)):
            tops.append(state.top())
            spare.append(self.length - step - state.needed)
            done.append(state.done)
            state = self.advance(state, rule)
        symbol, above, place = torch.stack(tops, 1).unbind(-1)
        ended = torch.stack(done, 1)
        return above, place, self.allowed(symbol, torch.stack(spare, 1), ended), ~ended

    def is_whole(self, rules: Int[Tensor, "b m"], mask: Bool[Tensor, "b m"]) -> Bool[Tensor, " b"]:
        """Return whether the valid rules of each row are a whole tree: each replaces the next open symbol, none is left."""
        state, symbols, done = self.begin(len(rules)), [], []
        for rule in rules.unbind(1):
            symbols.append(state.top()[:, 0])
            done.append(state.done)
            state = self.advance(state, rule)
        if not symbols:
            return state.done
        fits = self.left[rules] == torch.stack(symbols, 1)
        return ((fits | ~mask) & (mask != torch.stack(done, 1))).all(1) & state.done


def mask_rules(logits: Float[Tensor, "... v"], allowed: Bool[Tensor, "... v"]) -> Float[Tensor, "... v"]:
    """Return log-probabilities of the rules that are allowed; ``FORBIDDEN`` for the others."""
    return logits.masked_fill(~allowed, FORBIDDEN).log_softmax(-1)
