"""The parts that come with reprkit pass the kit that strangers are asked to pass, on every kind of data they take."""

import numpy as np
import pytest
import torch

from reprkit.data import Arrays, Dataset, Field, Signature
from reprkit.plugins import Registry
from reprkit.testing import DatasetConformance, kit

REGISTRY = Registry(installed=False)

# Small arguments where the defaults are larger than a check needs; a part without an entry is tried with its own.
SMALL = {
    ("encoder", "mlp"): "mlp(widths=(16,))",
    ("encoder", "conv"): "conv(width=8)",
    ("encoder", "vit"): "vit(width=16, depth=1, heads=2)",
    ("encoder", "gru"): "gru(width=8)",
    ("encoder", "transformer"): "transformer(width=16, depth=1, heads=2)",
    ("latent", "continuous"): "continuous(dim=3)",
    ("latent", "gaussian"): "gaussian(dim=3)",
    ("latent", "binary"): "binary(bits=5)",
    ("latent", "one-hot"): "one-hot(classes=4, groups=2)",
    ("latent", "vq"): "vq(codes=6, dim=3, codebooks=2)",
    ("latent", "residual-vq"): "residual-vq(codes=6, layers=2, dim=3)",
    ("decoder", "mlp"): "mlp(widths=(16,))",
    ("decoder", "conv"): "conv(width=8)",
    ("decoder", "vit"): "vit(width=16, depth=1, heads=2)",
    ("decoder", "gru"): "gru(width=8)",
    ("decoder", "lstm"): "lstm(width=8)",
    ("decoder", "transformer"): "transformer(width=16, depth=1, heads=2)",
    ("evaluator", "finetune"): "finetune(steps=2)",
    ("evaluator", "few-labels"): "few-labels(labels=(20, 99), measures=('knn(k=3)', 'finetune(steps=1)'))",
}

# Options that change what a part does, each a part of its own to the kit.
VARIANTS = [
    ("encoder", "mlp(widths=(16, 16), norm='layer', dropout=0.2)"),
    ("encoder", "gru(width=8, causal=True)"),
    ("encoder", "transformer(width=16, depth=1, heads=2, causal=True)"),
    ("latent", "continuous(dim=4, activation='relu', l1=0.1)"),
    ("latent", "continuous(dim=4, dropout=0.3, sparsity=0.1)"),
    ("latent", "gaussian(dim=3, free_bits=0.1, warmup=5)"),
    ("latent", "binary(bits=4, stochastic=False, entropy=0.1)"),
    ("decoder", "gru(width=8, causal=False)"),
    ("decoder", "gru(width=8, depth=2, dropout=0.2)"),
    ("decoder", "lstm(width=8, depth=2, causal=False)"),
    ("decoder", "lstm(width=8, depth=2, dropout=0.2)"),
    ("decoder", "transformer(width=16, depth=1, heads=2, causal=True)"),
    ("objective", "denoising(corruption=('mask-elements(ratio=0.2)',), on='hit')"),
    ("objective", "masked(ratio=0.5, on='all')"),
]

# What each part refuses; all else it must take.
REFUSES = {
    ("encoder", "mlp"): {"sequences", "tokens"},
    ("encoder", "conv"): {"vectors", "sequences", "tokens"},
    ("encoder", "vit"): {"vectors", "sequences", "tokens"},
    ("decoder", "mlp"): {"sequences", "tokens"},
    ("decoder", "conv"): {"vectors", "sequences", "tokens"},
    ("decoder", "vit"): {"vectors", "sequences", "tokens"},
    ("objective", "masked"): {"vectors"},
    ("corruption", "gaussian-noise"): {"tokens"},
    ("corruption", "dropout"): {"tokens"},
    ("corruption", "salt-and-pepper"): {"vectors", "tokens"},
    ("corruption", "mask-patches"): {"vectors", "sequences", "tokens"},
    ("corruption", "mask-spans"): {"images", "vectors"},
    ("evaluator", "interpolation"): {"sequences", "tokens"},
    ("evaluator", "samples"): {"sequences", "tokens"},
}

# Data sets that need no argument; the others pass the kit where they are tested.
WHOLE = ("digits",)

PARTS = [
    (kind, SMALL.get((kind, found.name), found.name))
    for kind in kit.KITS
    for found in REGISTRY.specs(kind)
    if kind != "dataset" or found.name in WHOLE
]


def id_of(value):
    return str(value)


def failures(kind, part, *, ranks):
    """What fails, on which data."""
    found = []
    for world, refusal in kit.worlds_of(kind, part).items():
        if refusal:
            continue
        for each in kit.examine(kit.case_of(kind, part, world), ranks=ranks):
            if each.status == "failed" and (not ranks or "two ranks" in each.check):
                found.append(f"{world}: {each.check}: {each.reason} {each.details}")
    return found


@pytest.mark.parametrize(("kind", "part"), PARTS + VARIANTS, ids=id_of)
def test_the_part_passes(kind, part):
    found = failures(kind, part, ranks=False)
    assert not found, "\n".join(found)


@pytest.mark.ranks
@pytest.mark.parametrize("kind", ["encoder", "latent", "decoder", "objective", "corruption"])
def test_two_ranks_equal_one_process(kind):
    found = []
    for each, part in PARTS + VARIANTS:
        if each != kind:
            continue
        for world, refusal in kit.worlds_of(kind, part).items():
            if not refusal:
                case = kit.case_of(kind, part, world)
                try:
                    case.test_two_ranks_equal_one_process()
                except AssertionError as error:
                    found.append(f"{part} on {world}: {error}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("kind", "part"), PARTS, ids=id_of)
def test_it_refuses_what_it_cannot_take_and_nothing_else(kind, part):
    refused = {world for world, why in kit.worlds_of(kind, part).items() if why}
    assert refused == REFUSES.get((kind, part.partition("(")[0]), set())


def test_arrays_pass(tmp_path):
    generator = np.random.default_rng(0)
    values = generator.random((40, 4, 4, 1)).astype("float32")
    np.savez(tmp_path / "few.npz", x=values, label=generator.integers(0, 3, 40))
    found = failures("dataset", f"arrays(path={str(tmp_path / 'few.npz')!r})", ranks=False)
    assert not found, "\n".join(found)


class Lengths(Dataset):
    """Sequences of several lengths, each example as long as it is."""

    signature = Signature({"x": Field(kind="sequence", shape=(None, 2))})

    def __len__(self):
        return 30

    def __getitem__(self, index):
        if not -30 <= index < 30:
            raise IndexError(index)
        index %= 30
        return {"x": torch.full((index % 5 + 1, 2), float(index))}


def arrays_of_lengths():
    return Arrays([np.full((n % 5 + 1, 2), n, dtype="float32") for n in range(30)])


@pytest.mark.parametrize("make", [Lengths, arrays_of_lengths])
def test_sequences_of_several_lengths_pass(make):
    case = DatasetConformance()
    case.make = make
    assert [each for each in kit.examine(case) if each.status == "failed"] == []


def test_every_kind_of_part_has_a_kit():
    from reprkit.hookspecs import KINDS

    assert set(kit.KITS) == set(KINDS) - {"command"}
