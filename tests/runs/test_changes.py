"""What may change on resuming, and what makes another run; without training."""

import pytest

from reprkit.errors import TrainingError
from reprkit.runs.changes import compare_runs, warning_about

MODEL = {
    "factors": {"code": {"encoder": "reprkit/mlp()", "latent": "reprkit/vq()", "input": "x", "pool": False}},
    "decoder": "reprkit/mlp()",
    "objective": "reprkit/masked(normalise=True)",
    "weights": {},
}
FACTS = {
    "seed": 0, "steps": 10, "batch": 32, "lr": 0.1, "model": MODEL, "recipe": "ab", "device": "cpu",
    "settings": {"main": {"name": "SGD", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}},
    "data": {"name": "d", "size": 9, "signature": {"x": {"kind": "vector"}}},
}  # fmt: skip


def changed(path, value):
    """The facts with one entry replaced."""
    name, *rest = path.split(".")
    facts = dict(FACTS)
    if not rest:
        return {**facts, name: value}
    inner = facts[name] = dict(facts[name])
    for key in rest[:-1]:
        inner[key] = dict(inner[key])
        inner = inner[key]
    inner[rest[-1]] = value
    return facts


def compare(now, before=FACTS, renamed=None, same=True):
    return compare_runs(before, now, renamed or {}, same)


def test_equal_facts_and_those_of_an_earlier_version_are_accepted():
    assert compare(FACTS) == []
    old = {"batch": 32, "lr": 0.1, "seed": 0, "optimizer": "sgd(momentum=0.9)"}
    assert compare({**FACTS, "optimizer": "sgd"}, before=old, same=None) == []
    with pytest.raises(TrainingError, match="the optimizer was adam and is sgd"):
        compare({**FACTS, "optimizer": "sgd"}, before={**old, "optimizer": "adam(lr=1)"})


def test_former_names_of_arguments_are_no_change():
    now = changed("model.objective", "reprkit/masked(normalize=True)")
    assert compare(now, renamed={"normalise": "normalize"}) == []
    with pytest.raises(TrainingError, match=r"objective was .*normalise=True\) and is .*normalize"):
        compare(now)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", 3, "seed was 0 and is 3"),
        ("model.decoder", "acme/mine()", r"decoder was reprkit/mlp\(\) and is acme/mine"),
        ("model.factors.code.input", "y", "input of factor code was x and is y"),
        ("model.factors.other", {}, "factor other was None and is {}"),
        ("model.weights", {"kl": "0.5"}, "weights was {} and is"),
        ("settings.main.name", "Adam", "the optimizer of turn main was SGD and is Adam"),
        ("settings.main.nesterov", True, "nesterov of the optimizer of turn main was False and is True"),
        ("data.size", 10, "size of the data was 9 and is 10"),
    ],
)
def test_another_run_is_refused_by_name(path, value, message):
    with pytest.raises(TrainingError, match=f"not the run that was saved:\n  {message}"):
        compare(changed(path, value))


def test_all_that_differs_is_named():
    with pytest.raises(TrainingError) as refused:
        compare({**changed("model.decoder", "a"), "seed": 1}, same=False)
    for name in ("seed was 0", "decoder was", "fingerprint of the data was"):
        assert f"\n  {name}" in str(refused.value)


@pytest.mark.parametrize(
    ("path", "value", "warning"),
    [
        ("lr", 0.2, "resumed with another lr 0.1 → 0.2"),
        ("batch", 64, "resumed with another batch 32 → 64: from here on the order of examples differs"),
        ("settings.main.momentum", 0.5, "resumed with another optimizer, turn main: momentum 0.9 → 0.5"),
        ("recipe", "cd", "resumed with another source of the recipe"),
        ("steps", 20, ""),
        ("device", "cuda", ""),
    ],
)
def test_what_may_change_is_returned(path, value, warning):
    (change,) = compare(changed(path, value))
    assert change["to"] == value
    assert warning_about([change]) == warning


def test_a_long_value_is_shown_where_it_differs():
    before = changed("model.objective", "reprkit/" + "a" * 200 + "X")
    with pytest.raises(TrainingError) as refused:
        compare(changed("model.objective", "reprkit/" + "a" * 200 + "Y"), before=before)
    assert "...aaaaaaaaaaX and is ...aaaaaaaaaaY" in str(refused.value)


def test_another_order_of_reading_a_stream_is_a_change():
    stream = {"name": "s", "stream": True, "buffer": 1000, "signature": {"x": {"kind": "vector"}}}
    sharded = {**stream, "reading": "every process reads its own part of the shards", "shards": 4}
    sharded |= {"records": 100, "readers": 8}
    before = {**FACTS, "data": sharded}
    assert compare(before, before) == []
    changes = compare({**FACTS, "data": {**sharded, "readers": 4, "shards": 5}}, before)
    assert warning_about(changes) == (
        "resumed with another shards of the stream 4 → 5, readers of the stream 8 → 4: from here on the order of examples differs"
    )
    earlier = compare({**FACTS, "data": sharded}, {**FACTS, "data": stream})  # a state of an earlier version
    assert "reading of the stream every process reads all records" in warning_about(earlier)
    with pytest.raises(TrainingError, match="records of the data was 100 and is 99"):
        compare({**FACTS, "data": {**sharded, "records": 99}}, before)
