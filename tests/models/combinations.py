"""Parts of the registry with small arguments, which of them fit each other, and covers of their combinations."""

import functools
import itertools

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError
from reprkit.registry.registry import Registry, default_registry
from reprkit.testing.small import small_reference

# Real digits as images, their rows as frames, their greys as symbols.
WORLDS = ("images", "frames", "symbols")
# An istft decoder makes a waveform, which is longer than what is read: it is tested with waveforms.
ELSEWHERE = {("decoder", "istft")}
# Parts of networks that have a name, which small numbers do not make.
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
def created(kind: str, reference: str, name: str):
    """The part on its own, or None where it refuses the data."""
    facts = {} if kind in ("latent", "objective") else {"data": world(name)[0].signature, "tokens": 1}
    try:
        return rk.create(kind, reference, **facts)
    except BuildError:
        return None


def fitting(kind: str, name: str, core: bool = False) -> list[str]:
    """The parts of a kind that take the data."""
    return [each for each in names(kind, core) if created(kind, each, name) is not None]


@functools.cache
def objectives(name: str) -> list[str]:
    """The core's objectives that train a decoder on the data, with any encoder that does what they need."""
    found = []
    for each in names("objective", core=True):
        needs = created("objective", each, name).needs
        if "decoder" not in needs:
            continue
        encoder = next(part for part in fitting("encoder", name, True) if keeps(part, name))
        decoder = next(
            part for part in fitting("decoder", name, True) if causal(part, name) == ("causal" in needs)
        )
        try:
            rk.build(
                data=world(name)[0], encoder=encoder, latent="continuous", decoder=decoder, objective=each
            )
        except BuildError:
            continue  # it asks for fields that the data does not have
        found.append(each)
    return found


def keeps(encoder: str, name: str) -> bool:
    return "keep" in created("encoder", encoder, name).provides


def causal(decoder: str, name: str) -> bool:
    return "causal" in created("decoder", decoder, name).provides


def fits(name: str, encoder: str, decoder: str, objective: str) -> bool:
    """Whether the parts go together; any latent goes with any parts.

    A causal decoder is trained with its teacher and no other is, so that every weight takes part.
    """
    needs = created("objective", objective, name).needs
    return (keeps(encoder, name) or "keep" not in needs) and causal(decoder, name) == ("causal" in needs)


def factors(name: str, core: bool = False) -> list[list[str]]:
    """Encoders, latents, decoders and objectives for the data."""
    return [
        fitting("encoder", name, core),
        names("latent", core),
        fitting("decoder", name, core),
        objectives(name),
    ]


def product(name: str, core: bool = False) -> list[tuple[str, ...]]:
    """Every combination of encoder, latent, decoder and objective that goes together."""
    every = itertools.product(*factors(name, core))
    return [row for row in every if fits(name, row[0], row[2], row[3])]


def pairs(rows) -> set[tuple[int, str, int, str]]:
    """All pairs in rows of parts: place and name of one, place and name of the other."""
    return {
        (one, row[one], other, row[other])
        for row in rows
        for one, other in itertools.combinations(range(len(row)), 2)
    }


def cover(rows) -> list[tuple[str, ...]]:
    """Some of the rows, few, that hold every pair of parts that the rows hold: greedily the one with the most new pairs.

    The parts constrain each other, and a cover that is built part by part (allpairspy) then misses pairs.
    """
    held = {row: pairs([row]) for row in rows}
    missing, chosen = pairs(rows), []
    while missing:
        best = max(rows, key=lambda row: len(held[row] & missing))
        chosen.append(best)
        missing -= held[best]
    return chosen
