"""``recipes/speech_units.py``, small, on what flite says."""

import shutil

import pytest


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
@pytest.mark.parametrize("latent", ["vq(codes=16, dim=4)", "continuous(dim=4)"])
def test_units_are_compared_with_k_means(latent, run_recipe):
    texts = tuple(
        f"Sentence number {word} is short."
        for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")
    )
    given = {
        "data": f"parallel-speech(voices=('rms', 'slt'), sentences={texts!r}, frames=32)",
        "encoder": "instance-norm(width=16, depth=2, stride=2)",
        "decoder": "adain(width=16, depth=2, stride=2, norm=False, condition_dim=8)",
        "latent": latent, "steps": "10", "batch": "16", "warmup": "2",
    }  # fmt: skip
    found, printed = run_recipe("speech_units", given)
    assert set(found) == {latent, "untrained", "k-means", "frames"}
    assert 0 < found[latent]["speech-units"]["purity"] <= 1
    assert found["k-means"]["speech-units"]["purity"] > found["untrained"]["speech-units"]["purity"]
    assert 0 <= found["k-means"]["abx"]["across"] <= 1
    assert found[latent]["abx"]["milliseconds"] == 20
    assert "ABX across" in printed
