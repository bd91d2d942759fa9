"""Exported encoders equal the model for any batch size, and run without reprkit."""

import itertools
import json
import subprocess
import sys

import pytest
import torch

import reprkit as rk
from reprkit.checkpoints.export import ABOUT
from reprkit.errors import BuildError, CheckpointError, PartArgumentError
from reprkit.testing.small import small_references

ENCODERS, LATENTS = small_references("encoder"), small_references("latent")
# Every encoder and every latent at least once; the whole product is marked slow.
SOME = [
    (ENCODERS[place % len(ENCODERS)], LATENTS[place % len(LATENTS)])
    for place in range(max(len(ENCODERS), len(LATENTS)))
]


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


def sequences(symbols=False):
    fields = (
        rk.Field(kind="tokens", shape=(None,), vocab=9)
        if symbols
        else rk.Field(kind="sequence", shape=(None, 3))
    )
    return rk.Signature({"x": fields})


def padded(size, length, symbols=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (size, 1), generator=generator)
    x = torch.randint(9, (size, length), generator=generator)
    x = x if symbols else torch.randn(size, length, 3, generator=generator)
    return {"x": x, "x_mask": torch.arange(length) < lengths}


def only_encoding(signature, encoder, latent):
    """A model without a decoder, with perturbed weights."""
    torch.manual_seed(0)
    model = rk.build(data=signature, encoder=encoder, latent=latent, decoder=None, objective="contrastive")
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return model.eval()


def check(program, model, batches):
    run = program.module()
    for batch in batches:
        with torch.no_grad():
            found, codes = run(batch), model.encode(batch)
        assert torch.allclose(found["representation"], model.represent(batch), atol=1e-6)
        assert torch.allclose(found["z"], codes.z, atol=1e-6)
        assert found["z"].shape == codes.z.shape
        if codes.indices is None:
            assert "indices" not in found
        else:
            assert torch.equal(found["indices"], codes.indices)
        assert all(type(value) is torch.Tensor for value in found.values())


def images(digits):
    return [{"x": digits.batch(range(size))["x"]} for size in (7, 1, 40)]


@pytest.mark.parametrize(("encoder", "latent"), SOME)
@pytest.mark.slow
def test_every_encoder_and_every_latent(digits, encoder, latent):
    model = only_encoding(digits.signature, encoder, latent)
    check(rk.export(model), model, images(digits))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "latent"), [each for each in itertools.product(ENCODERS, LATENTS) if each not in SOME]
)
def test_all_combinations(digits, encoder, latent):
    model = only_encoding(digits.signature, encoder, latent)
    check(rk.export(model), model, images(digits))


@pytest.mark.parametrize("symbols", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_attention_exports_with_dynamic_length(symbols):
    model = only_encoding(sequences(symbols), "transformer(width=16, depth=1, heads=2)", "vq(codes=6, dim=4)")
    program = rk.export(model, length=5)
    check(program, model, [padded(4, 9, symbols), padded(1, 1, symbols), padded(2, 200, symbols)])


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["gru(width=8)", "gru(width=8, depth=2, causal=False)"])
def test_recurrence_exports_with_fixed_length(encoder):
    model = only_encoding(sequences(), encoder, "continuous(dim=4)")
    program = rk.export(model, length=6)
    batches = [padded(4, 6), padded(1, 6, seed=1)]
    batches[0]["x_mask"] = batches[0]["x_mask"].flip(1)  # padding may stand anywhere
    check(program, model, batches)
    with pytest.raises(AssertionError, match=r"size\(\)\[1\] == 6"):
        program.module()(padded(4, 7))


@pytest.mark.slow
def test_outputs_of_several_factors_are_named(digits):
    factors = {
        "shape": rk.factor("mlp(widths=(8,))", "continuous(dim=3)"),
        "sort": rk.factor("conv(width=8)", "one-hot(classes=4)", pool=True),
    }
    model = rk.build(data=digits, factors=factors, decoder="mlp(widths=(8,))").eval()
    batch = images(digits)[0]
    found = rk.export(model).module()(batch)
    codes = model.encode(batch)
    assert sorted(found) == ["representation", "shape.z", "sort.indices", "sort.z"]
    assert torch.allclose(found["shape.z"], codes["shape"].z, atol=1e-6)
    assert torch.equal(found["sort.indices"], codes["sort"].indices)
    assert torch.allclose(found["representation"], model.represent(batch), atol=1e-6)


@pytest.mark.slow
def test_exported_file_runs_without_reprkit(digits, tmp_path):
    model = only_encoding(digits.signature, "vit(width=16, depth=1, heads=2)", "vq(codes=300, dim=4)")
    rk.export(model, tmp_path / "new" / "encoder.pt2")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["encoder.pt2"]
    x = digits.batch(range(11))["x"]
    torch.save(x, tmp_path / "x.pt")
    code = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("reprkit", "einops", "jaxtyping", "accelerate"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Blocked())
try:
    import reprkit
    raise SystemExit("it could be imported")
except ImportError:
    pass
import torch
extra = {"about.json": ""}
encode = torch.export.load("new/encoder.pt2", extra_files=extra).module()
torch.save({**encode({"x": torch.load("x.pt")}), "about": extra["about.json"]}, "found.pt")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    assert torch.allclose(found["representation"], model.represent({"x": x}), atol=1e-6)
    assert torch.equal(found["indices"], model.encode({"x": x}).indices)
    about = json.loads(found["about"])
    assert ABOUT == "about.json"
    assert about["inputs"] == {"x": [None, 8, 8, 1]}
    assert about["outputs"] == ["representation", "z", "indices"]
    assert about["reprkit"] == rk.__version__


def test_export_uses_evaluation_mode_and_restores_training_mode(digits):
    model = rk.build(
        data=digits, encoder="mlp(widths=(8,), dropout=0.5)", latent="gaussian(dim=3)", decoder="mlp"
    )
    model.train()
    model.decoder.eval()  # as a frozen part
    model.factors["code"].latent.eval()
    program = rk.export(model)
    assert model.training
    assert model.factors["code"].encoder.training
    assert not model.factors["code"].latent.training
    assert not model.decoder.training
    batch = images(digits)[0]
    assert torch.allclose(program.module()(batch)["z"], model.eval().encode(batch).z, atol=1e-6)


def test_export_errors_are_explained(digits, tmp_path):
    class Looks(rk.Latent):
        def __init__(self):
            super().__init__(in_dim=4, out_dim=4)

        def forward(self, features):
            return rk.Code.of(features, z=features.x * (2 if features.x.sum().item() > 0 else 1))

    model = rk.build(data=digits, encoder="mlp(widths=(8,))", latent=Looks(), decoder="mlp(widths=(8,))")
    with pytest.raises(BuildError, match=r"cannot be exported: .*in latent .*Looks, factor code"):
        rk.export(model)
    silent = rk.build(
        data=digits, encoder=None, latent=None, decoder="gru(width=8)", objective="autoregressive"
    )
    with pytest.raises(BuildError, match="no encoder"):
        rk.export(silent)
    with pytest.raises(PartArgumentError, match="length must be at least 2, not 1"):
        rk.export(model, length=1)
    (tmp_path / "file").write_text("")
    model = only_encoding(digits.signature, "mlp(widths=(8,))", "continuous(dim=2)")
    with pytest.raises(CheckpointError, match="cannot write"):
        rk.export(model, tmp_path / "file" / "encoder.pt2")


def test_model_without_data_needs_a_batch(digits):
    model = rk.build(
        encoder=rk.create("encoder", "mlp(widths=(8,))", data=digits.signature),
        latent="continuous(dim=2)",
        decoder=None,
        objective="contrastive",
    ).eval()
    with pytest.raises(BuildError, match="pass rk.export a batch="):
        rk.export(model)
    with pytest.raises(PartArgumentError, match="at least two examples"):
        rk.export(model, batch=digits.batch([0]))
    with pytest.raises(BuildError, match="a factor reads field 'x'"):
        rk.export(model, batch={"y": torch.zeros(2)})
    check(rk.export(model, batch=digits.batch(range(4))), model, images(digits))
