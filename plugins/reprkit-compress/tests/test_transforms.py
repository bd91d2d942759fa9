"""Encoders and decoders strided and blocks: divisive normalization, and pictures of any size."""

import pytest
import torch
from reprkit_compress.layers.gdn import GDN, bounded_below

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.types import Features

# Outputs and gradients of compressai 1.2.8's GDN(3) with the weights and inputs of ``gdn_by_hand``.
DIVIDED = {
    "output": [
        [0.5352877378463745, -2.480686902999878, 1.085350751876831],
        [-0.2730773091316223, 2.4913506507873535, 0.922394871711731],
    ],
    "beta": [-0.25892189145088196, -0.024449767544865608, 2.606858968734741],
    "gamma": [
        [-0.0399041622877121, -0.08604738861322403, -6.564894647453912e-06],
        [0.41965267062187195, -0.1581733673810959, -6.033835234120488e-06],
        [0.07628070563077927, 0.7737424969673157, 3.7139642238616943],
    ],
}
MULTIPLIED = {
    "output": [
        [0.46703851222991943, -0.4031141400337219, 3.6854441165924072],
        [-0.22887291014194489, 0.2257811427116394, 2.4393022060394287],
    ],
    "beta": [0.23598937690258026, 0.0, -7.8302083015441895],
    "gamma": [
        [0.03502638265490532, 0.0763363465666771, 0.0],
        [-0.09289246052503586, -0.8634417653083801, -3.2937688956735656e-05],
        [-0.24674054980278015, -2.406297206878662, -11.550227165222168],
    ],
}


def build(name, size=16, depth=2, latent="rounded(dim=4)", **options):
    data = rk.data.Arrays(torch.rand(4, size, size, 3, generator=torch.Generator().manual_seed(0)).numpy())
    torch.manual_seed(0)
    given = "".join(f", {key}={value}" for key, value in options.items())
    return rk.build(
        encoder=f"{name}(width=8, depth={depth}{given})",
        latent=latent,
        decoder=f"{name}(width=8, depth={depth}, scale=0.1{given})",
        objective="reconstruction",
        data=data,
    )


@pytest.mark.parametrize(("inverse", "wanted"), [(False, DIVIDED), (True, MULTIPLIED)])
def test_gdn_equals_compressai(inverse, wanted):
    gdn = GDN(3, inverse=inverse)
    with torch.no_grad():  # one beta and one gamma lie below their bounds
        gdn.beta.copy_(torch.tensor([0.9, 0.0, 1.3]))
        gdn.gamma.copy_(torch.tensor([[0.3, 0.2, -0.1], [0.1, 0.4, 0.0], [0.25, 0.5, 0.6]]))
    x = torch.tensor([[0.5, -1.0, 2.0], [-0.25, 0.75, 1.5]]).view(2, 3, 1, 1)
    y = gdn(x)
    (y * torch.tensor([1.0, 2.0, -3.0]).view(1, 3, 1, 1)).sum().backward()
    for got, name in ((y.flatten(1), "output"), (gdn.beta.grad, "beta"), (gdn.gamma.grad, "gamma")):
        torch.testing.assert_close(got, torch.tensor(wanted[name]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_the_published_equation(inverse):
    gdn = GDN(3, inverse=inverse).double()
    beta = torch.tensor([0.5, 1.0, 2.0]).double()
    gamma = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.4, 0.5], [0.0, 0.6, 0.7]]).double()
    with torch.no_grad():
        gdn.beta.copy_((beta + 2**-36).sqrt())
        gdn.gamma.copy_((gamma + 2**-36).sqrt())
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = gdn(x)
    for b, i, h, w in [(0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 2, 2)]:
        norm = (beta[i] + sum(gamma[i, j] * x[b, j, h, w] ** 2 for j in range(3))) ** 0.5
        wanted = x[b, i, h, w] * norm if inverse else x[b, i, h, w] / norm
        assert got[b, i, h, w].item() == pytest.approx(wanted.item(), rel=1e-9)


def test_a_weight_below_its_bound_moves_up_only():
    x = torch.tensor([-1.0, -1.0, 2.0], requires_grad=True)
    (bounded_below(x, 0.5) * torch.tensor([-1.0, 1.0, 1.0])).sum().backward()
    assert x.grad.tolist() == [-1.0, 0.0, 1.0]  # a step along -1 brings the first one back


@pytest.mark.parametrize("name", ["strided", "blocks"])
def test_pictures_of_another_size_are_encoded_and_decoded(name):
    model = build(name).eval()
    encoder, decoder = model.factors["code"].encoder, model.decoder
    picture = torch.rand(1, 24, 40, 3)
    with torch.no_grad():
        features = encoder({"x": picture})
        assert features.grid == encoder.grid({"x": picture}) == (6, 10)
        assert encoder.count({"x": picture}) == features.x.shape[1] == 60
        decoded = decoder(Features(x=torch.randn(1, 60, decoder.in_dim), grid=(6, 10)))
    assert decoded.grid == (24, 40)
    assert decoded.x.shape == (1, 24 * 40, 3)
    assert {"any_size"} <= encoder.provides & decoder.provides


@pytest.mark.parametrize("name", ["strided", "blocks"])
def test_a_cell_depends_on_the_pixels_around_it_only(name):
    """The same pixels in a larger picture give the same cells, away from the border: nothing is averaged over the picture."""
    encoder = build(name, size=64).eval().factors["code"].encoder
    large = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = encoder({"x": large}).x.view(32, 32, -1)[12:20, 12:20]
        part = encoder({"x": large[:, 32:96, 32:96]}).x.view(16, 16, -1)[4:12, 4:12]
    torch.testing.assert_close(whole, part, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "part", ["strided(depth=2)", "blocks(depth=2)", "cosine(side=4)", "compact(scale=4)"]
)
def test_a_size_that_does_not_fit_is_refused(part):
    data = rk.Signature({"x": rk.Field(kind="image", shape=(16, 16, 3), range=(0.0, 1.0))})
    encoder = rk.create("encoder", f"reprkit-compress/{part}", data=data)
    with pytest.raises(DataError, match="multiples of 4, and these are 18 x 16: pad them to 20 x 16"):
        encoder({"x": torch.rand(1, 18, 16, 3)})


@pytest.mark.parametrize("part", ["compact(scale=4)", "cosine(side=4)", "restore(scale=4)"])
def test_transforms_of_numbers_refuse_symbols_and_sizes_that_do_not_fit(part):
    kind = "decoder" if part.startswith("restore") else "encoder"
    odd = rk.Signature({"x": rk.Field(kind="image", shape=(18, 16, 3), range=(0.0, 1.0))})
    with pytest.raises(BuildError, match="=4 does not divide images of 18 x 16"):
        rk.create(kind, f"reprkit-compress/{part}", data=odd)
    symbols = rk.Signature({"x": rk.Field(kind="map", shape=(16, 16), vocab=5)})
    with pytest.raises(BuildError, match="map of symbols"):
        rk.create(kind, f"reprkit-compress/{part}", data=symbols)


def test_an_even_kernel_is_refused():
    with pytest.raises(PartArgumentError, match="odd"):
        build("strided", kernel=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["strided", "blocks"])
def test_transforms_learn_a_picture(name):
    model = build(name, latent="continuous(dim=16)")
    grid = torch.linspace(0, 1, 16)
    x = torch.stack([torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).mean(-1)] * 3, -1)
    batch = {"x": torch.stack([x, x.flip(0), x.flip(1), 1 - x])}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        model(batch).total.backward()
        optimizer.step()
    error = (model.reconstruct(batch) - batch["x"]).square().mean()
    assert error < 0.1 * batch["x"].var()
