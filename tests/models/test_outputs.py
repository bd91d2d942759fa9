"""Several outputs: each decoder reads its factors and returns its field; training, checkpoints, evaluation and the page."""

import json

import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError, CheckpointError
from reprkit.models.warm_start import warm_start
from reprkit.runs.filenames import MANIFEST
from reprkit.testing.pool import together
from reprkit.utils.collectives import sum_over_ranks, world_size

DATA = Signature(
    {
        "gray": Field(kind="image", shape=(4, 4, 1), range=(0, 1)),
        "color": Field(kind="image", shape=(4, 4, 2), range=(-1, 1)),
        "word": Field(kind="tokens", shape=(5,), vocab=7),
    }
)


def examples(size=12):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(size, 4, 4, 3, generator=generator)
    word = torch.randint(7, (size, 5), generator=generator)
    return Tensors({"gray": x[..., :1], "color": 2 * x[..., 1:] - 1, "word": word}, DATA)


def built(latent="gaussian(dim=3)", **options):
    parts = {
        "factors": {
            "a": rk.factor("mlp(widths=(8,))", latent, input="gray"),
            "b": rk.factor("mlp(widths=(9,))", latent, input="color"),
        },
        "decoder": {
            "color": rk.output("mlp(widths=(7,))", reads="a"),
            "gray": rk.output("mlp(widths=(6,))", reads=("b",)),
            "text": rk.output("gru(width=8, causal=False)", field="word"),
        },
    }
    return rk.build(**{"data": DATA, **parts, **options})


@pytest.fixture(scope="module")
def batch():
    return examples().batch(range(12))


def test_each_output_reads_its_factors_and_returns_its_field(batch):
    model = built().eval()
    assert list(model.outputs) == ["color", "gray", "text"]
    assert [output.reads for output in model.outputs.values()] == [("a",), ("b",), ("a", "b")]
    assert model.outputs["text"].field == DATA["word"]
    assert model.get_decoder("gray").head.linear.out_features == 16
    codes = model.encode(batch)
    color = model.decode(codes, output="color")
    alone = model.decode({"a": codes["a"]}, output="color")
    assert torch.equal(color.x, alone.x)
    assert model.to_batch(color, output="color")["color"].shape == (12, 4, 4, 2)
    assert model.target(batch, color, output="color").shape == color.x.shape
    moved = codes | {"b": rk.types.replace(codes["b"], z=codes["b"].z + 1)}
    assert torch.equal(model.decode(moved, output="color").x, color.x)
    assert not torch.equal(
        model.decode(moved, output="text").params["logits"],
        model.decode(codes, output="text").params["logits"],
    )
    assert model.sample(3, output="text").x.shape == (3, 5, 1)


def test_the_reconstruction_is_the_sum_over_outputs(batch):
    """Against each output's likelihood, by itself and by hand."""
    model = built().eval()
    losses = model(batch)
    parts = [model.score(batch, output=name).per_example.mean() for name in model.outputs]
    torch.testing.assert_close(losses.terms["reconstruction"], sum(parts))
    torch.testing.assert_close(losses.metrics["gray.nll"], parts[1])
    decoded = model.decode(model.encode(batch), output="gray")
    by_hand = (decoded.x.view(12, 4, 4, 1) - batch["gray"]).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(losses.metrics["gray.error"], by_hand)
    assert "text.perplexity" in losses.metrics
    losses.total.backward()
    assert all(value.grad is not None for value in model.parameters())


def test_one_output_by_name_equals_one_decoder(batch):
    """Up to the names: its loss is that of the short form with the same weights."""
    short = rk.build(
        data=DATA,
        encoder=None,
        factors={"a": rk.factor("mlp(widths=(8,))", input="gray")},
        decoder="mlp(widths=(7,))",
        output="color",
    ).eval()
    named = rk.build(
        data=DATA,
        factors={"a": rk.factor("mlp(widths=(8,))", input="gray")},
        decoder={"color": rk.output("mlp(widths=(7,))")},
    ).eval()
    names = {"decoder.": "decoders.color.", "adapters.": "adapters.color."}
    renamed = {}
    for name, value in short.state_dict().items():
        head = next((old for old in names if name.startswith(old)), "")
        renamed[names.get(head, "") + name.removeprefix(head)] = value
    named.load_state_dict(renamed)
    torch.testing.assert_close(named(batch).total, short(batch).total, rtol=0, atol=0)
    assert set(short.outputs) == set(named.outputs) == {"color"}
    assert torch.equal(short.score(batch, output="color").nats, short.score(batch).nats)
    assert named.decode(named.encode(batch)).x.shape == (12, 1, 32), "the only one needs no name"
    assert (named.output, named.decoder) == ("color", named.outputs["color"].decoder)


def test_save_and_load_are_equal(batch, tmp_path):
    model = built().eval()
    loaded = rk.load(model.save(tmp_path / "model"))
    assert list(loaded.outputs) == list(model.outputs)
    for name, output in model.outputs.items():
        other = loaded.outputs[name]
        assert (other.reads, other.field_name) == (output.reads, output.field_name)
        assert str(other.decoder.reference) == str(output.decoder.reference)
        assert torch.equal(loaded.score(batch, output=name).nats, model.score(batch, output=name).nats)
    again = rk.load(loaded.save(tmp_path / "again"))
    assert torch.equal(again(batch).total, model(batch).total)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "decoder of text" in card
    assert "(b 6)" in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["outputs"]["color"].update(reads="a"), "outputs.color.reads is damaged"),
        (lambda m: m["outputs"]["color"].update(field=3), "outputs.color.field is damaged"),
        (lambda m: m["outputs"].update({"a b": m["outputs"]["color"]}), r"outputs\['a b'\] is damaged"),
        (lambda m: m["outputs"]["color"].pop("reads"), "has no entry 'reads'"),
        (lambda m: m.update(decoder=m["outputs"]["color"]["decoder"]), "decoder is damaged: it must be null"),
        (lambda m: m["outputs"]["color"]["decoder"].update(id="reprkit/vq"), "decoder reprkit/vq"),
    ],
)
def test_a_manifest_is_checked(change, message, tmp_path):
    folder = built().save(tmp_path / "model")
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=message):
        rk.load(folder)


def test_what_needs_one_output_says_so(batch):
    model = built()
    for ask in (
        lambda: model.decoder,
        lambda: model.output,
        lambda: model.output_field,
        lambda: model.score(batch),
        lambda: model.decode(model.encode(batch)),
        lambda: model.get_decoder(),
        lambda: rk.evaluate(model, examples(), "interpolation", examples=0),
    ):
        with pytest.raises(BuildError, match=r"say which, output=; there are: color, gray, text"):
            ask()
    with pytest.raises(BuildError, match=r"no output named 'colour'; there are: .* Did you mean 'color'"):
        model.score(batch, output="colour")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "denoising"}, "denoising trains one output, and this model has color, gray, text"),
        ({"objective": "reconstruction + masked"}, "masked trains one output"),
        ({"decoder": {"color": "mlp"}}, "output color: write rk.output"),
        ({"decoder": {"color": rk.output("mlp", reads="c")}}, "output color: no factor named 'c'"),
        ({"decoder": {"a b": rk.output("mlp")}}, "plain word"),
        ({"decoder": {"colour": rk.output("mlp")}}, "the data has no field 'colour', only gray, color, word"),
        ({"decoder": {"color": rk.output("mlp", reads="a")}}, "no output reads the code of factor b"),
        ({"decoder": {}}, "has no output"),
        ({"output": "gray"}, "output='gray' is the field of one decoder"),
    ],
)
def test_wrong_outputs_are_refused(options, message):
    with pytest.raises(BuildError, match=message):
        built(**options)


LABELED = Signature({**DATA, "label": Field(kind="label", shape=(), vocab=3)})


@pytest.mark.parametrize(
    "objective",
    [
        "across(factors=('a', 'b'), dim=4)",
        "contrastive(dim=4, views='gaussian-noise')",
        "classify(factor='b')",
    ],
)
def test_a_factor_that_the_objective_reads_needs_no_output(objective, batch):
    outputs = {"color": rk.output("mlp", reads="a")}
    parts = {"decoder": outputs, "objective": f"reconstruction + 0.5 * {objective}"}
    model = built("continuous(dim=3)", data=LABELED, **parts).train()
    losses = model({**batch, "label": torch.arange(12) % 3})
    losses.total.backward()
    assert set(losses.terms) == {"reconstruction", objective.partition("(")[0]}
    assert all(weight.grad is not None for weight in model.factors["b"].encoder.parameters())
    codes = model.eval().encode(batch, factors=["a"])
    assert len(model.decode(codes).x) == len(batch["color"])


@pytest.mark.parametrize("objective", ["contractive", "across(factors=('a', 'c'))", "classify(factor='a')"])
def test_a_factor_that_nothing_reads_is_refused(objective):
    outputs = {"color": rk.output("mlp", reads="a")}
    with pytest.raises(BuildError, match="no output reads the code of factor b"):
        built(data=LABELED, decoder=outputs, objective=f"reconstruction + 0.5 * {objective}")


def test_evaluators_and_galleries_name_the_output(tmp_path):
    model, data = built(), examples()
    results = rk.evaluate(model, data, "reconstruction")
    found = results["reconstruction"]
    assert found["nll"] == pytest.approx(sum(found[f"{name}.nll"] for name in model.outputs))
    assert {"color.error", "gray.mse", "text.accuracy", "kl", "negative_elbo"} <= set(found)
    assert found["negative_elbo"] == pytest.approx(found["nll"] + found["kl"])
    assert list(results.galleries) == ["color", "gray", "text"]
    assert results.galleries["color"].outputs.shape == (12, 4, 4, 2)
    assert results.galleries["gray"].samples.shape == (12, 4, 4, 1)
    assert set(results.about["parts"]) >= {"decoder (color)", "decoder (gray)", "decoder (text)"}
    page = rk.report(tmp_path, results).read_text()
    assert "decoder (text)" in page
    from reprkit.reporting.page_store import read_page_store

    stored = read_page_store(tmp_path).runs[""]
    assert list(stored.galleries) == ["color", "gray", "text"]
    assert (stored.galleries["gray"].outputs == results.galleries["gray"].outputs).all()


def test_it_trains_in_a_loop_and_starts_another_model(tmp_path):
    data, model = examples(), built("continuous(dim=3)")
    for step in rk.loop(model, data, steps=3, batch=6, out=tmp_path):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    record = json.loads((tmp_path / "run.json").read_text())
    assert "outputs" in json.dumps(record)
    other = built("continuous(dim=3)", seed=1)
    warm_start(other, model)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def train_step(rank):
    """Loss and gradients of one step, of this process's part of the batch, averaged over the processes."""
    size, model = world_size(), built().train()
    rows = slice(rank * 12 // size, (rank + 1) * 12 // size)
    torch.manual_seed(5)
    losses = model({name: value[rows] for name, value in examples().batch(range(12)).items()})
    losses.total.backward()
    found = {name: sum_over_ranks(value.grad) / size for name, value in model.named_parameters()}
    return found | {"loss": sum_over_ranks(losses.total.detach()) / size}


@pytest.mark.ranks
def test_two_processes_equal_one():
    alone, both = train_step(0), together(2, train_step)[0]
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.ranks
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_loop_on_two_processes_equals_one(strategy):
    alone, both = loop_of(0, "ddp"), together(2, loop_of, strategy, timeout=250)[0]
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value, atol=1e-4, rtol=1e-3, msg=name)


def loop_of(rank, strategy):
    model, data = built("continuous(dim=3)"), examples()
    given = {"steps": 3, "batch": 6, "lr": 1e-2, "optimizer": "sgd(momentum=0.9)", "device": "cpu"}
    for step in rk.loop(model, data, strategy=strategy, progress=False, **given):
        step.backward(step.model(step.batch).total)
        step.update()
    return {name: value.clone() for name, value in model.state_dict().items() if "usage" not in name}


def test_one_decoder_for_two_outputs_stays_one(tmp_path):
    decoder = rk.create("decoder", "mlp(widths=(7,))", data=DATA.reading("gray"), tokens=1)
    model = built(decoder={"gray": rk.output(decoder), "again": rk.output(decoder, field="gray", reads="a")})
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.get_decoder("gray") is loaded.get_decoder("again")


def test_a_mirror_for_each_of_two_encoders():
    model = built(
        "continuous(dim=3)",
        decoder={"gray": rk.output("mirror", reads="a"), "color": rk.output("mirror", reads="b")},
    )
    for name, factor in (("gray", "a"), ("color", "b")):
        assert model.get_decoder(name).layers[0].weight is model.factors[factor].adapter.weight
