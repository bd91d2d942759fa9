"""One part in several places of a model: it is one part again after loading, and its weights are stored once."""

import copy
import json

import pytest
import torch
from checkpoints_made import same
from safetensors import safe_open

import reprkit as rk
from reprkit import Spec, hookimpl
from reprkit.checkpoints.save_load import MANIFEST, WEIGHTS
from reprkit.errors import CheckpointError
from reprkit.registry.registry import Registry, using_registry


class Wrapped(rk.Latent):
    """A latent around another one, which may stand elsewhere too."""

    def __init__(self, inner: rk.Latent, others: list[rk.Latent] | None = None):
        super().__init__(in_dim=inner.in_dim, out_dim=inner.out_dim)
        self.inner, self.others = inner, torch.nn.ModuleList(others or [])

    def forward(self, features: rk.Features) -> rk.Code:
        return self.inner(features)

    def bind(self, model):
        BOUND.append(self)


class Counting(rk.Latent):
    """A latent that counts how often it is bound and updated."""

    def __init__(self, dim: int = 3):
        super().__init__(in_dim=dim, out_dim=dim)
        self.linear, self.updates = torch.nn.Linear(dim, dim), 0

    def forward(self, features: rk.Features) -> rk.Code:
        return rk.Code.of(features, z=self.linear(features.x))

    def bind(self, model):
        BOUND.append(self)

    def update(self):
        self.updates += 1


BOUND = []


class Plugin:
    @hookimpl
    def reprkit_latents(self):
        yield Spec("wrapped", f"{__name__}:Wrapped")
        yield Spec("counting", f"{__name__}:Counting")


@pytest.fixture(autouse=True)
def registry():
    BOUND.clear()
    with using_registry(Registry(installed=False)) as own:
        own.register(Plugin(), name="acme-latents", version="0.3.1")
        yield own


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


def two_factors(digits):
    encoder = rk.create("encoder", "mlp(widths=(9,))", data=digits.signature)
    latent = Counting()
    return rk.build(
        data=digits,
        factors={"a": rk.factor(encoder, latent), "b": rk.factor(encoder, latent, pool=True)},
        decoder="mlp(widths=(8,))",
    )


def parts_of(model):
    return [part for factor in model.factors.values() for part in (factor.encoder, factor.latent)]


def test_a_part_of_two_factors_is_one_part_after_loading(digits, tmp_path):
    model = two_factors(digits)
    loaded = rk.load(model.save(tmp_path / "model"))
    for each in (model, loaded, rk.load(loaded.save(tmp_path / "again")), copy.deepcopy(model)):
        first, one, second, two = parts_of(each)
        assert first is second
        assert one is two
    same(model, loaded, digits.batch(range(8)))
    batch = digits.batch(range(8))
    loaded.train()(batch).total.backward()
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    optimizer.step()
    assert torch.equal(
        loaded.factors["a"].encoder.layers[0].weight, loaded.factors["b"].encoder.layers[0].weight
    )
    with safe_open(tmp_path / "model" / WEIGHTS, "pt") as file:
        names = list(file.keys())
    assert sum("encoder" in name for name in names) == 2, "a weight and a bias, once"
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    assert manifest["factors"]["b"]["encoder"]["shared"] == "factors.a.encoder"
    assert "shared" not in manifest["factors"]["a"]["encoder"]


def test_a_shared_part_is_bound_and_updated_once(digits):
    model = two_factors(digits)
    assert [model.factors["a"].latent] == BOUND
    model(digits.batch(range(4))).total.backward()
    model.update()
    assert model.factors["a"].latent.updates == 1


def test_a_part_inside_of_another_is_shared_too(digits, tmp_path):
    inner = Counting()
    both = [inner, Counting()]
    model = rk.build(
        data=digits,
        factors={
            "a": rk.factor("mlp(widths=(9,))", Wrapped(inner, both)),
            "b": rk.factor("mlp(widths=(9,))", inner),
        },
        decoder="mlp(widths=(8,))",
    )
    outer = model.factors["a"].latent
    assert set(BOUND[:2]) == set(both), "inner parts are bound first"
    assert BOUND[2:] == [outer]
    loaded = rk.load(model.save(tmp_path / "model"))
    latent = loaded.factors["a"].latent
    assert latent.inner is latent.others[0] is loaded.factors["b"].latent
    assert latent.others[1] is not latent.inner
    same(model, loaded, digits.batch(range(8)))


def test_a_shared_part_with_parts_inside_is_built_once(digits, tmp_path):
    outer = Wrapped(Counting())
    model = rk.build(
        data=digits,
        factors={"a": rk.factor("mlp(widths=(9,))", outer), "b": rk.factor("mlp(widths=(9,))", outer)},
        decoder="mlp(widths=(8,))",
    )
    folder = model.save(tmp_path / "model")
    BOUND.clear()
    loaded = rk.load(folder)
    assert [loaded.factors["a"].latent.inner, loaded.factors["a"].latent] == BOUND
    assert loaded.factors["b"].latent is loaded.factors["a"].latent
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["factors"]["b"]["latent"]["shared"] = "factors.b.latent.arguments.inner"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(
        CheckpointError, match=r"factors.b.latent.shared is damaged: it must be an earlier part"
    ):
        rk.load(folder)


def test_equal_parts_that_are_not_one_stay_two(digits, tmp_path):
    model = rk.build(
        data=digits,
        factors={"a": rk.factor("mlp(widths=(9,))"), "b": rk.factor("mlp(widths=(9,))")},
        decoder="mlp(widths=(8,))",
    )
    folder = model.save(tmp_path / "model")
    assert "shared" not in (folder / MANIFEST).read_text()
    first, _, second, _ = parts_of(rk.load(folder))
    assert first is not second


def test_fine_tuning_keeps_a_shared_encoder_one(digits):
    from reprkit.evaluation.finetune import _copy_as_classifier

    tuned = _copy_as_classifier(two_factors(digits), digits, "label")
    first, one, second, two = parts_of(tuned)
    assert first is second
    assert one is two


class Halves(rk.Latent):
    """Two buffers and a weight that are views of one storage, beside the whole."""

    def __init__(self) -> None:
        super().__init__(in_dim=2, out_dim=2)
        whole = torch.arange(8.0)
        self.register_buffer("whole", whole)
        self.register_buffer("first", whole[:4])
        self.register_buffer("last", whole[3:])
        self.register_buffer("square", whole.view(2, 4))

    def forward(self, features):
        return rk.Code.of(features, z=features.x)


def test_views_of_one_storage_are_saved_and_loaded(tmp_path, monkeypatch):
    """safetensors refused some of them, and read others with the shape of the whole."""
    from safetensors.torch import load_file, save_model

    from reprkit.utils.sharded_tensors import FullStateDict

    one, two = Halves(), Halves()
    one.whole.add_(10)
    save_model(FullStateDict(one, separate_views=True), str(tmp_path / "file"))
    two.load_state_dict(load_file(tmp_path / "file"))
    for name, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[name], value), name
    assert two.first.data_ptr() == two.whole.data_ptr(), "they go on sharing"
    tied = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    tied["b"].weight = tied["a"].weight
    save_model(FullStateDict(tied, separate_views=True), str(tmp_path / "tied"))
    assert len(load_file(tmp_path / "tied")) == 3, "equal tensors are stored once"
