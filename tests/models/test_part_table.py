"""What ``print(model)`` and a notebook show of a model."""

import reprkit as rk
from reprkit.models.part_table import count_parameters, part_rows
from reprkit.reporting.describe_model import describe_model


def digits(**parts):
    return rk.build(data=rk.dataset("digits").signature, **parts)


def test_a_model_prints_as_a_table_of_its_parts():
    model = digits(
        encoder="mlp(widths=(32,))", latent="vq(codes=8, dim=2, codebooks=4)", decoder="mlp(widths=(16,))"
    )
    first, *lines = str(model).splitlines()
    assert first == "Model on cpu, training mode, of data with x: image 8 × 8 × 1; label: 10 classes"
    words = [line.split() for line in lines]
    assert words[0] == ["part", "reference", "width", "parameters"]
    encoder = 64 * 32 + 32
    assert words[2] == ["encoder", "reprkit/mlp(widths=(32,))", "→", "32", f"{encoder:,}"]
    assert lines[3].split("  ")[0] == "latent"
    assert "8 → 8, 4 slots, each of 8 codes" in lines[3]
    assert "16 → 8 × 8 × 1" in str(model)
    assert lines[-1].split() == ["whole", "model", f"{sum(p.numel() for p in model.parameters()):,}"]
    assert sum(row.parameters for row in part_rows(model)) == count_parameters(model)
    assert model._repr_html_().count("<tr>") == len(part_rows(model)) + 2


def test_factors_outputs_and_frozen_parts_are_named():
    factors = {name: rk.factor("mlp(widths=(8,))", "continuous(dim=2)") for name in ("a", "b")}
    model = digits(factors=factors, decoder="mlp(widths=(8,))")
    model.factors["a"].encoder.requires_grad_(False)
    rows = {row.role: row for row in part_rows(model)}
    assert list(rows) == [
        "encoder (a)",
        "latent (a)",
        "encoder (b)",
        "latent (b)",
        "decoder",
        "objective",
        "adapters",
    ]
    assert rows["encoder (a)"].frozen
    assert not rows["encoder (b)"].frozen
    assert not rows["latent (a)"].frozen  # it has no parameters
    assert "frozen" in str(model)


def test_tied_weights_are_counted_once():
    model = digits(encoder="flat", latent="continuous(dim=3)", decoder="mirror")
    rows = part_rows(model)
    assert sum(row.parameters for row in rows) == sum(each.numel() for each in set(model.parameters()))
    about = describe_model(model, rk.dataset("digits"))
    assert about["parameters"] == count_parameters(model)
    assert about["parts"]["latent"] == {
        "reference": "reprkit/continuous(dim=3)",
        "width": "3 → 3",
        "parameters": 0,
    }


def test_a_model_without_decoder_and_text_is_escaped(monkeypatch):
    model = digits(encoder="mlp(widths=(8,))", latent="continuous(dim=2)", objective="contrastive")
    assert "decoder" not in str(model).split()
    monkeypatch.setattr(type(model.objective), "expression", "<b>x</b>")
    assert "&lt;b&gt;" in model._repr_html_()
