"""Latent hyperprior: its integer network and tables, rates in training and in bytes, several rates, and strings that never fail."""

import math
import subprocess
import sys

import numpy as np
import pytest
import reprkit_compress.latents.hyperprior as module
import torch
from reprkit_compress.latents.hyperprior import Hyperprior
from reprkit_compress.latents.scale_tables import ESCAPE, HALF, compact, gaussian_tables, half_width
from reprkit_compress.layers.integer import IntegerConv, IntegerSynthesis
from scipy.stats import norm

import reprkit as rk
from reprkit.errors import CompressionError, PartArgumentError
from reprkit.types import Code, Features
from reprkit.utils.symbol_stack import PlainStack


def make(dim=4, seed=0, **options):
    torch.manual_seed(seed)
    latent = Hyperprior(dim, side=3, hidden=6, **options)
    with torch.no_grad():  # untrained, means and scales would be about the same everywhere
        latent.synthesis.last.weight.mul_(40)
    latent.set_frequencies(latent.zero_counts())
    return latent.eval()


def features(b=3, grid=(5, 6), dim=4, seed=1, size=2.0):
    x = size * torch.randn(b, math.prod(grid), dim, generator=torch.Generator().manual_seed(seed))
    return Features(x=x, grid=grid)


def zeros_like(code):
    return Code.of(code, z=torch.zeros_like(code.z))


# ------------------------------------------------------------------ whole numbers


def test_the_integer_convolution_is_that_of_python_integers():
    torch.manual_seed(0)
    layer = IntegerConv(2, 3)
    torch.nn.init.normal_(layer.bias)
    x = torch.randint(-2000, 2000, (1, 2, 4, 5), generator=torch.Generator().manual_seed(0))
    got = layer(x.double())[0]
    weight = np.floor(layer.weight.detach().double().numpy() * 2**12 + 0.5).astype(int)
    bias = np.floor(layer.bias.detach().double().numpy() * 2**18 + 0.5).astype(int)
    for out, row, column in [(0, 0, 0), (2, 3, 4), (1, 2, 1)]:
        total = int(bias[out])
        for channel in range(2):
            for i in range(3):
                for j in range(3):
                    r, c = row + i - 1, column + j - 1
                    if 0 <= r < 4 and 0 <= c < 5:
                        total += int(weight[out, channel * 9 + i * 3 + j]) * int(x[0, channel, r, c])
        assert int(got[out, row, column]) == total


def test_sums_are_whole_numbers_that_no_order_changes():
    torch.manual_seed(0)
    layer = IntegerSynthesis(4, 8, 6).eval()
    z = torch.randint(-31, 32, (2, 4, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    whole = layer(z, None)
    assert whole.equal(whole.round())
    assert whole.abs().max() > 2**20
    assert layer(z[1:], None).equal(whole[1:])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():  # another order of the hidden channels: the sums are added in another order
        layer.first.weight.copy_(layer.first.weight[order])
        layer.first.bias.copy_(layer.first.bias[order])
        layer.second.weight.copy_(layer.second.weight.view(32, 8, 9)[:, order].flatten(1))
    assert layer(z, None).equal(whole)


def test_tables_are_rounded_gaussians():
    tables = gaussian_tables().numpy()
    assert (tables.sum(1) == 2**16).all()
    for scale, fraction in [(0, 4), (20, 1), (40, 7)]:
        sigma, mean = 0.11 * (64 / 0.11) ** (scale / 63), (fraction - 4) / 8
        half = half_width(scale)
        k = np.arange(-half, half + 1)
        wanted = norm.cdf((k + 0.5 - mean) / sigma) - norm.cdf((k - 0.5 - mean) / sigma)
        own = tables[scale * 8 + fraction]
        np.testing.assert_allclose(own[HALF - half : HALF + half + 1] / 2**16, wanted, atol=3e-3)
        assert own[ESCAPE] >= 1
        assert (compact(tables.astype(np.int64), scale * 8 + fraction) > 0).all()


# ------------------------------------------------------------------ bytes


@pytest.mark.parametrize("betas", [(1.0,), (0.25, 1.0, 4.0)])
def test_bytes_are_the_bits_of_the_code(betas):
    latent = make(betas=betas)
    code = latent(features(3, (16, 24)))
    strings = latent.write(code)
    for bits, string in zip(code.bits.tolist(), strings, strict=True):
        assert bits - 8 < 8 * len(string) < bits * 1.01 + 80
    counts = latent.zero_counts()
    latent.count_symbols(code, counts)
    assert latent.table_bits(counts) == pytest.approx(float(code.bits.sum()), rel=1e-6)
    again = latent.read(strings, zeros_like(code))
    assert again.indices.equal(code.indices)
    assert again.z.equal(code.z)


def test_a_string_depends_on_no_batch_and_no_padding():
    latent = make()
    x = torch.randn(3, 11, 4, generator=torch.Generator().manual_seed(3)) * 2
    mask = torch.arange(11)[None] < torch.tensor([[11], [6], [1]])
    code = latent(Features(x=x, mask=mask))
    strings = latent.write(code)
    for row, length in enumerate((11, 6, 1)):
        like = Code(z=torch.zeros(1, length, 4))
        assert latent.read([strings[row]], like).indices.equal(code.indices[row : row + 1, :length])


def test_numbers_beyond_a_table_are_escaped():
    latent = make(limit=100)
    code = latent(features(1, (4, 4), size=60.0))
    assert (code.indices - 100).abs().max() == 100
    assert latent.read(latent.write(code), zeros_like(code)).indices.equal(code.indices)


def test_the_coder_without_constriction_writes_the_same(monkeypatch):
    latent = make()
    code = latent(features(1))
    fast = latent.write(code)
    monkeypatch.setattr(module, "open_stack", PlainStack)
    assert latent.write(code) == fast
    assert latent.read(fast, zeros_like(code)).indices.equal(code.indices)


def test_without_tables_strings_are_longer_and_right():
    latent = make()
    code = latent(features(1))
    fitted = latent.write(code)
    latent.side_tables.zero_()
    assert not latent.has_tables
    assert len(latent.write(code)[0]) >= len(fitted[0])
    assert latent.read(latent.write(code), zeros_like(code)).indices.equal(code.indices)


def test_other_tables_are_noticed():
    latent, other = make(), make(seed=5)
    code = latent(features(1))
    with pytest.raises(CompressionError, match="other tables"):
        other.read(latent.write(code), zeros_like(code))


def model(seed=0):
    data = rk.data.Arrays(torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(0)).numpy())
    torch.manual_seed(seed)
    built = rk.build(
        encoder="strided(width=8, depth=2)",
        latent="hyperprior(dim=4, side=3, hidden=6, betas=(0.5, 1, 4))",
        decoder="strided(width=8, depth=2, scale=0.1)",
        objective="reconstruction",
        data=data,
    )
    return built.eval(), data


def test_every_damaged_byte_is_noticed():
    built, data = model()
    built.fit_frequencies(data)
    (string,) = built.compress(data.batch([0]))
    for place in range(len(string)):
        damaged = bytearray(string)
        damaged[place] ^= 0x41
        with pytest.raises(CompressionError):
            built.decompress([bytes(damaged)])


READ = """
import sys, torch, reprkit as rk
torch.set_num_threads(2)
torch.set_flush_denormal(True)
folder, = sys.argv[1:]
model = rk.load(folder).eval()
strings = torch.load(folder + "/strings.pt")
with torch.autocast("cpu", dtype=torch.bfloat16):
    found = [model.decompress([string])["code"].indices for string in strings]
torch.save(torch.cat(found), folder + "/found.pt")
"""


@pytest.mark.slow
def test_another_process_thread_count_precision_and_batch_size_read_the_same(tmp_path):
    built, data = model()
    built.fit_frequencies(data)
    torch.set_num_threads(1)
    batch = data.batch(range(6))
    codes = built.encode(batch)
    folder = tmp_path / "model"
    built.save(folder)
    torch.save(built.compress(batch), folder / "strings.pt")
    subprocess.run([sys.executable, "-c", READ, str(folder)], check=True)
    assert torch.load(folder / "found.pt").equal(codes["code"].indices)


# ------------------------------------------------------------------ training and rates


def test_the_price_in_training_is_about_that_of_the_bytes():
    torch.manual_seed(0)
    latent = Hyperprior(4, side=3, hidden=6).eval()
    latent.set_frequencies(latent.zero_counts())
    given = features(8, (16, 16), size=0.5)  # of scale 2, as the untrained synthesis says
    real = float(latent(given).bits.mean())
    noisy = float(latent.train()(given).bits.mean())
    assert noisy == pytest.approx(real, rel=0.03)


def test_rates_have_gains_and_weights():
    latent = make(betas=(0.25, 1.0, 4.0))
    assert latent.rate == 1.0
    assert latent.vocab[-1] == 17
    bits = []
    for rate in (0, 0.5, 1, 2):
        latent.rate = rate
        code = latent(features(2, (8, 8)))
        assert (code.indices[..., -1] == 8 * rate).all()
        assert latent.embed(code.indices).equal(code.z)
        # The gain is 1 / sqrt(beta) at the start, so the code keeps its size, up to rounding.
        assert (code.z - 4 * features(2, (8, 8)).x).abs().max() <= 0.51 * 2 ** (rate - 1)
        assert float(code.losses["kl"]) == pytest.approx(0.25 * 4**rate * float(code.metrics["kl"]), rel=1e-5)
        bits.append(float(code.bits.mean()))
    assert bits == sorted(bits, reverse=True)
    with pytest.raises(PartArgumentError, match="rates 0 to 2"):
        latent.rate = 2.5
    with pytest.raises(PartArgumentError, match="one rate"):
        make().rate = 1


def test_each_example_draws_a_rate_in_training():
    latent = make(betas=(0.25, 1.0, 4.0)).train()
    torch.manual_seed(0)
    code = latent(features(60, (2, 2)))
    drawn = code.indices[:, 0, -1]
    assert set(drawn.tolist()) == {0, 8, 16}
    assert (code.indices[..., -1] == drawn[:, None]).all()


def test_a_string_says_its_rate():
    latent = make(betas=(0.25, 4.0))
    latent.rate = 0.25
    code = latent(features(2))
    strings = latent.write(code)
    latent.rate = 1
    again = latent.read(strings, zeros_like(code))
    assert again.z.equal(code.z)
    mixed = code.indices.clone()
    mixed[0, 0, -1] = 3
    with pytest.raises(PartArgumentError, match="tokens of 2 rates"):
        latent.write(Code.of(code, z=code.z, indices=mixed))


@pytest.mark.slow
def test_the_side_code_learns_where_numbers_are_large():
    """Numbers of scale 8 in one half of each picture and 0.3 in the other cost fewer bits than under one density."""
    torch.manual_seed(0)
    latent = Hyperprior(4, side=3, hidden=16)
    optimizer = torch.optim.Adam(latent.parameters(), 5e-3)
    size = torch.where(torch.arange(8) < 4, 8.0, 0.3).repeat(8, 1).flatten().view(1, -1, 1) / 4

    def draw():
        flip = torch.rand(16, 1, 1) < 0.5
        return Features(x=torch.randn(16, 64, 4) * torch.where(flip, size, size.flip(1)), grid=(8, 8))

    for _ in range(300):
        optimizer.zero_grad()
        latent(draw()).losses["kl"].backward()
        optimizer.step()
    latent.eval()
    latent.set_frequencies(latent.zero_counts())
    with torch.no_grad():
        bits = float(latent(draw()).bits.mean()) / 256
    entropy = [scaled_entropy(scale) for scale in (8.0, 0.3)]
    assert sum(entropy) / 2 < bits < sum(entropy) / 2 + 0.35


def scaled_entropy(scale):
    """Bits of a rounded Gaussian."""
    k = np.arange(-100, 101)
    p = np.diff(norm.cdf((np.append(k, 101) - 0.5) / scale))
    return -(p[p > 0] * np.log2(p[p > 0])).sum()
