"""``reprkit inspect`` of checkpoints, runs and damaged files, without torch and without plugins."""

import json
import shutil

import pytest

import reprkit as rk
from reprkit.commands import main
from reprkit.registry.registry import Registry, using_registry
from reprkit.runs import run as run_files

PLUGIN = """
    from reprkit import Spec, hookimpl

    @hookimpl
    def reprkit_latents():
        yield Spec("plain", "acme_parts:Plain")
"""
PARTS = """
    import torch
    import reprkit as rk

    class Plain(rk.Latent):
        def __init__(self, dims: tuple[int, ...] = (2, 3)):
            super().__init__(in_dim=sum(dims), out_dim=sum(dims))
            self.scale = torch.nn.Parameter(torch.ones(7))

        def forward(self, features):
            return rk.Code.of(features, z=features.x * self.scale.mean())
"""


@pytest.fixture
def run(capsys):
    def call(*args):
        with using_registry(Registry()), pytest.raises(SystemExit) as exited:
            main.main(["inspect", *map(str, args)])
        out, err = capsys.readouterr()
        return exited.value.code or 0, out, err

    return call


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits").split()


def build_model(train, latent="vq(codes=8, dim=3)", objective="reconstruction + 0.5 * denoising"):
    return rk.build(
        data=train,
        encoder="mlp(widths=(16,))",
        latent=latent,
        decoder="mlp(widths=(12,))",
        objective=objective,
    )


@pytest.mark.slow
def test_a_run(run, digits, tmp_path):
    train, _ = digits
    model = build_model(train)
    rk.fit(model, train, steps=4, batch=16, out=tmp_path / "run")
    model.save(tmp_path / "run/model")
    run_files.write_results(
        tmp_path / "run", {"knn": {"accuracy": 0.5, "n": 3}, "reconstruction": {"error": 2.25}}
    )
    code, out, err = run(tmp_path / "run")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    encoder = sum(parameter.numel() for parameter in model.factors["code"].encoder.parameters())
    assert f"code encoder mlp(widths=(16,)) 16 {encoder:,}" in lines
    assert any(line.startswith("code latent vq(codes=8, dim=3) 3 → 3") for line in lines)
    assert any(line.startswith("decoder mlp(widths=(12,)) 12") for line in lines)
    assert "objective reconstruction + 0.5 * denoising" in lines
    assert "data x: image (8 8 1) in [0, 1]" in lines
    assert "data label: label of 10 symbols" in lines
    assert any(line.startswith("run: finished, seed 0:") for line in lines)
    assert "knn.accuracy 0.5" in lines
    assert "reconstruction.error 2.25" in lines
    assert f"plugin reprkit {rk.__version__}: installed" in lines
    assert run(tmp_path / "run/model")[1] == out

    found = json.loads(run(tmp_path / "run", "--json")[1])
    numbers = sum(v.numel() for v in model.state_dict().values() if v.is_floating_point())
    assert found["numbers"] == numbers == sum(part["numbers"] for part in found["parts"])
    assert found["run"]["metrics"] == {"knn.accuracy": 0.5, "knn.n": 3, "reconstruction.error": 2.25}
    assert found["run"]["seed"] == 0
    assert found["signature"]["x"]["kind"] == "image"
    assert [part["kind"] for part in found["parts"]] == [
        "encoder", "adapter", "latent", "adapter", "decoder", "objective"
    ]  # fmt: skip


@pytest.mark.slow
def test_without_results_the_last_logged_line_is_shown(run, digits, tmp_path):
    train, _ = digits
    model = build_model(train)
    rk.fit(model, train, steps=4, batch=16, out=tmp_path)
    model.save(tmp_path / "model")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    found = json.loads(run(tmp_path, "--json")[1])["run"]
    assert found["metrics"]["step"] == 4
    assert "metrics, from metrics.jsonl" in run(tmp_path)[1]
    (tmp_path / "results.json").write_text("{")
    assert "results.json is damaged" in run(tmp_path)[1]


def test_several_factors_and_no_decoder(run, digits, tmp_path):
    train, _ = digits
    model = rk.build(
        data=train,
        factors={
            "shape": rk.factor("vit(width=16, depth=1, heads=2)", "gaussian(dim=5)"),
            "style": rk.factor("mlp(widths=(8,))", "continuous(dim=2)", pool=True),
        },
        objective="contrastive(dim=4)",
    )
    lines = [" ".join(line.split()) for line in run(model.save(tmp_path / "m"))[1].splitlines()]
    assert any(line.startswith("shape latent gaussian(dim=5) 10") for line in lines)
    assert any(line.startswith("style encoder mlp(widths=(8,)) 8") and "pooled" in line for line in lines)
    head = sum(parameter.numel() for parameter in model.objective.parameters())
    assert f"objective contrastive(dim=4) {head:,}" in lines
    assert not any("decoder" in line for line in lines)


def test_a_plugin_that_is_not_installed(site, run, digits, tmp_path):
    site.add("acme-latents", PLUGIN, version="0.3.1", modules={"acme_parts": PARTS})
    with using_registry(Registry()):
        folder = build_model(digits[0], latent="acme-latents/plain(dims=(4, 2))").save(tmp_path / "m")
    code, out, _ = run(folder)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "code latent acme-latents/plain(dims=(4, 2)) 6 → 6 7" in lines
    assert "plugin acme-latents 0.3.1: installed" in lines

    (tmp_path / "acme_latents-0.3.1.dist-info").rename(tmp_path / "acme_latents-0.4.dist-info")
    text = (tmp_path / "acme_latents-0.4.dist-info/METADATA").read_text()
    (tmp_path / "acme_latents-0.4.dist-info/METADATA").write_text(
        text.replace("Version: 0.3.1", "Version: 0.4")
    )
    assert "plugin acme-latents 0.3.1: installed as 0.4" in run(folder)[1]

    shutil.rmtree(tmp_path / "acme_latents-0.4.dist-info")
    code, out, _ = run(folder)
    assert code == 0
    assert "not offered by any installed plugin: acme-latents/plain" in out
    assert "plugin acme-latents 0.3.1: not installed; pip install acme-latents==0.3.1" in out
    with using_registry(Registry()), pytest.raises(rk.ReprkitError):
        rk.load(folder)


def test_damaged_checkpoints(run, digits, tmp_path):
    folder = build_model(digits[0]).save(tmp_path / "m")
    assert "is not a checkpoint: it has no reprkit.json" in run(tmp_path)[2]
    code, out, err = run(tmp_path / "nothing")
    assert (code, out, f"there is no folder {tmp_path / 'nothing'}" in err) == (1, "", True)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged, message in (
        (whole[:-4], "its header describes"),
        (whole[:40], "is damaged, or not a safetensors file"),
        (b"", "is damaged, or not a safetensors file"),
        (b"\xff" * 100, "is damaged, or not a safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "cannot be read"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "cannot be read"),
    ):
        weights.write_bytes(damaged)
        code, _, err = run(folder)
        assert (code, message in err) == (1, True), (damaged[:20], err)
    weights.unlink()
    assert "has no model.safetensors" in run(folder)[2]
    (folder / "reprkit.json").write_text("[]")
    assert "states no format number" in run(folder)[2]
    (folder / "reprkit.json").write_text("{")
    assert "cannot be read" in run(folder)[2]


def test_a_newer_format_is_shown_as_far_as_possible(run, digits, tmp_path):
    folder = build_model(digits[0]).save(tmp_path / "m")
    manifest = json.loads((folder / "reprkit.json").read_text())
    (folder / "reprkit.json").write_text(json.dumps(manifest | {"format": 9, "reprkit": "3.0", "novelty": 1}))
    code, out, _ = run(folder)
    assert code == 0
    assert "of format 9; this reprkit can load formats up to 1" in out
