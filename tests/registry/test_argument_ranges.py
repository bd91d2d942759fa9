"""Every numeric argument of every part has a range, and a wrong value ends in a part or in one of reprkit's errors, at once."""

import inspect
import math
import time
import types
import typing
import warnings
from typing import Annotated, Literal, Union, get_args, get_origin

import isolated
import pytest
from annotated_types import Ge, Gt, Le, Lt

from reprkit.errors import ReferenceSyntaxError, ReprkitError, UnknownPartError
from reprkit.registry.annotations import INTERFACES
from reprkit.registry.constraints import check_arguments, resolve_annotations, short_repr
from reprkit.registry.create import construct, create
from reprkit.registry.references import parse
from reprkit.registry.registry import Registry
from reprkit.registry.sources import BUILD_CONTEXT
from reprkit.testing.sample_data import SAMPLE_DATA
from reprkit.testing.small import small_reference

KINDS = (*INTERFACES, "dataset")


def parts(*, installed=True):
    """Return (kind, found part, class) of every part of the core and, if asked, of the installed plugins."""
    registry = Registry(installed=installed)
    return [
        (kind, found, registry.load(kind, found.qualified))
        for kind in KINDS
        for found in registry.specs(kind)
    ]


def numbers(hint, metadata=()):
    """Iterate over (type, constraints) of every number in an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner, *more = arguments
        yield from numbers(inner, (*metadata, *more))
    elif hint in (int, float):
        yield hint, metadata
    elif origin in (Union, types.UnionType):
        for each in arguments:
            yield from numbers(each, metadata)
    elif origin is not Literal:
        for each in arguments:
            yield from numbers(each)


def numeric_arguments(cls):
    """Return the names of a part's numeric arguments with all ranges in them; the build context is none of them."""
    hints = resolve_annotations(cls)
    found = {name: list(numbers(hint)) for name, hint in hints.items() if name not in BUILD_CONTEXT}
    return {name: each for name, each in found.items() if each}


def test_every_number_has_both_ends_of_a_range():
    without = []
    count = 0
    for kind, part, cls in parts():
        for argument, found in numeric_arguments(cls).items():
            for _, metadata in found:
                count += 1
                low = any(isinstance(each, Ge | Gt) for each in metadata)
                high = any(isinstance(each, Le | Lt) for each in metadata)
                if not (low and high):
                    without.append(f"{kind} {part.qualified}: {argument}")
    assert count > 100
    assert not without, without


@pytest.mark.parametrize(
    ("hint", "ends"), [(int, False), (Annotated[int, Ge(1)], False), (Annotated[float, Gt(0), Le(1)], True)]
)
def test_the_walk_sees_a_missing_end(hint, ends):
    class Part:
        def __init__(self, x: hint | None = None):
            pass

    ((_, metadata),) = numeric_arguments(Part)["x"]
    assert (len(metadata) == 2) is ends
    assert math.isfinite(len(metadata))


# ------------------------------------------------------------------ wrong values

WRONG = (
    -1,
    0,
    1,
    10**12,
    2**63,
    10**400,
    0.5,
    1e300,
    math.nan,
    math.inf,
    "x",
    "no",
    "",
    None,
    True,
    False,
    (),
    [],
    [1],
    (1,),
    {},
    [[]],
    b"1",
)
PATHS = {"path", "root", "folder", "model", "file"}
CHEAP = 0.03  # seconds that a constructor may take to be called with values that its annotations allow


def base_arguments(part, cls):
    """Return small sizes, and a path that does not exist where a path is needed."""
    parameters = inspect.signature(cls).parameters
    sizes = parse(small_reference(part)).arguments
    needed = [name for name, each in parameters.items() if each.default is each.empty and name in PATHS]
    return {**sizes, **dict.fromkeys(needed, "no/such/folder")}


def build_contexts(cls):
    """Return the build contexts to try: sample data of each kind where the constructor takes it."""
    parameters = inspect.signature(cls).parameters
    tokens = {"tokens": 4} if "tokens" in parameters else {}
    return [{"data": data, **tokens} for data in SAMPLE_DATA.values()] if "data" in parameters else [tokens]


def cheap_context(kind, cls, given, what):
    """Return the context in which the part is built in little time; None if there is none."""
    for context in build_contexts(cls) if kind != "dataset" else ():
        began = time.process_time()
        try:
            construct(cls, given, context, what)
        except ReprkitError:
            continue
        return context if time.process_time() - began < CHEAP else None
    return None


def faults_of(kind, part, cls):
    """Iterate over the wrong values that end neither in a part nor in an error that names the argument, or end late."""
    given, what = base_arguments(part, cls), f"{kind} {part.qualified}"
    context = cheap_context(kind, cls, given, what)
    for argument, hint in resolve_annotations(cls).items():
        if argument in (*BUILD_CONTEXT, "return") or hint is typing.Any:
            continue
        for value in WRONG:
            title = f"{what}: {argument}={short_repr(value)}"
            began = time.process_time()
            try:
                check_arguments(cls, {argument: value}, what)
                if context is not None:
                    construct(cls, {**given, argument: value}, context, what)
            except (ReferenceSyntaxError, UnknownPartError):
                pass  # a reference to a part, which the error quotes
            except ReprkitError as error:
                if argument not in str(error):
                    yield f"{title}: {type(error).__name__} without the argument's name: {error}"
            except Exception as error:
                yield f"{title}: {type(error).__name__} {error}"
            if time.process_time() - began > 2:
                yield f"{title}: took {time.process_time() - began:.1f} s"


def walk(chosen):
    """Return the faults of parts, and raise if there are some; called in a process of its own, with a limit of memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        faults = [fault for each in chosen for fault in faults_of(*each)]
    if faults:
        raise AssertionError(f"{len(faults)} faults\n" + "\n".join(faults))


@pytest.mark.parametrize("kind", ["likelihood", "corruption", "latent"])
def test_wrong_values_of_small_parts(kind, tmp_path):
    chosen = [part for part in parts(installed=False) if part[0] == kind]
    assert isolated.outcome(lambda: walk(chosen), tmp_path)[0] == isolated.SUCCESS


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_values_of_every_part(kind, tmp_path):
    for part in parts():
        if part[0] == kind:
            found, details = isolated.outcome(lambda part=part: walk([part]), tmp_path, seconds=60)
            assert found == isolated.SUCCESS, details


def test_values_that_were_misread():
    for text in (
        "vq(cosine='no')",
        "vq(codes='4')",
        "vq(codes=10**9)",
        f"vq(codes={10**9})",
        "vq(decay=None)",
        f"residual-vq(layers={10**9})",
    ):
        with pytest.raises(ReprkitError):
            create("latent", text)
    with pytest.raises(ReprkitError, match="views"):
        create("objective", "contrastive(views=1)")
    with pytest.raises(ReprkitError, match="kinds"):
        create("dataset", "arrays(path='x.npy', kinds=1)")
    with pytest.raises(ReprkitError, match="depth"):
        create("encoder", "transformer(depth=1000000000)", data=SAMPLE_DATA["images"])
