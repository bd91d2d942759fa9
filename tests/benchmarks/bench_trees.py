"""Distributions over trees beside torch-struct 0.5: log-partition function and its gradient, of binary trees and of grammars.

    python tests/benchmarks/bench_trees.py [--repeats 15] [--out runs/bench/trees.json]

Before any time is taken both give the same values and gradients.  Runs alternate; figures are medians of processor time in
milliseconds, and the ratio is of medians.  "grammar" has rules of its own for each sentence, as a compound PCFG has.

Needs `pip install torch-struct==0.5`.
"""

import warnings

import torch
import torch_struct
from alternating import alternated, main
from reprkit_structure.layers.grammar import Grammar
from reprkit_structure.layers.tree_crf import TreeCRF

# Sentences, words, and of a grammar the nonterminals and preterminals.
CASES = {
    "trees, 32 of 10 words": (32, 10),
    "trees, 32 of 40 words": (32, 40),
    "grammar 10 + 20, 32 of 9 words": (32, 9, 10, 20),
    "grammar 10 + 20, 32 of 20 words": (32, 20, 10, 20),
    "grammar 30 + 60, 4 of 20 words": (4, 20, 30, 60),
}


def trees(size, count, device):
    scores = torch.randn(size, count, count, device=device, requires_grad=True)
    return (scores,), {
        "reprkit": lambda: TreeCRF(scores).log_partition,
        "torch-struct": lambda: torch_struct.TreeCRF(scores.unsqueeze(-1)).partition,
    }


def grammars(size, count, nonterminals, preterminals, device):
    symbols = nonterminals + preterminals
    rules = torch.randn(size, nonterminals, symbols**2, device=device).log_softmax(-1)
    inputs = (
        torch.randn(size, nonterminals, device=device).log_softmax(-1).requires_grad_(),
        rules.unflatten(-1, (symbols, symbols)).requires_grad_(),
        torch.randn(size, count, preterminals, device=device).log_softmax(-1).requires_grad_(),
    )
    roots, rules, emissions = inputs
    singles = torch.zeros(size, preterminals, device=device)  # read for sentences of one word only
    return inputs, {
        "reprkit": lambda: Grammar(roots, singles, rules, emissions).log_prob(),
        "torch-struct": lambda: torch_struct.SentCFG((emissions, rules, roots)).partition,
    }


def run(name, case, device, repeats, steps):
    """Compare one case, then time it."""
    inputs, models = (trees if len(case) == 2 else grammars)(*case, device)
    values = {key: model() for key, model in models.items()}
    gradients = {key: torch.autograd.grad(value.sum(), inputs) for key, value in values.items()}
    torch.testing.assert_close(values["reprkit"], values["torch-struct"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients["reprkit"], gradients["torch-struct"], rtol=1e-3, atol=1e-4)
    taken = alternated(
        models, lambda _, model: torch.autograd.grad(model().sum(), inputs), device, repeats, steps
    )
    ratio = taken["torch-struct"]["ms"] / taken["reprkit"]["ms"]
    times = ", ".join(f"{key} {each['ms']:.1f} ms" for key, each in taken.items())
    print(f"{name}: {times}: {ratio:.1f} times as fast", flush=True)
    return {"name": name, "ratio": ratio, "models": taken}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", ".*arg_constraints.*")
    main(__doc__, {"cpu": CASES, "cuda": CASES}, run, "runs/bench/trees.json")
