"""``reprkit check``: parts that it finds, reported failures with reasons, exit codes."""

import json

import pytest

from reprkit.commands import check, main
from reprkit.registry.registry import Registry, using_registry
from reprkit.testing import sample_data

PLUGIN = """
    from reprkit import Spec, hookimpl

    @hookimpl
    def reprkit_latents():
        yield Spec("good", "checked_parts:Good")
        yield Spec("bad", "checked_parts:Bad")
        yield Spec("hungry", "checked_parts:Hungry")
        yield Spec("rich", "checked_parts:Good", requires=("no_such_library",))

    @hookimpl
    def reprkit_encoders():
        yield Spec("good", "checked_parts:Images")

    @hookimpl
    def reprkit_commands():
        yield Spec("listen", "checked_parts:listen")
        yield Spec("deaf", "checked_parts:deaf")
"""
PARTS = """
    import torch
    import reprkit as rk
    from reprkit.errors import BuildError

    class Good(rk.Latent):
        def __init__(self, dim: int = 3):
            super().__init__(in_dim=dim, out_dim=dim)

        def forward(self, features):
            return rk.Code.of(features, z=self.noisy(features.x))

        def noisy(self, x):
            return x

    class Bad(Good):
        def noisy(self, x):
            return x + torch.rand(3, device=x.device)

    class Hungry(Good):
        def __init__(self, dim: int, spice: str):
            super().__init__(dim)

    class Images(rk.Encoder):
        def __init__(self, data):
            super().__init__()
            if data["x"].kind == "vector":
                raise BuildError("this reads no vectors")
            self.out_dim = 64
            self.scale = torch.nn.Parameter(torch.ones(64))

        def forward(self, batch, *, keep=None):
            return rk.Features(x=batch["x"].flatten(1).unsqueeze(1) * self.scale, grid=(1,))

        def count(self, batch):
            return 1

        def grid(self, batch):
            return (1,)

    def listen(path: str):
        "Listen."

    deaf = 3
"""


@pytest.fixture
def run(site, capsys):
    site.add("acme-latents", PLUGIN, version="0.3.1", modules={"checked_parts": PARTS})
    site.add("broken-one", "1 / 0")

    def call(*args):
        with using_registry(Registry()), pytest.raises(SystemExit) as exited:
            main.main(["check", *args])
        out, err = capsys.readouterr()
        return exited.value.code or 0, out, err

    return call


def test_one_part_that_passes(run):
    code, out, err = run("acme-latents/good(dim=2)", "--quick", "--data", "images")
    assert (code, err) == (1, ""), "the encoder has the same name, and no dim"
    assert "encoder acme-latents/good has no argument 'dim'" in out
    code, out, _ = run("plain", "--quick")
    assert code == 1
    code, out, _ = run("continuous", "--quick")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["latent", "reprkit/continuous"]
    assert ["shapes", "and", "types", "passed"] in lines
    assert ["embed", "reproduces", "the", "code", "skipped", "it", "is", "continuous"] in lines
    assert out.endswith("1 part: 17 checks passed, 0 failed\n")
    assert not any("ranks" in line for line in lines)


def test_a_plugin_with_faults(run):
    code, out, _ = run("acme-latents", "--quick")
    assert code == 1
    blocks = {block.splitlines()[0]: block for block in out.split("\n\n")}
    assert "failed" not in blocks["latent acme-latents/good"]
    bad = [line for line in blocks["latent acme-latents/bad"].splitlines() if "failed" in line]
    assert [line.split("  ")[0] for line in bad] == ["evaluation is deterministic"]
    assert "z in evaluation: differs by up to" in bad[0]
    hungry = blocks["latent acme-latents/hungry"]
    assert "not checked: latent acme-latents/hungry needs dim, spice; give it: reprkit check" in hungry
    assert "requires no_such_library, which is not installed" in blocks["latent acme-latents/rich"]
    assert "passed" in blocks["command acme-latents/listen"]
    assert "checked_parts:deaf is a int" in blocks["command acme-latents/deaf"]
    encoder = blocks["encoder acme-latents/good"]
    assert "checked on images, sequences, tokens; it does not take vectors" in encoder
    assert "most checks fail on tokens: a part that does not take such data" in encoder
    assert "most checks fail on images" not in encoder
    assert "2 parts not checked" in out


def test_a_part_with_arguments_replaces_the_one_without(run):
    code, out, _ = run(
        "acme-latents", "acme-latents/hungry(dim=2, spice='salt')", "--quick", "--data", "images"
    )
    assert code == 1
    assert "latent acme-latents/hungry(dim=2, spice='salt')\ncheck" in out
    assert "needs dim" not in out
    assert "most checks fail" not in out
    code, out, _ = run("acme-latents/hungry(dim=2, spice='salt')", "--quick")
    assert code == 0


def test_json(run):
    code, out, _ = run("acme-latents/bad", "--json", "--quick")
    assert code == 1
    (report,) = json.loads(out)
    assert (report["kind"], report["part"], report["passed"]) == ("latent", "acme-latents/bad", False)
    (failed,) = [outcome for outcome in report["outcomes"]["images"] if outcome["status"] == "failed"]
    assert failed["check"] == "evaluation is deterministic"
    assert failed["about"].startswith("In evaluation the code depends neither")
    assert failed["reason"].startswith("z in evaluation: differs")


@pytest.mark.slow
@pytest.mark.ranks
def test_checks_with_processes_run_unless_quick(run):
    out = run("acme-latents/good", "--data", "images")[1]
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("two ranks")] == ["passed"] * 2


def test_unknown_names(run):
    for name, code, message in (
        ("acme-latent", 1, "no plugin named 'acme-latent' is installed. Did you mean 'acme-latents'?"),
        ("broken-one", 1, "plugin broken-one 0.1.0 is broken: ZeroDivisionError"),
        ("acme-latents/goood", 1, "is called acme-latents/goood. Did you mean 'acme-latents/good'?"),
        ("acme-latents/Good()", 2, "is not a part's name"),
        ("good(dim=open('x'))", 2, "is not a literal"),
    ):
        exit_code, out, err = run(name)
        assert (exit_code, out) == (code, ""), name
        assert message in " ".join(err.replace("│", " ").split()), err
    assert run()[0] == 2
    code, _, err = run("continuous", "--data", "smells")
    assert (code, "no kind of data 'smells'" in err) == (2, True)


def test_the_kinds_of_data_are_those_of_the_kit():
    assert tuple(sample_data.SAMPLE_DATA) == check.DATA
