"""Two small trained models, and a function that calls the command line."""

import pytest

import reprkit as rk
from reprkit.commands import main


@pytest.fixture
def run(capsys):
    def call(*args):
        with pytest.raises(SystemExit) as exited:
            main.main(list(map(str, args)))
        return exited.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Name of a latent -> folder of a model of the digits."""
    data = rk.dataset("digits")
    folder = tmp_path_factory.mktemp("models")
    return {
        name: rk.build(
            data=data, encoder="mlp(width=16)", latent=latent, decoder="mlp(width=16)", seed=0
        ).save(folder / name)
        for name, latent in {"gaussian": "gaussian(dim=4)", "vq": "vq(codes=16, dim=4)"}.items()
    }
