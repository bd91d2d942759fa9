import pytest
import torch
from reprkit_audio.evaluators.sweep import bottleneck_sweep

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError, DataError
from reprkit.testing import EvaluatorConformance

DATA = Signature(
    {
        "x": Field(kind="sequence", shape=(8, 4)),
        "speaker": Field(kind="label", shape=(), vocab=2),
        "phone": Field(kind="tokens", shape=(8,), vocab=3),
    }
)


def models(data, latents):
    for latent in latents:
        factors = {
            "content": rk.factor("gru(width=8)", latent),
            "speaker": rk.factor("gru(width=8)", pool=True),
        }
        yield latent, rk.build(data=data, factors=factors, decoder="gru(width=8)").eval()


@pytest.mark.slow
class TestLeakage(EvaluatorConformance):
    part = "reprkit-audio/leakage"
    data = DATA

    def models(self, train):
        return models(train, self.latents)


def speech(size=160, seed=0):
    """Two speakers say three phones: frames are a phone's place, moved by the speaker."""
    generator = torch.Generator().manual_seed(seed)
    phone = torch.randint(3, (size, 4), generator=generator).repeat_interleave(2, 1)
    speaker = torch.arange(size) % 2
    x = torch.eye(3, 4)[phone] + speaker[:, None, None] * torch.tensor([0, 0, 0, 2.0])
    return Tensors(
        {"x": x + 0.01 * torch.randn(size, 8, 4, generator=generator), "speaker": speaker, "phone": phone},
        DATA,
    )


def measured(content, speaker, monkeypatch):
    """Leakage of factors that are made by hand from a batch."""
    train, test = speech(), speech(seed=1)
    ((_, model),) = models(train, ["continuous(dim=4)"])

    def encode(batch, factors=None):
        made = {"content": content(batch), "speaker": speaker(batch)}
        return rk.Codes({name: rk.Code(z=z) for name, z in made.items()})

    monkeypatch.setattr(model, "encode", encode)
    return rk.create("evaluator", "reprkit-audio/leakage")(model, test, fit_on=train)


def test_clean_factors_leak_nothing(monkeypatch):
    found = measured(
        lambda batch: batch["x"][..., :3],
        lambda batch: batch["x"][..., 3:].mean(1, keepdim=True),
        monkeypatch,
    )
    assert found["chance"] == 0.5
    for probe in ("pooled", "frame", "linear"):
        assert found["content"][probe] < 0.65, probe
    assert found["content"]["said"] > 0.95
    assert found["speaker"]["pooled"] == 1.0
    assert found["speaker"]["said"] < 0.1
    assert found["input"]["pooled"] == found["input"]["frame"] == 1.0


def test_swapped_factors_leak_everything(monkeypatch):
    found = measured(lambda batch: batch["x"], lambda batch: batch["x"].mean(1, keepdim=True), monkeypatch)
    assert found["content"]["pooled"] == found["content"]["frame"] == found["content"]["linear"] == 1.0
    assert found["speaker"]["said"] > 0.95


def test_without_phones_clusters_of_frames_replace_them(monkeypatch):
    whole = speech().batch(range(160))
    signature = Signature({name: DATA[name] for name in ("x", "speaker")})
    data = Tensors({name: whole[name] for name in signature}, signature)
    ((_, model),) = models(data, ["continuous(dim=4)"])
    found = rk.create("evaluator", "reprkit-audio/leakage(limit=100)")(model, data, fit_on=data)
    assert found["n"] == 100
    assert found["content"]["said"] <= 1


def test_invalid_inputs_raise():
    data = speech(20)
    ((_, model),) = models(data, ["continuous(dim=4)"])
    with pytest.raises(DataError, match="fit_on=train"):
        rk.create("evaluator", "reprkit-audio/leakage")(model, data)
    with pytest.raises(BuildError, match="no factor named 'contend'"):
        rk.create("evaluator", "reprkit-audio/leakage(content='contend')")(model, data, data)
    with pytest.raises(DataError, match="no tokens field 'phon'"):
        rk.create("evaluator", "reprkit-audio/leakage(said='phon')")(model, data, data)
    one = data.subset([n for n in range(20) if n % 2])
    with pytest.raises(DataError, match="1 speaker in common"):
        rk.create("evaluator", "reprkit-audio/leakage")(model, one, data)


def test_a_sweep_is_a_plot_of_leakage_against_error(tmp_path):
    def results(error, leak):
        return {"reconstruction": {"error": error}, "leakage": {"chance": 0.25, "content": {"pooled": leak}}}

    figure = bottleneck_sweep({"autovc": {4: results(3.0, 0.3), 16: results(1.0, 0.9)}})
    assert figure.series == {"autovc": {4: (3.0, 0.3), 16: (1.0, 0.9)}}
    assert figure.chance == 0.25
    page = rk.report(tmp_path, sections=[rk.reporting.Section("Bottleneck sweep", [figure])])
    assert "Bottleneck sweep" in page.read_text("utf-8")
    assert "<svg" in figure.html()
    with pytest.raises(DataError, match="no metric 'leakage.content.pooled'"):
        bottleneck_sweep({"autovc": {4: {"reconstruction": {"error": 1.0}}}})
    with pytest.raises(DataError, match="no results"):
        bottleneck_sweep({})
