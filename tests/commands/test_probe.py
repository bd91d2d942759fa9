"""``reprkit probe`` and ``reprkit finetune``: results, the stated protocol, and errors for wrong usage."""

import json

import pytest

import reprkit as rk
from reprkit.evaluation.finetune import predict

SPLIT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a small autoencoder on the digits' train part of one split."""
    train, _, _ = rk.dataset("digits").split(seed=SPLIT, valid=True)
    model = rk.build(
        data=train, encoder="mlp(widths=(32,))", latent="continuous(dim=8)", decoder="mlp(widths=(32,))"
    )
    out = tmp_path_factory.mktemp("probe") / "run"
    rk.fit(model, train, steps=60, batch=64, lr=5e-3, out=out, progress=False)
    return out


def test_a_probe_is_chosen_on_valid_and_reported_on_test(run, folder):
    code, out, err = run("probe", folder, "--trust-data", "--labels", 60, "--seed", 2, "--json")
    assert code == 0, err  # on a slow machine it holds lines of progress
    found = json.loads(out)
    model, parts = rk.load(folder), rk.dataset("digits").split(seed=SPLIT, valid=True)
    for name, subject in (("model", model), ("raw input", "raw")):
        for measure, letter, values in (
            ("linear-probe", "C", (0.01, 0.1, 1.0, 10.0)),
            ("knn", "k", (1, 5, 20)),
        ):
            row = found["results"][f"{measure}, {name}"]

            def score(value, part, subject=subject, measure=measure, letter=letter):
                reference = f"{measure}({letter}={value}, labels=60, seed=2)"
                return rk.evaluate(subject, part, reference, fit_on=parts[0], examples=0)[measure]["accuracy"]

            scores = {value: score(value, parts[1]) for value in values}
            assert row["valid"] == max(scores.values())
            assert row["chosen"] == {letter: next(v for v in values if scores[v] == row["valid"])}
            assert row["test"] == score(row["chosen"][letter], parts[2])
    assert found["protocol"]["labels"] == 60
    assert found["protocol"]["a_class"] == [6, 6]


def test_the_protocol_is_stated(run, folder):
    code, out, _ = run("probe", folder, "--trust-data", "--labels", 60)
    assert code == 0
    text = " ".join(out.split())
    assert "mlp(widths=(32,)) → continuous(dim=8), trained by reconstruction" in text
    assert f"reprkit/digits, split seed {SPLIT}: train 1,258, valid 180, test 359" in text
    assert "the model was trained on part 'train' of this split" in text
    assert "60 of train (drawn), 6 a class; field 'label', seed 0" in text
    assert "chosen on valid: C of 0.01, 0.1, 1.0, 10.0; k of 1, 5, 20" in text


@pytest.mark.slow
def test_another_split_and_unrecorded_data_are_noted(run, folder, tmp_path):
    assert (
        f"trained on split seed {SPLIT}: it has seen most of the test"
        in run("probe", folder, "--trust-data", "--split-seed", 9)[1]
    )
    model = rk.load(folder)
    model.save(tmp_path / "bare")
    code, _, err = run("probe", tmp_path / "bare")
    assert code == 1
    assert "does not record which data it was trained on: give it, such as --data digits" in err
    code, out, _ = run("probe", tmp_path / "bare", "--data", "digits", "--labels", 60)
    assert code == 0
    assert "not recorded: it may have seen the test examples" in out


def test_finetuning_chooses_the_rate_and_saves_the_model(run, folder, tmp_path):
    before = (folder / "model/model.safetensors").read_bytes()
    args = (
        "--data",
        "digits",
        "--labels",
        100,
        "--steps",
        60,
        "--lr",
        1e-5,
        "--lr",
        1e-2,
        "--out",
        tmp_path / "tuned",
        "--json",
    )
    code, out, err = run("finetune", folder, *args)
    assert code == 0, err  # on a slow machine it holds lines of progress
    found = json.loads(out)
    assert found["results"]["lr"] == 1e-2
    assert found["valid"]["0.01"] > found["valid"]["1e-05"]
    tuned = rk.load(tmp_path / "tuned")
    _, valid, test = rk.dataset("digits").split(seed=SPLIT, valid=True)
    for part, name in ((valid, "valid"), (test, "test")):
        guess, truth = predict(tuned, part)
        assert found["results"][name] == (guess == truth).mean()
    assert (folder / "model/model.safetensors").read_bytes() == before
    text = " ".join(run("finetune", folder, "--trust-data", "--labels", 100, "--steps", 3)[1].split())
    assert "100 of train (drawn), 10 a class" in text
    assert "3 steps of 100, AdamW, cosine, a tenth to warm up, the layer from zeros" in text
    assert "on valid: lr of 0.0003, 0.001, 0.003" in text


def test_wrong_usage_raises_before_training(run, folder, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").write_text("mine")
    for args, words in (
        (("finetune", folder, "--lr", 0), "--lr takes numbers above 0"),
        (("finetune", folder, "--start", "middle"), "--start must be zeros or probe, not 'middle'"),
        (("finetune", folder, "--out", tmp_path / "taken"), "exists and is no checkpoint"),
        (
            ("finetune", folder, "--out", folder / "model"),
            "holds a model: give another folder, or --overwrite",
        ),
        (
            ("probe", folder),
            "names the data set reprkit/digits, which is built only on request: give --trust-data",
        ),
        (("probe", tmp_path / "nowhere"), "there is no folder"),
        (("probe", folder, "--data", "digits", "--label", "writer"), "no label field 'writer'"),
        (
            ("probe", folder, "--trust-data", "--labels", 5000),
            "more than the 1,258 labeled examples that there are",
        ),
    ):
        code, _, err = run(*args)
        assert code == 1, args
        assert words in err
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("command", ["probe", "finetune"])
def test_the_help_lists_the_flags(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    for flag in ("--data", "--trust-data", "--labels", "--split-seed", "--seed", "--json"):
        assert flag in out
