import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data import Tensors
from reprkit.reporting.gallery import STEPS, gallery

NET = {"encoder": "mlp(widths=(16,))", "decoder": "mlp(widths=(16,))"}


def built(data, latent, **parts):
    return rk.build(data=data, latent=latent, **{**NET, **parts}).eval()


def test_inputs_and_outputs_are_the_models(digits):
    _, test = digits
    model = built(test, "continuous(dim=3)")
    result = gallery(model, test, 5)
    batch = test.batch(range(5))
    assert np.array_equal(result.inputs, batch["x"].numpy())
    assert np.allclose(
        result.outputs, model.to_batch(model.decode(model.encode(batch)))["x"].detach().numpy()
    )
    assert result.samples is None
    assert result.notes == [
        "No samples: the latent has no prior; a second model can learn one over its codes."
    ]


def test_a_traversal_passes_through_the_example_itself(digits):
    _, test = digits
    model = built(test, "continuous(dim=3)")
    result = gallery(model, test, 5)
    assert set(result.traversals) == {"dimension 0", "dimension 1", "dimension 2"}
    codes = model.encode(test.batch(range(len(test))))
    for dimension in range(3):
        steps = result.traversals[f"dimension {dimension}"]
        assert steps.shape == (STEPS, 8, 8, 1)
        assert np.allclose(steps[STEPS // 2], result.outputs[0], atol=1e-5)
        moved = codes.z[:1].clone()
        moved[..., dimension] += 2 * codes.z[:, 0, dimension].std(correction=0)
        end = model.to_batch(model.decode({"code": rk.Code(z=moved, grid=(1,), length=1)}))["x"]
        assert np.allclose(steps[-1], end[0].detach().numpy(), atol=1e-5)


def test_samples_are_drawn_from_the_prior_by_the_seed(digits):
    _, test = digits
    model = built(test, "gaussian(dim=3)")
    first, again, other = (gallery(model, test, 4, seed=seed).samples for seed in (0, 0, 1))
    drawn = model.to_batch(model.sample(4, torch.Generator().manual_seed(0)))["x"]
    assert np.array_equal(first, drawn.detach().numpy())
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_discrete_codes_are_not_traversed(digits):
    _, test = digits
    result = gallery(built(test, "binary(bits=4)"), test, 4)
    assert result.traversals == {}
    assert result.samples.shape == (4, 8, 8, 1)


def test_a_dead_dimension_is_not_traversed(reader, table):
    data = table(torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    model = rk.build(
        data=data, encoder=reader.Reads(2), latent=reader.Plain(2), decoder="mlp(widths=(4,))"
    ).eval()
    assert set(gallery(model, data, 3).traversals) == {"dimension 0"}


def test_a_causal_decoder_reads_its_teacher_and_generates(digits):
    _, test = digits
    model = rk.build(data=test, decoder="gru(width=8)", objective="autoregressive").eval()
    result = gallery(model, test, 3)
    assert result.outputs.shape == result.samples.shape == (3, 8, 8, 1)
    assert result.traversals == {}


def test_varying_lengths_are_recorded(table):
    mask = torch.arange(6) < torch.tensor([[6], [2], [4]])
    data = table(torch.rand(3, 6, 2), mask=mask)
    model = built(
        data, "gaussian(dim=2)", encoder="gru(width=8)", decoder="transformer(width=8, depth=1, heads=2)"
    )
    result = gallery(model, data, 3)
    assert result.lengths.tolist() == [6, 2, 4]
    assert result.notes == ["No samples: the data's lengths vary; use model.generate(length=...)."]
    assert len(result.traversals) == 2


def test_no_gallery_without_decoder(reader, table):
    data = table(torch.rand(4, 2))
    assert gallery(reader(data), data) is None
    assert rk.evaluate(reader(data), data, "codebook").gallery is None


def test_fewer_examples_than_requested_and_zero(digits):
    _, test = digits
    few = test.subset(range(2))
    assert len(rk.evaluate(built(test, "continuous(dim=2)"), few, "codebook").gallery.inputs) == 2
    assert rk.evaluate(built(test, "continuous(dim=2)"), few, "codebook", examples=0).gallery is None


@pytest.mark.parametrize("pool", [True, False])
def test_each_of_two_factors_is_traversed(pool, digits):
    _, test = digits
    factors = {
        "content": rk.factor("vit(patch=4, width=8, heads=2, depth=1)", "continuous(dim=1)"),
        "style": rk.factor("mlp(widths=(8,))", "continuous(dim=1)", pool=pool),
    }
    model = rk.build(data=test, factors=factors, decoder="vit(patch=4, width=8, heads=2, depth=1)").eval()
    result = gallery(model, test, 4)
    assert set(result.traversals) == {"content 0", "style 0"}
    assert np.allclose(result.traversals["style 0"][STEPS // 2], result.outputs[0], atol=1e-5)


def test_large_images_are_downsampled():
    x = torch.rand(3, 200, 330, 1)
    data = Tensors({"x": x}, rk.Signature({"x": rk.Field(kind="image", shape=(200, 330, 1), range=(0, 1))}))
    result = gallery(built(data, "continuous(dim=1)"), data, 2)
    assert result.inputs.shape == result.outputs.shape == (2, 67, 110, 1)
    assert result.inputs[0, 1, 2, 0] == pytest.approx(float(x[0, 3:6, 6:9, 0].mean()))
    assert result.traversals["dimension 0"].shape == (STEPS, 67, 110, 1)


@pytest.mark.parametrize(("dim", "said"), [(12, True), (8, False)])
def test_a_caption_names_the_dimensions_that_are_drawn(dim, said, digits):
    _, test = digits
    result = gallery(built(test, f"continuous(dim={dim})").eval(), test, 4)
    assert len(result.traversals) == 8
    assert ("Traversals: the 8 of 12 dimensions that vary most." in result.notes) == said
