"""Parts of the registry with small arguments, their compatible combinations, and pairwise covers of these."""

import functools
import itertools

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError
from reprkit.registry.registry import Registry, default_registry
from reprkit.testing.small import small_reference

# Real digits as images, their rows as frames, their gray levels as symbols.
WORLDS = ("images", "frames", "symbols")
# An istft decoder returns a waveform, which is longer than its input: it is tested with waveforms.
# Decoder mirror goes with some encoders and latents only: tests/decoders/test_flat_and_mirror.py.
# Trees need a decoder that reads them, about which build warns otherwise, and derivations a field with trees:
# plugins/reprkit-structure/tests.
# Encoder lightness-color reads color pictures: plugins/reprkit-vision/tests/test_lightness_color.py.
ELSEWHERE = {
    ("encoder", "lightness-color"),
    ("decoder", "istft"),
    ("decoder", "mirror"),
    ("latent", "tree"),
    ("latent", "tree-lstm"),
    ("latent", "derivation"),
}
# Parts with named networks, for which there are no small arguments.
GIVEN = {
    ("encoder", "resnet"): "resnet(depth=18, width=8, stages=2)",
    ("encoder", "torchvision"): "torchvision(name='mnasnet0_5')",
}


@functools.cache
def names(kind: str, core: bool = False) -> list[str]:
    """References to all parts of a kind; ``core``: only to those that come with reprkit."""
    registry = Registry(installed=False) if core else default_registry()
    found = [each for each in registry.specs(kind) if (kind, each.name) not in ELSEWHERE]
    return [GIVEN.get((kind, each.name)) or small_reference(each) for each in found]


@functools.cache
def world(name: str):
    """A data set and a batch of six of its examples."""
    data = rk.dataset("digits")
    x = data.batch(range(6))["x"]
    if name == "frames":
        signature = Signature({"x": Field(kind="sequence", shape=(8, 8), range=(0.0, 1.0))})
        data = Tensors({"x": x.squeeze(-1)}, signature)
    if name == "symbols":
        signature = Signature({"x": Field(kind="tokens", shape=(16,), vocab=5)})
        data = Tensors({"x": (4 * x[:, ::2, ::2, 0]).round().long().flatten(1)}, signature)
    return data, data.batch(range(6))


@functools.cache
def create_part(kind: str, reference: str, name: str):
    """Create a part by itself; None where it does not support the data."""
    context = {} if kind in ("latent", "objective") else {"data": world(name)[0].signature, "tokens": 1}
    try:
        return rk.create(kind, reference, **context)
    except BuildError:
        return None


def compatible_parts(kind: str, name: str, core: bool = False) -> list[str]:
    """Return the parts of a kind that support the data."""
    return [each for each in names(kind, core) if create_part(kind, each, name) is not None]


@functools.cache
def objectives(name: str) -> list[str]:
    """Return the core's objectives that train a decoder on the data, with an encoder that they can use."""
    found = []
    for each in names("objective", core=True):
        needs = create_part("objective", each, name).needs
        if "decoder" not in needs:
            continue
        encoder = next(part for part in compatible_parts("encoder", name, True) if provides_keep(part, name))
        decoder = next(
            part
            for part in compatible_parts("decoder", name, True)
            if fit_together(name, encoder, part, each)
        )
        try:
            rk.build(
                data=world(name)[0], encoder=encoder, latent="continuous", decoder=decoder, objective=each
            )
        except BuildError:
            continue  # it needs fields that the data does not have
        found.append(each)
    return found


def provides_keep(encoder: str, name: str) -> bool:
    return "keep" in create_part("encoder", encoder, name).provides


def is_causal(decoder: str, name: str) -> bool:
    return "causal" in create_part("decoder", decoder, name).provides


def fit_together(name: str, encoder: str, decoder: str, objective: str) -> bool:
    """Return whether the parts are compatible; any latent is compatible with any parts.

    Only causal decoders are combined with objectives that use a teacher, so that every weight gets a gradient.
    """
    needs = create_part("objective", objective, name).needs
    if "keep" in needs and "tokenwise" in create_part("decoder", decoder, name).provides:
        return False
    return (provides_keep(encoder, name) or "keep" not in needs) and is_causal(decoder, name) == (
        "causal" in needs
    )


def factors(name: str, core: bool = False) -> list[list[str]]:
    """Return encoders, latents, decoders and objectives for the data."""
    return [
        compatible_parts("encoder", name, core),
        names("latent", core),
        compatible_parts("decoder", name, core),
        objectives(name),
    ]


def product(name: str, core: bool = False) -> list[tuple[str, ...]]:
    """Return every compatible combination of encoder, latent, decoder and objective."""
    every = itertools.product(*factors(name, core))
    return [row for row in every if fit_together(name, row[0], row[2], row[3])]


def pairs(rows) -> set[tuple[int, str, int, str]]:
    """Return all pairs in rows of parts: index and name of one, index and name of the other."""
    return {
        (one, row[one], other, row[other])
        for row in rows
        for one, other in itertools.combinations(range(len(row)), 2)
    }


def cover(rows, chosen=()) -> list[tuple[str, ...]]:
    """Return few of the rows that, with those chosen before, contain every pair of parts: greedily the row with the most new pairs.

    Since the parts constrain each other, a cover that is built part by part (allpairspy) would miss pairs.
    """
    bits = {pair: 1 << place for place, pair in enumerate(sorted(pairs(rows)))}
    held = {row: sum(bits[pair] for pair in pairs([row])) for row in rows}  # sets of pairs as whole numbers
    missing, found = sum(bits.values()) & ~sum(bits[pair] for pair in pairs(chosen)), []
    while missing:
        best = max(rows, key=lambda row: (held[row] & missing).bit_count())
        found.append(best)
        missing &= ~held[best]
    return found
