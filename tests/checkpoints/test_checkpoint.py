"""Saving and loading checkpoints: equality of models, error messages, no partial state."""

import json
import warnings
from itertools import pairwise

import pytest
import torch
from checkpoints_made import make, same
from safetensors.torch import load_file, save_file
from torch import nn

import reprkit as rk
from reprkit import Spec, hookimpl
from reprkit.checkpoints.save_load import CARD, MANIFEST, WEIGHTS, PluginVersionWarning
from reprkit.errors import CheckpointError, PartArgumentError
from reprkit.models.weighted_sum import WeightedSum
from reprkit.registry.registry import Registry, using_registry
from reprkit.testing.small import small_references


class Shrink(rk.Latent):
    """A latent of a plugin, with a tuple and a part among its arguments."""

    def __init__(self, sizes: tuple[int, ...] = (4,), inner: rk.Latent | None = None, *, note: object = None):
        super().__init__(in_dim=sizes[0], out_dim=sizes[-1])
        assert isinstance(sizes, tuple), "JSON lists must come back as tuples"
        self.sizes, self.inner = sizes, inner
        self.layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))

    def forward(self, features: rk.Features) -> rk.Code:
        return rk.Code.of(features, z=self.layers(features.x))


class Tied(rk.Latent):
    """A latent with two names for one weight."""

    def __init__(self, dim: int = 3):
        super().__init__(in_dim=dim, out_dim=dim)
        self.there = nn.Linear(dim, dim, bias=False)
        self.back = nn.Linear(dim, dim, bias=False)
        self.back.weight = self.there.weight

    def forward(self, features: rk.Features) -> rk.Code:
        return rk.Code.of(features, z=self.back(self.there(features.x)))


class Plugin:
    @hookimpl
    def reprkit_latents(self):
        yield Spec("shrink", f"{__name__}:Shrink")
        yield Spec("tied", f"{__name__}:Tied")


@pytest.fixture
def registry():
    with using_registry(Registry(installed=False)) as own:
        own.register(Plugin(), name="acme-latents", version="0.3.1")
        yield own


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


@pytest.mark.parametrize("latent", [*small_references("latent"), "gaussian(dim=4, beta=0.5)"])
def test_loaded_model_equals_the_saved_one(digits, tmp_path, latent):
    model = make(digits, latent, weights={"kl": 0.5} if "gaussian" in latent else None)
    model.train()
    model(digits.batch(range(32)))  # so that buffers have moved
    model.update()
    folder = model.save(tmp_path / "deep" / "model")
    loaded = rk.load(folder)
    assert not loaded.training
    assert loaded.weights == model.weights
    assert loaded.signature.to_json() == model.signature.to_json()
    same(model, loaded, digits.batch(range(8)))
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS, MANIFEST]
    assert {path.name for path in folder.parent.iterdir()} == {"model"}, "nothing is left beside it"


def test_all_components_are_restored(digits, tmp_path, registry):
    """Several factors, a sum of objectives, parts as arguments, and weights."""
    inner = rk.create("latent", "gaussian(dim=2)")
    model = rk.build(
        data=digits,
        factors={
            "shape": rk.factor("mlp(widths=(16,))", Shrink((8, 4), inner=inner)),
            "class_": rk.factor("mlp(widths=(8,))", "one-hot(classes=4)", pool=True),
        },
        decoder="mlp(widths=(16,))",
        objective="reconstruction + 0.25 * denoising(corruption='gaussian-noise(std=0.1)')",
        weights={"reconstruction": 2.0},
    )
    loaded = rk.load(model.save(tmp_path / "model"))
    same(model, loaded, digits.batch(range(8)))
    assert loaded.factors["class_"].pool
    assert isinstance(loaded.objective, WeightedSum)
    assert loaded.objective.part_weights == [1.0, 0.25]
    assert loaded.objective.parts[1].arguments == model.objective.parts[1].arguments
    latent = loaded.factors["shape"].latent
    assert latent.qualified == "acme-latents/shrink"
    assert latent.sizes == (8, 4)
    assert latent.inner.arguments == {"dim": 2}
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    assert manifest["plugins"] == {"reprkit": rk.__version__, "acme-latents": "0.3.1"}
    assert manifest["factors"]["shape"]["latent"]["id"] == "acme-latents/shrink"
    torch.manual_seed(3)
    one = model.train()(digits.batch(range(8))).total
    torch.manual_seed(3)
    assert torch.equal(one, loaded.train()(digits.batch(range(8))).total), "the same objective too"


def test_tied_weights_stay_tied(digits, tmp_path, registry):
    model = make(digits, "tied(dim=3)")
    loaded = rk.load(model.save(tmp_path / "model"))
    latent = loaded.latent()
    assert latent.there.weight is latent.back.weight
    same(model, loaded, digits.batch(range(8)))


def test_model_without_data_keeps_the_build_context_of_its_parts(digits, tmp_path):
    seen = digits.signature
    model = rk.build(
        encoder=rk.create("encoder", "mlp(widths=(8,))", data=seen),
        latent="continuous(dim=2)",
        decoder=rk.create("decoder", "mlp(widths=(8,))", data=seen, tokens=1),
        objective="reconstruction",
    )
    assert model.signature is None
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.signature is None
    same(model, loaded, {"x": digits.batch(range(4))["x"]})


def test_part_instances_are_identified_by_their_class(digits, tmp_path, registry):
    model = make(digits, Shrink((4, 2)))
    assert model.latent().qualified is None
    assert rk.load(model.save(tmp_path / "model")).latent().qualified == "acme-latents/shrink"


def test_saving_an_unregistered_part_fails(digits, tmp_path):
    class Mine(Shrink):
        pass

    with using_registry(Registry(installed=False)), pytest.raises(CheckpointError) as caught:
        make(digits, Mine((4, 4))).save(tmp_path / "model")
    assert "latent Mine of factor code cannot be saved: no plugin offers its class" in str(caught.value)
    assert "reprkit_latents" in str(caught.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("note", "named"),
    [(torch.zeros(2), "note is a Tensor"), ([1, {"a": float("nan")}], r"note[1]['a'] is a float, nan")],
)
def test_arguments_that_are_not_json_are_named(digits, tmp_path, registry, note, named):
    with pytest.raises(CheckpointError) as caught:
        make(digits, Shrink((4, 4), note=note)).save(tmp_path / "model")
    assert f"latent acme-latents/shrink of factor code cannot be saved: its argument {named}" in str(
        caught.value
    )


def test_missing_plugin_is_named_with_its_version(digits, tmp_path, registry):
    folder = make(digits, "shrink(sizes=(4, 2))").save(tmp_path / "model")
    with using_registry(Registry(installed=False)), pytest.raises(CheckpointError) as caught:
        rk.load(folder)
    assert "needs acme-latents 0.3.1, which is not installed: pip install 'acme-latents==0.3.1'" in str(
        caught.value
    )


def test_plugin_that_no_longer_offers_the_part_is_named(digits, tmp_path, registry):
    folder = make(digits, "shrink(sizes=(4, 2))").save(tmp_path / "model")

    class Later:
        @hookimpl
        def reprkit_latents(self):
            yield Spec("tied", f"{__name__}:Tied")

    with using_registry(Registry(installed=False)) as other:
        other.register(Later(), name="acme-latents", version="0.4")
        with pytest.raises(
            CheckpointError,
            match=r"written with acme-latents 0.3.1; acme-latents 0.4 is installed and does not",
        ):
            rk.load(folder)


def test_other_plugin_version_gives_one_warning(digits, tmp_path, registry):
    folder = make(digits, "shrink(sizes=(4, 2))").save(tmp_path / "model")
    with using_registry(Registry(installed=False)) as other:
        other.register(Plugin(), name="acme-latents", version="0.4")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            rk.load(folder)
    messages = [str(each.message) for each in seen if each.category is PluginVersionWarning]
    assert len(messages) == 1
    assert "acme-latents 0.3.1 (installed: 0.4)" in messages[0]


def edit_manifest(folder, **changes):
    path = folder / MANIFEST
    manifest = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(manifest))
    return manifest


def test_newer_format_and_unknown_entries_are_rejected(digits, tmp_path):
    folder = make(digits).save(tmp_path / "model")
    edit_manifest(folder, quantised=True)
    with pytest.raises(CheckpointError, match="entry 'quantised' that this reprkit does not know"):
        rk.load(folder)
    edit_manifest(folder, format=99)
    with pytest.raises(CheckpointError, match="is of format 99, .* this reprkit reads up to 1"):
        rk.load(folder)
    folder = make(digits).save(tmp_path / "other")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["factors"]["code"]["latent"]["argument"] = {}
    edit_manifest(folder, **manifest)
    with pytest.raises(CheckpointError, match=r"entry 'argument' .* Did you mean 'arguments'\?"):
        rk.load(folder)


def test_weights_are_checked_before_any_is_assigned(digits, tmp_path):
    folder = make(digits).save(tmp_path / "model")
    tensors = load_file(folder / WEIGHTS)
    tensors["decoder.extra"] = torch.zeros(2)
    tensors["factors.code.adapter.weight"] = torch.zeros(5, 16)
    del tensors["adapters.code.bias"]
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError) as caught:
        rk.load(folder)
    message = str(caught.value)
    assert "missing in adapters.code: adapters.code.bias" in message
    assert "unexpected in decoder: decoder.extra" in message
    assert (
        "of another size in factors.code.adapter: factors.code.adapter.weight (file (5, 16), model (4, 16))"
        in message
    )


def test_errors_for_missing_and_damaged_checkpoints(digits, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="is not a checkpoint: it has no reprkit.json"):
        rk.load(tmp_path / "empty")
    folder = make(digits).save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"there is no .*modle\n.*checkpoints beside it: .*model"):
        rk.load(tmp_path / "modle")
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        rk.load(folder)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / MANIFEST).write_text('{"format": 1, "fac')
    with pytest.raises(CheckpointError, match=r"reprkit.json cannot be read"):
        rk.load(folder)
    (folder / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(
        CheckpointError, match="the manifest is damaged: it has no entry 'decoder', 'factors'"
    ):
        rk.load(folder)


def test_unknown_arguments_are_named(digits, tmp_path):
    folder = make(digits).save(tmp_path / "model")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["factors"]["code"]["latent"]["arguments"] = {"dims": 4}
    edit_manifest(folder, **manifest)
    with pytest.raises(PartArgumentError, match=r"has no argument 'dims'. Did you mean 'dim'") as caught:
        rk.load(folder)
    assert any("while loading" in note for note in caught.value.__notes__)


def test_a_default_that_changed_holds_for_new_models_only(digits, tmp_path):
    """one-hot's entropy= was 0 in checkpoints that do not name it."""
    folder = rk.build(
        data=digits, encoder="mlp(widths=(8,))", latent="one-hot(classes=4)", decoder="mlp"
    ).save(tmp_path)
    assert rk.load(folder).latent().weights["entropy"] == 30.0
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["factors"]["code"]["latent"]["arguments"].pop("entropy", 0) is None
    (folder / MANIFEST).write_text(json.dumps(manifest))
    again = rk.load(folder).save(tmp_path / "again")
    assert rk.load(again).latent().weights["entropy"] == 0.0
