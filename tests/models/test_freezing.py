import json

import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError, CheckpointError

PARTS = {"encoder": "conv(width=8)", "latent": "vq(codes=8, dim=4)", "decoder": "conv(width=8)"}


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits").split(0)[0]


def train(model, data, **options):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rk.fit(model, data, **{"steps": 3, "batch": 32, "progress": False, **options})
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        ("adapters", ("factors.code.adapter.", "adapters.")),
        (("encoder", "decoder"), ("factors.code.encoder.", "decoder.")),
        ("code", ("factors.code.", "adapters.")),
        ("latent", ("factors.code.latent.",)),
    ],
)
@pytest.mark.parametrize("where", ["build", "loop"])
def test_frozen_parts_do_not_change_and_the_others_do(digits, freeze, frozen, where):
    model = rk.build(data=digits, **PARTS, freeze=freeze if where == "build" else ())
    changed = train(model, digits, **({"freeze": freeze} if where == "loop" else {}))
    assert not {name for name in changed if name.startswith(frozen)}
    moved = {name.rsplit(".", 1)[0] for name in changed}
    assert {
        name.rsplit(".", 1)[0] for name, _ in model.named_parameters() if not name.startswith(frozen)
    } <= moved
    assert ("factors.code.latent.codebook" in moved) == (freeze not in ("code", "latent"))


def test_a_frozen_model_loads_frozen_and_can_be_freed(digits, tmp_path):
    model = rk.build(data=digits, **PARTS)
    train(model, digits, freeze=("adapters", "code.encoder"))
    assert model.frozen == ("adapters", "code.encoder")
    model.save(tmp_path)
    loaded = rk.load(tmp_path).train()
    assert loaded.frozen == model.frozen
    assert not loaded.factors["code"].encoder.training
    assert loaded.get_decoder().training
    assert not any(p.requires_grad for p in loaded.factors["code"].encoder.parameters())
    changed = train(loaded, digits, freeze=())
    assert loaded.frozen == ()
    assert any(name.startswith("factors.code.encoder.") for name in changed)
    loaded.save(tmp_path)
    assert "frozen" not in json.loads((tmp_path / "reprkit.json").read_text())


def test_freezing_again_frees_what_only_freeze_had_frozen(digits):
    model = rk.build(data=digits, **PARTS)
    fixed = next(model.get_decoder().parameters()).requires_grad_(False)
    model.freeze("decoder")
    model.freeze("encoder")
    assert not fixed.requires_grad
    assert (
        sum(p.requires_grad for p in model.get_decoder().parameters())
        == len(list(model.get_decoder().parameters())) - 1
    )


def test_parts_of_several_factors_are_named_by_the_factor(digits):
    model = rk.build(
        data=digits,
        factors={"content": rk.factor("conv(width=8)"), "style": rk.factor("conv(width=8)", pool=True)},
        decoder="conv(width=8)",
        freeze=("content.encoder", "style"),
    )
    frozen = {
        name.split(".")[1] + "." + name.split(".")[2]
        for name, p in model.named_parameters()
        if not p.requires_grad and name.startswith("factors")
    }
    assert frozen == {"content.encoder", "style.encoder", "style.adapter"}


def test_an_unknown_name_has_the_nearest_match(digits, tmp_path):
    with pytest.raises(
        BuildError, match=r"no part 'adaptors'. Did you mean 'adapters'\?(.|\n)*its parts: .*decoder"
    ):
        rk.build(data=digits, **PARTS, freeze="adaptors")
    model = rk.build(data=digits, **PARTS, freeze=("decoder",))
    with pytest.raises(BuildError, match="no part 'decodr'"):
        next(iter(rk.loop(model, digits, steps=1, freeze="decodr")))
    assert model.frozen == ("decoder",)
    model.save(tmp_path)
    path = tmp_path / "reprkit.json"
    path.write_text(path.read_text().replace('"frozen": [\n  "decoder"\n ]', '"frozen": "decoder"'))
    with pytest.raises(CheckpointError, match="frozen is damaged: it must be a list of names"):
        rk.load(tmp_path)


def test_frozen_parts_are_used_as_in_evaluation(digits):
    model = rk.build(
        data=digits,
        encoder="mlp(widths=(8,), dropout=0.5)",
        latent="gaussian(dim=3)",
        decoder="mlp(widths=(8,))",
        freeze="code",
    )
    model.train()
    batch = digits.batch(range(4))
    one, two = (model(batch).total.item() for _ in range(2))
    assert one == two
