"""The built-in parts pass the conformance checks on every kind of sample data that they accept."""

import numpy as np
import pytest
import torch

from reprkit.data import Arrays, Dataset, Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.registry.registry import Registry
from reprkit.testing import DatasetConformance, DecoderConformance, EncoderConformance, kit
from reprkit.testing.small import small_reference

REGISTRY = Registry(installed=False)

# Evaluators that train or sample, with small settings.
SMALL_EVALUATORS = {
    "finetune": "finetune(steps=1)",
    "likelihood": "likelihood(samples=2)",
    "projection": "projection(limit=12, tsne=False)",
    "few-labels": "few-labels(labels=(20,), measures=('knn(k=3)',))",
    "anomaly": "anomaly(normal=(1,))",
    "disentanglement": "disentanglement(trees=1, votes=20)",
    "manifold": "manifold(k=3)",
    "criteria": "criteria(draws=2, limit=20)",
    "layers": "layers(limit=20)",
}

# Parts with options that change their behavior, checked in addition to the defaults.
VARIANTS = [
    ("encoder", "mlp(widths=(16, 16), norm='layer', dropout=0.2)"),
    ("encoder", "conv(width=7, depth=1, blocks=0)"),
    ("encoder", "vit(patch=4, width=15, depth=2, heads=3)"),
    ("encoder", "gru(width=8, causal=False)"),
    ("encoder", "gru(width=6, depth=2)"),
    ("encoder", "transformer(width=15, depth=2, heads=3, causal=True)"),
    ("latent", "continuous(dim=4, activation='relu', l1=0.1)"),
    ("latent", "continuous(dim=4, dropout=0.3, sparsity=0.1)"),
    ("latent", "gaussian(dim=3, free_bits=0.1, warmup=5)"),
    ("latent", "gaussian(dim=3, capacity=2.0, capacity_steps=3)"),
    ("latent", "binary(bits=4, stochastic=False, entropy=0.1)"),
    ("latent", "vq(codes=8, dim=3)"),
    ("latent", "vq(codes=5, dim=3, codebooks=2, update='gradient')"),
    ("latent", "vq(codes=8, dim=3, codebooks=2, cosine=True)"),
    ("latent", "residual-vq(codes=6, layers=3, dim=3, dropout=0.7, cosine=True)"),
    ("latent", "vq(codes=8, dim=3, codebooks=2, rotation=True)"),
    ("latent", "residual-vq(codes=6, layers=3, dim=3, beam=3)"),
    ("latent", "continuous(dim=4, l1=0.1, warmup=3)"),
    ("latent", "fsq(levels=(4, 3), codebooks=2)"),
    ("latent", "lfq(bits=5, codebooks=2, group=2, diversity=0.5)"),
    ("latent", "top-k(dim=5, k=2, revive=0.0)"),
    ("latent", "rounded(dim=2, limit=3, warmup=4)"),
    ("decoder", "mlp(widths=(9, 5), norm='layer', activation='tanh')"),
    ("decoder", "conv(width=7, depth=1, blocks=0)"),
    ("decoder", "vit(patch=4, width=15, depth=1, heads=3)"),
    ("decoder", "gru(width=8, causal=False)"),
    ("decoder", "gru(width=8, depth=2, dropout=0.2)"),
    ("decoder", "lstm(width=8, depth=2, causal=False)"),
    ("decoder", "lstm(width=8, depth=2, dropout=0.2)"),
    ("decoder", "transformer(width=16, depth=1, heads=2, causal=True)"),
    ("decoder", "conv(width=7, depth=1, blocks=0, likelihood='laplace')"),
    ("likelihood", "laplace(scale='each')"),
    ("objective", "denoising(corruption=('mask-elements(ratio=0.2)',), on='hit')"),
    ("objective", "masked(ratio=0.5, on='all')"),
    ("evaluator", "masking(ratio=0.5)"),
    ("evaluator", "anomaly(score='code-nll', normal=(1,))"),
    ("evaluator", "reconstruction(corruption='mask-elements(ratio=0.2)')"),
]

# Evaluators whose full work takes many seconds on every kind of data and with every latent.
SLOW_VARIANTS = [
    ("evaluator", "finetune(steps=2, labels=20, start='probe')"),
    ("evaluator", "projection(limit=40)"),
    ("evaluator", "manifold(k=4, tangents=2, examples=5)"),
    ("evaluator", "anomaly(score='error-under-noise', draws=2, normal=(1,))"),
    ("evaluator", "anomaly(score='neighbors', normal=(1,))"),
    ("evaluator", "few-labels(labels=(20, 99), measures=('knn(k=3)', 'finetune(steps=1)'))"),
]

# Parts whose checks train for long or fit many classifiers.
SLOW_PARTS = (
    *("total-correlation", "criteria", "layers"),
    *("disentanglement", "contractive", "across", "adversary", "diffusion", "policy", "grouped"),
    *("finetune", "masking", "jacobian", "manifold", "retrieval", "few-labels", "anomaly", "interpolation"),
)

# Further kinds of data, on which encoders and decoders are checked too.
MORE_DATA = {
    "wide images": Signature({"x": Field(kind="image", shape=(12, 20, 3))}),
    "bits": Signature({"x": Field(kind="vector", shape=(6,), range=(0, 1), vocab=2)}),
    "frames": Signature({"x": Field(kind="sequence", shape=(9, 3))}),
    "words": Signature({"x": Field(kind="tokens", shape=(5,), vocab=11)}),
    "labels": Signature({"x": Field(kind="label", shape=(), vocab=4)}),
    "maps": Signature({"x": Field(kind="map", shape=(4, 8), vocab=3)}),
}

# The sample data that each part refuses; it must accept all other kinds.
REFUSES = {
    ("encoder", "flat"): {"sequences", "tokens"},
    ("decoder", "flat"): {"sequences", "tokens"},
    ("decoder", "mirror"): {"sequences", "tokens"},
    ("encoder", "mlp"): {"sequences", "tokens"},
    ("encoder", "conv"): {"vectors", "sequences", "tokens"},
    ("encoder", "vit"): {"vectors", "sequences", "tokens"},
    ("decoder", "mlp"): {"sequences", "tokens"},
    ("decoder", "conv"): {"vectors", "sequences", "tokens"},
    ("decoder", "vit"): {"vectors", "sequences", "tokens"},
    ("likelihood", "gaussian"): {"tokens"},
    ("likelihood", "laplace"): {"tokens"},
    ("likelihood", "bernoulli"): {"vectors", "sequences", "tokens"},
    ("likelihood", "categorical"): {"images", "vectors", "sequences"},
    ("likelihood", "mixed"): {"images", "vectors", "sequences", "tokens"},
    ("likelihood", "logistic-mixture"): {"vectors", "tokens"},
    ("objective", "masked"): {"vectors"},
    ("objective", "contractive"): {"tokens"},
    ("objective", "diffusion"): {"tokens"},
    ("objective", "rbm"): {"sequences", "tokens"},
    ("evaluator", "jacobian"): {"tokens"},
    ("evaluator", "manifold"): {"sequences", "tokens"},
    ("corruption", "gaussian-noise"): {"tokens"},
    ("corruption", "dropout"): {"tokens"},
    ("corruption", "salt-and-pepper"): {"vectors", "tokens"},
    ("corruption", "mask-patches"): {"vectors", "sequences", "tokens"},
    ("corruption", "mask-spans"): {"images", "vectors"},
    ("evaluator", "interpolation"): {"sequences", "tokens"},
    ("evaluator", "samples"): {"sequences", "tokens"},
}

# Data sets without required arguments; the conformance of the others is tested in tests/data.
WITHOUT_ARGUMENTS = ("digits", "breast-cancer")

PARTS = [
    (kind, SMALL_EVALUATORS.get(found.name) or small_reference(found))
    for kind in kit.KITS
    for found in REGISTRY.specs(kind)
    if kind != "dataset" or found.name in WITHOUT_ARGUMENTS
]


def is_slow(case):
    variant = case in VARIANTS and case[0] in ("decoder", "objective", "evaluator")
    return variant or case[1].partition("(")[0] in SLOW_PARTS


def marked(cases):
    return [pytest.param(*case, marks=pytest.mark.slow) if is_slow(case) else case for case in cases]


def id_of(value):
    return str(value)


def failures(kind, part):
    """Return the failed checks, with the kind of data; those of two ranks are tested below, in one pool."""
    return [
        f"{name}: {check}: {reason}"
        for name, refusal in kit.find_refusals(kind, part).items()
        if not refusal
        for check, reason in kit.failed_checks(kit.make_case(kind, part, name), ranks=False).items()
    ]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        *marked(PARTS + VARIANTS),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_VARIANTS),
    ],
    ids=id_of,
)
def test_the_part_passes(kind, part):
    found = failures(kind, part)
    assert not found, "\n".join(found)


class DecoderOnMoreData(DecoderConformance):
    """Codes with one token per patch of 4 x 4, per step where the length is fixed, or per vector or label."""

    @property
    def facts(self):
        kind, shape = self.data["x"].kind, self.data["x"].shape
        if self.data["x"].planar:
            return {"tokens": shape[0] * shape[1] // 16}
        return {"tokens": 1 if kind in ("vector", "label") else shape[0]}


@pytest.mark.parametrize(
    ("kind", "part"),
    marked(case for case in PARTS + VARIANTS if case[0] in ("encoder", "decoder")),
    ids=id_of,
)
def test_the_part_passes_on_more_data(kind, part):
    found, accepted = [], set()
    for name, data in MORE_DATA.items():
        case = DecoderOnMoreData() if kind == "decoder" else EncoderConformance()
        case.part, case.data = part, data
        try:
            case.fresh()
        except (BuildError, PartArgumentError):
            continue
        accepted.add(name)
        found += [f"{name}: {check}: {why}" for check, why in kit.failed_checks(case, ranks=False).items()]
    assert not found, "\n".join(found)
    name = part.partition("(")[0]
    refused = dict.fromkeys(("conv", "vit"), set(MORE_DATA) - {"wide images", "maps"})
    refused["mirror"] = {"words", "labels", "maps"}  # symbols have no transposed map
    densities = {"maps"} if "laplace" in part else set()  # a density has no symbols
    assert accepted == set(MORE_DATA) - refused.get(name, set()) - densities


@pytest.mark.ranks
@pytest.mark.parametrize(
    "kind", ["encoder", "latent", "decoder", pytest.param("objective", marks=pytest.mark.slow), "corruption"]
)
def test_two_ranks_equal_one_process(kind):
    found = []
    for each, part in PARTS + VARIANTS:
        if each != kind:
            continue
        for name, refusal in kit.find_refusals(kind, part).items():
            if not refusal:
                case = kit.make_case(kind, part, name)
                try:
                    case.test_two_ranks_equal_one_process()
                except AssertionError as error:
                    found.append(f"{part} on {name}: {error}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("kind", "part"), PARTS, ids=id_of)
def test_it_refuses_only_unsupported_data(kind, part):
    refused = {name for name, why in kit.find_refusals(kind, part).items() if why}
    assert refused == REFUSES.get((kind, part.partition("(")[0]), set())


def test_arrays_pass(tmp_path):
    generator = np.random.default_rng(0)
    values = generator.random((40, 4, 4, 1)).astype("float32")
    np.savez(tmp_path / "few.npz", x=values, label=generator.integers(0, 3, 40))
    found = failures("dataset", f"arrays(path={str(tmp_path / 'few.npz')!r})")
    assert not found, "\n".join(found)


class Lengths(Dataset):
    """Sequences of different lengths, not padded."""

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
def test_sequences_of_different_lengths_pass(make):
    case = DatasetConformance()
    case.make = make
    assert kit.failed_checks(case) == {}


def test_every_kind_of_part_has_conformance_checks():
    from reprkit.registry.hookspecs import KINDS

    assert set(kit.KITS) == set(KINDS) - {"command"}
