"""Untrusted folders: nothing that they name is imported, built or run."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints_made import make, same

import reprkit as rk
from reprkit import Spec, hookimpl
from reprkit.checkpoints.manifest_check import INTERFACES
from reprkit.commands import main
from reprkit.errors import CheckpointError, ReprkitError, TrainingError
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import Registry, using_registry
from reprkit.runs.filenames import MANIFEST
from reprkit.training.resume import state

MODULE = "victim_parts"
VICTIM = """
    import os, pathlib
    pathlib.Path(os.environ["SENTINEL"]).write_text("imported")

    def command(args=()):
        raise SystemExit(0)

    class Anything:
        def __init__(self, **given):
            pathlib.Path(os.environ["SENTINEL"]).write_text("built")
"""
FOREIGN = [*sorted(set(KINDS) - set(INTERFACES)), "recipe", "", "Latent"]


def plugin_offering(kind):
    """Return a plugin that offers the part ``victim`` of this kind."""

    class Plugin:
        pass

    def offer(self):
        yield Spec("victim", f"{MODULE}:{'command' if kind == 'command' else 'Anything'}")

    offer.__name__ = KINDS[kind]
    setattr(Plugin, KINDS[kind], hookimpl(offer))
    return Plugin()


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    """A file that is written when the victim's module is imported or its class built; every kind is offered."""
    home = tmp_path / "site"
    home.mkdir()
    lines = [line[4:] for line in VICTIM.splitlines()]
    (home / f"{MODULE}.py").write_text("\n".join(lines))
    place = tmp_path / "sentinel"
    monkeypatch.setenv("SENTINEL", str(place))
    monkeypatch.syspath_prepend(home)
    with using_registry(Registry()) as registry:
        for kind in KINDS:
            registry.register(plugin_offering(kind), name=f"victims-{kind}")
        yield place
    sys.modules.pop(MODULE, None)


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


@pytest.fixture
def folder(digits, tmp_path):
    """A run with a model, and a record that names a data set."""
    out = tmp_path / "run"
    make(digits, objective="denoising").save(out / "model")
    (out / "run.json").write_text(json.dumps({"data": {"reference": "victims-dataset/victim", "seed": 0}}))
    return out


def change_manifest(folder, change):
    path = folder / "model" / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def part(kind, **arguments):
    return {"$part": kind, "id": f"victims-{kind or 'x'}/victim".lower(), "arguments": arguments}


def run_command(*args):
    with pytest.raises(SystemExit) as stopped:
        main.main(list(map(str, args)))
    return stopped.value.code or 0


OPENERS = {
    "load": lambda out: rk.load(out),
    "load of the run": lambda out: rk.runs.run.Run(out).model,
    "rebuild": lambda out: rk.checkpoints.manifest.rebuild(
        json.loads((out / "model" / MANIFEST).read_text())
    ),
}
COMMANDS = (
    ("probe", "--trust-data"),
    ("probe", "--data", "digits"),
    ("finetune", "--data", "digits"),
    ("inspect",),
)


def assert_rejected_everywhere(folder, capsys, sentence, *, commands=COMMANDS):
    import reprkit.checkpoints.manifest
    import reprkit.runs.run  # noqa: F401

    for title, opened in OPENERS.items():
        with pytest.raises(ReprkitError) as caught:
            opened(folder)
        assert sentence in str(caught.value), title
    for command, *flags in commands:
        assert run_command(command, folder, *flags) == 1
        assert sentence in capsys.readouterr().err, command
    assert MODULE not in sys.modules


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("place", ["latent", "list", "dict", "nested", "objective"])
def test_other_kinds_are_never_built(kind, place, folder, sentinel, capsys):
    hostile = part(kind, args=["convert", "--out", "victim.flac"])

    def change(manifest):
        latent, goal = manifest["factors"]["code"]["latent"], manifest["objective"]
        if place == "objective":
            goal["arguments"]["corruption"] = hostile
        elif place == "nested":
            inner = {"$part": "corruption", "id": "reprkit/mask-elements", "arguments": {"ratio": hostile}}
            goal["arguments"]["corruption"] = inner
        else:
            latent["arguments"]["x"] = {"latent": hostile, "list": [0, hostile], "dict": {"a": hostile}}[
                place
            ]

    change_manifest(folder, change)
    where = {
        "latent": "factors.code.latent.arguments.x:",
        "list": "factors.code.latent.arguments.x[1]:",
        "dict": "factors.code.latent.arguments.x.a:",
        "nested": "objective.arguments.corruption.arguments.ratio:",
        "objective": "objective.arguments.corruption:",
    }[place]
    assert_rejected_everywhere(folder, capsys, f"{where} {kind!r} is no part of a model")
    assert not sentinel.exists()


@pytest.mark.parametrize("kind", sorted(INTERFACES))
def test_part_in_an_argument_that_accepts_none_is_never_built(kind, folder, sentinel, capsys):
    change_manifest(folder, lambda m: m["factors"]["code"]["latent"]["arguments"].update(dim=part(kind)))
    sentence = f"factors.code.latent.arguments.dim: latent reprkit/continuous is not known to accept {kind} victims-{kind}/victim"
    assert_rejected_everywhere(folder, capsys, sentence, commands=[("finetune", "--data", "digits")])
    assert not sentinel.exists()


@pytest.mark.parametrize("kind", sorted(set(INTERFACES) - {"corruption"}))
def test_parameters_accept_only_parts_of_their_kind(kind, folder, sentinel, capsys):
    change_manifest(folder, lambda m: m["objective"]["arguments"].update(corruption=part(kind)))
    sentence = "annotated 'str | Corruption | Annotated[tuple[str | Corruption, ...], MinLen(1)]'"
    assert_rejected_everywhere(folder, capsys, sentence, commands=[("finetune", "--data", "digits")])
    assert not sentinel.exists()


def test_unknown_argument_is_rejected_before_its_part_is_built(folder, sentinel, capsys):
    change_manifest(
        folder, lambda m: m["factors"]["code"]["latent"]["arguments"].update(dims=part("corruption"))
    )
    sentence = "factors.code.latent.arguments.dims: latent reprkit/continuous has no argument 'dims'. Did you mean 'dim'?"
    assert_rejected_everywhere(folder, capsys, sentence, commands=[("finetune", "--data", "digits")])
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m["decoder"].update({"$part": "command"}), "decoder has an entry '$part'"),
        (lambda m: m["decoder"].update(id="victims-command/victim"), "needs decoder victims-command/victim"),
        (lambda m: m["decoder"].update(id="victim(a=1)"), "decoder.id is damaged"),
        (lambda m: m["decoder"].update(data={"x": 3}), "decoder.data.x is damaged"),
        (lambda m: m["decoder"].update(data="nothing"), "decoder.data is damaged"),
        (lambda m: m["decoder"].update(tokens="4"), "decoder.tokens is damaged"),
        (lambda m: m["decoder"].update(shared="factors.code.encoder"), "decoder is damaged: it must be equal to"),
        (lambda m: m["decoder"].update(shared="decoder"), "decoder.shared is damaged: it must be an earlier part"),
        (lambda m: m["decoder"].update(shared=["a"]), "decoder.shared is damaged: it must be an earlier part"),
        (lambda m: m["factors"]["code"]["latent"].update(shared="objective"), "latent.shared is damaged"),
        (lambda m: m.update(objective={"sum": [[1, part("command")]]}), "objective.sum[0][1] has an entry '$part'"),
        (lambda m: m.update(objective={"sum": [[-1, m["objective"]]]}), "objective.sum[0][0] is damaged"),
        (lambda m: m.update(objective={"sum": []}), "objective.sum is damaged"),
        (lambda m: m.update(weights={"kl": float("inf")}), "weights.kl is damaged"),
        (lambda m: m.update(weights=[1]), "weights is damaged"),
        (lambda m: m.update(factors={"a b": {}}), "factors['a b'] is damaged"),
        (lambda m: m.update(plugins={"reprkit": "1'; rm x"}), "plugins.reprkit is damaged"),
        (lambda m: m.update(plugins={"a'b": "1"}), "plugins[\"a'b\"] is damaged"),
        (lambda m: m["factors"].update(code=None), "factors.code is damaged: it must be an object"),
        (lambda m: m["signature"].update(x={"kind": "image", "shape": ["a"]}), "signature.x.shape is damaged"),
        (lambda m: m.update({"\x1b[2J": 1}), "an entry '\\x1b[2J'"),
    ],
)  # fmt: skip
def test_invalid_entries_are_named(change, sentence, folder, sentinel):
    change_manifest(folder, change)
    with pytest.raises(CheckpointError) as caught:
        rk.load(folder)
    assert sentence in str(caught.value)
    assert not sentinel.exists()


def test_deep_nesting_is_rejected(folder):
    path = folder / "model" / MANIFEST
    path.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        rk.load(folder)
    assert run_command("inspect", folder) == 1


def test_original_attack_has_no_effect(digits, tmp_path):
    """The command that once overwrote a file and ended the process with exit code 0, in a new interpreter."""
    pytest.importorskip("reprkit_audio")
    model = make(digits).save(tmp_path / "model")
    arguments = {"args": ["convert", "a.wav", "--out", str(tmp_path / "victim.flac")]}
    path = model / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["factors"]["code"]["latent"]["arguments"]["x"] = {
        "$part": "command", "id": "reprkit-audio/voice", "arguments": arguments,
    }  # fmt: skip
    path.write_text(json.dumps(manifest))
    code = f"""
import atexit, pathlib, sys
import reprkit as rk
hook = pathlib.Path({str(tmp_path / "hook")!r})
reached = []
atexit.register(lambda: hook.write_text(str(reached)))
try:
    rk.load({str(model)!r})
except rk.ReprkitError as error:
    reached.append(any(name.startswith("reprkit_audio.commands") for name in sys.modules))
    print(error)
sys.exit(7)
"""
    (tmp_path / "victim.flac").write_bytes(b"mine")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert "factors.code.latent.arguments.x: 'command' is no part of a model" in done.stdout
    assert (tmp_path / "hook").read_text() == "[False]"
    assert (tmp_path / "victim.flac").read_bytes() == b"mine"


@pytest.mark.parametrize("command", ["probe", "finetune"])
def test_recorded_data_set_is_built_only_when_trusted(command, folder, sentinel, capsys):
    record = {"data": {"reference": "victims-dataset/victim(x='\x1b]0;owned\x07')"}}
    (folder / "run.json").write_text(json.dumps(record))
    assert run_command(command, folder) == 1
    message = capsys.readouterr().err
    assert (
        "names the data set victims-dataset/victim(x='\\x1b]0;owned\\x07'), which is built only on request"
        in message
    )
    assert "--trust-data" in message
    assert "--data" in message
    assert "\x1b" not in message
    assert not sentinel.exists()
    assert MODULE not in sys.modules
    assert (
        run_command(command, folder, "--trust-data") == 1
    )  # it is not a data set, but it is built because it is trusted
    assert sentinel.exists()


def test_commands_that_read_a_run_build_nothing(folder, sentinel, capsys):
    for args in (("report", folder), ("runs", folder.parent), ("inspect", folder)):
        assert run_command(*args) == 0, capsys.readouterr().err
    assert not sentinel.exists()
    assert MODULE not in sys.modules


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (Path(os.environ["SENTINEL"]).write_text, ("unpickled",))


def test_resuming_an_untrusted_folder_unpickles_and_builds_nothing(folder, digits, sentinel):
    place = folder / "state" / "step-000000002"
    place.mkdir(parents=True)
    (place / "state.json").write_text(json.dumps({"format": 1, "step": 2, "options": {}, "metrics_size": 0}))
    for write in (
        lambda path: path.write_bytes(pickle.dumps({"model": Bomb()})),
        lambda path: torch.save({"model": Bomb()}, path),
    ):
        write(place / "tensors.pt")
        with pytest.raises(TrainingError, match="no saved state can be read"):
            state.load_newest(folder / "state")
        with pytest.raises(TrainingError, match="no saved state can be read"):
            rk.fit(make(digits), digits, steps=3, batch=16, out=folder, resume=True, progress=False)
    assert not sentinel.exists()
    assert MODULE not in sys.modules


@pytest.mark.parametrize("key", ["forward", "weight", "__class__", "_modules", "reference", "count"])
def test_saved_state_cannot_set_methods(key, digits):
    model = make(digits)
    saved = state.capture(model, state.scalars_of(model))
    home = "adapters.code" if key == "weight" else "factors.code.encoder"
    saved["scalars"] = {home: {key: "text"}}
    with pytest.raises(TrainingError, match=f"sets '{key}' of {home}"):
        state.restore(model, saved)
    saved["scalars"] = {home: {"temperature": 0.5}}
    state.restore(model, saved)
    assert model.get_submodule(home).temperature == 0.5


# ------------------------------------------------------------------ valid manifests


def corruption(text, digits):
    return rk.create("corruption", text, data=digits.signature)


@pytest.mark.parametrize(
    "argument", ["denoising", "denoising of several", "contrastive", "contrastive of several", "sum"]
)
def test_parts_as_arguments_of_builtin_parts_are_saved_and_loaded(argument, digits, tmp_path):
    noise, mask = (
        corruption("gaussian-noise(std=0.1)", digits),
        corruption("mask-elements(ratio=0.5)", digits),
    )
    denoising = rk.create("objective", "denoising", corruption=noise)
    goal = {
        "denoising": denoising,
        "denoising of several": rk.create("objective", "denoising", corruption=(noise, mask)),
        "contrastive": rk.create("objective", "contrastive", views=noise),
        "contrastive of several": rk.create("objective", "contrastive", views=(noise, "mask-elements")),
        "sum": [(1.0, denoising), (0.1, rk.create("objective", "contrastive", views=(mask,)))],
    }[argument]
    model = make(digits, objective=goal, decoder=None if "contrastive" in argument else "mlp(widths=(16,))")
    loaded = rk.load(model.save(tmp_path / "model"))
    same(model, loaded, digits.batch(range(8)))
    assert loaded.objective.reference == model.objective.reference


class Unannotated(rk.Latent):
    """A latent whose annotations do not name the interface of the parts it takes."""

    def __init__(
        self, dim: int = 4, inner: object = None, other=None, parts: "list[rk.Latent] | None" = None
    ):
        super().__init__(in_dim=dim, out_dim=dim)

    def forward(self, features: rk.Features) -> rk.Code:
        return rk.Code.of(features, z=features.x)


class Offer:
    @hookimpl
    def reprkit_latents(self):
        yield Spec("unannotated", f"{__name__}:Unannotated")


@pytest.mark.parametrize(
    ("name", "found"),
    [("inner", "annotated 'object'"), ("other", "has no annotation"), ("parts", "is annotated")],
)
def test_models_that_could_not_be_loaded_are_not_saved(name, found, digits, tmp_path):
    inner = rk.create("latent", "continuous(dim=4)")
    with using_registry(Registry(installed=False)) as registry:
        registry.register(Offer(), name="acme-latents")
        model = make(digits, Unannotated(**{name: inner}))
        with pytest.raises(CheckpointError) as caught:
            model.save(tmp_path / "model")
        assert "the model cannot be saved, because it could not be loaded again" in str(caught.value)
        assert found in str(caught.value)
        assert f"its author must annotate it in the class's constructor: {name}: str | Latent" in str(
            caught.value
        )
        assert not (tmp_path / "model").exists()
        good = make(digits, Unannotated(parts=[inner]))
        rk.load(good.save(tmp_path / "model"))
