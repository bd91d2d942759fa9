"""Tables: columns of a vector field, missing values, likelihood mixed, and all of it through training and a checkpoint."""

import json

import pytest
import torch
from torch import distributions

import reprkit as rk
from reprkit.data import Tensors, check_batch, collate
from reprkit.errors import CheckpointError, DataError, PartArgumentError
from reprkit.testing import DecoderConformance, EncoderConformance, LikelihoodConformance
from reprkit.testing.kit import failed_checks
from reprkit.testing.sample_data import TABLES, VECTORS, random_batch

FIELD = TABLES["x"]


class TestMixed(LikelihoodConformance):
    part, data = "mixed", TABLES


class TestGaussian(LikelihoodConformance):
    part, data = "gaussian", TABLES


def table(rows=200):
    """Rows in which height follows from trade and the rest is noise; an eighth is missing."""
    batch = random_batch(TABLES, rows, seed=1)
    batch["x"][:, 4] = 1.5 + 0.2 * batch["x"][:, 1:4].argmax(1) + 0.01 * batch["x"][:, 4].sub(1.7)
    return Tensors(batch, TABLES)


def build(**options):
    parts = {"encoder": "mlp(width=16)", "latent": "continuous(dim=4)", "decoder": "mlp(width=16)"}
    return rk.build(data=TABLES, **{**parts, **options})


def test_a_table_with_categories_has_the_mixed_likelihood_and_one_without_does_not():
    assert type(build().decoder.head.likelihood).__name__ == "Mixed"
    numbers = rk.Field(kind="vector", shape=(2,), columns=(rk.Column("a"), rk.Column("b", std=3.0)))
    assert numbers.likelihood == "gaussian"
    with pytest.raises(PartArgumentError, match="has no columns"):
        rk.create("likelihood", "mixed", data=VECTORS)


def test_mixed_equals_torch_column_by_column():
    mixed = rk.create("likelihood", "mixed", data=TABLES)
    torch.manual_seed(0)
    out, raw = torch.randn(3, 1, 7, 1), torch.randn(2) * 0.1
    params = mixed.params({"linear": out}, {"raw_scale": raw})
    x = random_batch(TABLES, 3)["x"].unsqueeze(1)
    scale = params["log_scale"].exp().flatten()
    expected = torch.zeros(3, 1, 7)
    for at, mean, std in ((0, 40.0, 12.0), (4, 1.7, 0.1)):
        normal = distributions.Normal(mean + std * out[..., at, 0], scale[at])
        expected[..., at] = -normal.log_prob(x[..., at])
    found = mixed.nll(params, x)
    torch.testing.assert_close(found[..., [0, 4]], expected[..., [0, 4]])
    for places in (slice(1, 4), slice(5, 7)):
        category = distributions.Categorical(logits=out[..., places, 0])
        torch.testing.assert_close(found[..., places].sum(-1), -category.log_prob(x[..., places].argmax(-1)))


def test_scales_start_at_the_column_s_own():
    for likelihood in ("mixed", "gaussian", "laplace"):
        part = rk.create("likelihood", likelihood, data=TABLES)
        zero = {name: value * 0 for name, value in part.constants(7).items()}
        params = part.params({"linear": torch.zeros(1, 1, 7, 1)}, zero)
        torch.testing.assert_close(params["log_scale"].exp()[0, 0, [0, 4]], torch.tensor([12.0, 0.1]))
        torch.testing.assert_close(params["mean"][0, 0, [0, 4]], torch.tensor([40.0, 1.7]))


@pytest.mark.parametrize("encoder", ["mlp(width=16)", "gru(width=16)", "transformer(width=16, heads=2)"])
def test_missing_values_change_neither_code_nor_loss(encoder):
    model = build(encoder=encoder).eval()
    batch = random_batch(TABLES, 16)
    assert not batch["x_mask"].all()
    other = {**batch, "x": torch.where(batch["x_mask"], batch["x"], torch.tensor(77.0))}
    torch.testing.assert_close(model.encode(other).z, model.encode(batch).z)
    torch.testing.assert_close(model.score(other).nats, model.score(batch).nats)
    read = torch.tensor([40.0, 0, 0, 0, 1.7, 0, 0])
    filled = {"x": torch.where(batch["x_mask"], batch["x"], read)}
    torch.testing.assert_close(model.encode(filled, in_range=False).z, model.encode(batch).z)
    counted = model.score(batch)
    assert torch.equal(counted.weight[:, 0], batch["x_mask"].float())


def test_noise_leaves_missing_values_out():
    batch = random_batch(TABLES, 16)
    corrupted, hit = rk.create("corruption", "gaussian-noise(std=0.5)", data=TABLES)(batch)
    assert not hit[~batch["x_mask"]].any()
    assert torch.equal(corrupted["x"][~batch["x_mask"]], batch["x"][~batch["x_mask"]])


def test_a_table_trains_samples_and_comes_back_from_a_checkpoint(tmp_path):
    data = table()
    model = build()
    before = rk.evaluate(model, data, "reconstruction")["reconstruction"]["nll"]
    rk.fit(model, data, steps=60, batch=64, lr=5e-3)
    after = rk.evaluate(model, data, "reconstruction")["reconstruction"]["nll"]
    assert after < before - 1
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.signature["x"] == FIELD
    assert [column.name for column in loaded.output_field.columns] == ["age", "trade", "height", "native"]
    assert loaded.output_field.columns[1].classes == ("cook", "smith", "tailor")
    batch = data.batch(range(20))
    torch.testing.assert_close(loaded.score(batch).nats, model.eval().score(batch).nats)
    with torch.no_grad():
        drawn = loaded.decode(loaded.encode(batch)).sample()
    check_batch({"x": drawn[:, 0]}, TABLES)
    assert loaded.to_batch(loaded.decode(loaded.encode(batch)))["x"].shape == (20, 7)


def test_a_page_shows_whole_rows_where_values_are_missing():
    from reprkit.reporting.gallery import gallery

    shown = gallery(build().eval(), table(), examples=4)
    assert shown.lengths is None
    assert shown.inputs.shape == shown.outputs.shape == (4, 7)


def test_a_damaged_column_is_refused(tmp_path):
    folder = build().save(tmp_path / "model")
    manifest = json.loads((folder / "reprkit.json").read_text())
    for key, value, word in (
        ("classes", [1, 2, 3], "a list of texts"),
        ("mean", "low", "a finite number"),
        ("colour", 1, "does not know"),
    ):
        changed = json.loads(json.dumps(manifest))
        changed["signature"]["x"]["columns"][1][key] = value
        (folder / "reprkit.json").write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match=word):
            rk.load(folder)


def test_a_signature_without_columns_is_written_as_before():
    assert set(VECTORS.to_json()["x"]) == {"kind", "shape", "range", "vocab"}
    assert rk.Signature.from_json(json.loads(json.dumps(TABLES.to_json())))["x"] == FIELD


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: rk.Column("a", "numbr"), "a number or a category"),
        (lambda: rk.Column("a", std=0), "std above 0"),
        (lambda: rk.Column("a", mean=float("nan")), "must be finite"),
        (lambda: rk.Column("a", classes=("x", "y")), "a number has no classes"),
        (lambda: rk.Column("a", "category", classes=("x",)), "two or more"),
        (lambda: rk.Column("a", "category", classes=("x", "x")), "two or more"),
        (lambda: rk.Field(kind="vector", shape=(3,), columns=(rk.Column("a"),)), "the vector 3"),
        (lambda: rk.Field(kind="vector", shape=(2,), columns=(rk.Column("a"), rk.Column("a"))), "same name"),
        (lambda: rk.Field(kind="image", shape=(2, 2, 1), columns=(rk.Column("a"),)), "describe a vector"),
        (
            lambda: rk.Field(
                kind="sequence", shape=(4, 2), columns=(rk.Column("a", "category", classes=("x", "y")),)
            ),
            "the channels of a sequence are numbers",
        ),
        (
            lambda: rk.Field(kind="vector", shape=(1,), range=(0, 1), columns=(rk.Column("a"),)),
            "without range",
        ),
    ],
)
def test_invalid_columns_are_refused(make, word):
    with pytest.raises(DataError, match=word):
        make()


@pytest.mark.parametrize(
    ("places", "values", "mask", "word"),
    [
        (slice(1, 4), [1.0, 1.0, 0.0], None, "column 'trade': example 0"),
        (slice(1, 4), [0.0, 0.5, 0.5], None, "column 'trade': example 0"),
        (slice(5, 7), [0.0, 0.0], None, "column 'native': example 0"),
        (slice(1, 4), [0.0, 1.0, 0.0], [True, False, True], "missing as a whole"),
    ],
)
def test_categories_are_one_hot_or_missing(places, values, mask, word):
    batch = random_batch(TABLES, 2)
    batch["x_mask"][:] = True
    check_batch(batch, TABLES)
    batch["x"][0, places] = torch.tensor(values)
    if mask is not None:
        batch["x_mask"][0, places] = torch.tensor(mask)
    with pytest.raises(DataError, match=word):
        check_batch(batch, TABLES)


def test_masks_of_missing_values_are_collated():
    batch = random_batch(TABLES, 3)
    rows = [{name: value[index] for name, value in batch.items()} for index in range(3)]
    found = collate(rows, TABLES)
    assert torch.equal(found["x_mask"], batch["x_mask"])


def test_parts_conform_on_tables():
    for kit, part in ((EncoderConformance, "mlp(width=8)"), (DecoderConformance, "mlp(width=8)")):
        case = kit()
        case.part, case.data = part, TABLES
        assert failed_checks(case, ranks=False) == {}


@pytest.mark.slow
@pytest.mark.ranks
def test_two_ranks_equal_one_process_on_tables():
    case = DecoderConformance()
    case.part, case.data = "mlp(width=8)", TABLES
    case.test_two_ranks_equal_one_process()
