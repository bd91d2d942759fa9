"""Proof by strangers: what people install with pip joins by name, without a line of reprkit being touched."""

import json
import sys
from pathlib import Path

import pytest
from installing import ROOT, install, reprkit_command, run

from reprkit.commands import new

pytestmark = [pytest.mark.slow, pytest.mark.ranks]

QUANTISERS = Path(__file__).parent / "strangers-quantisers"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What ``reprkit new`` writes, one of each kind, installed into a fresh site folder."""
    home = tmp_path_factory.mktemp("new")
    site = home / "site"
    for kind in new.EXAMPLES:
        done = reprkit_command("new", f"acme-{kind}", "--kind", kind, "--into", home / "src")
        assert done.returncode == 0, done.stderr
    install(site, *sorted((home / "src").iterdir()))
    return home


def test_what_new_writes_is_found(written):
    rows = json.loads(reprkit_command("plugins", "--json", site=written / "site").stdout)
    found = {row["distribution"]: row for row in rows}
    for kind, example in new.EXAMPLES.items():
        row = found[f"acme-{kind}"]
        assert (row["status"], row["reason"], row["offers"]) == ("ok", "", {kind: [example.part]})


def test_what_new_writes_passes_its_own_tests(written):
    tests = sorted((written / "src").glob("*/tests"))
    assert len(tests) == len(new.EXAMPLES)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        written / "src",
        *tests,
    ]
    done = run(command, site=written / "site", cwd=written / "src")
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout


def test_what_new_writes_passes_the_check(written):
    names = [f"acme-{kind}" for kind in new.EXAMPLES]
    done = reprkit_command("check", *names, "--json", site=written / "site")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    reports = json.loads(done.stdout)
    assert [each["part"] for each in reports] == [f"acme-{kind}/{e.part}" for kind, e in new.EXAMPLES.items()]
    checked = sum(len(checks) for each in reports for checks in each["outcomes"].values())
    assert checked > 100


def test_what_readmes_say_builds(written):
    """The line that each README shows, on real digits."""
    lines = ["import reprkit as rk", "train, test = rk.dataset('digits').split()"]
    lines += ["model = rk.build(data=train, encoder='mlp', latent='continuous', decoder='mlp')"]
    for kind in new.EXAMPLES:
        readme = (written / "src" / f"acme-{kind}" / "README.md").read_text()
        lines.append(readme.partition("```python\n")[2].partition("```")[0])
    done = run([sys.executable, "-c", "\n".join(lines)], site=written / "site")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A plugin around a public library's quantisers, in a fresh site folder."""
    home = tmp_path_factory.mktemp("strangers")
    install(home / "site", QUANTISERS)
    return home


def test_a_public_quantiser_is_used_by_name_in_a_recipe(strangers):
    latent = "public-fsq(levels=(8, 5, 5))"
    recipe = [
        sys.executable,
        ROOT / "recipes/latent_swap.py",
        "--latents",
        latent,
        "--steps",
        60,
        "--out",
        "swap",
    ]
    done = run(recipe, site=strangers / "site", cwd=strangers)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("public-fsq")]
    assert "7.64" in line, "log2(200) bits an image"
    assert (strangers / "swap/report.html").is_file()
    (model,) = (strangers / "swap").glob("*/model")

    told = reprkit_command("inspect", model, site=strangers / "site")
    assert "strangers-quantisers/public-fsq(levels=(8, 5, 5))" in told.stdout
    assert "plugin strangers-quantisers 0.3.1: installed" in told.stdout
    load = [sys.executable, "-c", f"import reprkit as rk; print(rk.load({str(model)!r}).latent().vocab)"]
    assert run(load, site=strangers / "site").stdout == "(200,)\n", "loading needs no import by the caller"

    # Where the plugin is missing, everything says so.
    told = reprkit_command("inspect", model)
    assert "plugin strangers-quantisers 0.3.1: not installed" in told.stdout
    missing = run(load)
    assert missing.returncode == 1
    assert "needs strangers-quantisers 0.3.1, which is not installed" in missing.stderr
    alone = run([*recipe[:-1], "alone"], cwd=strangers)
    assert alone.returncode == 1
    assert "no latent named 'public-fsq'" in alone.stderr


def test_the_public_fsq_passes_the_check(strangers):
    done = reprkit_command("check", "strangers-quantisers/public-fsq(levels=(8, 6))", site=strangers / "site")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_finds_what_is_wrong_with_the_public_lfq(strangers):
    """Release 1.32.0 of the library reduces its entropy over ranks wrongly; nothing else is wrong with it."""
    done = reprkit_command("check", "public-lfq", "--json", site=strangers / "site")
    assert done.returncode == 1
    (report,) = json.loads(done.stdout)
    outcomes = report["outcomes"]["images"]
    assert [each["check"] for each in outcomes if each["status"] == "failed"] == [
        "two ranks equal one process"
    ]
    assert len([each for each in outcomes if each["status"] == "passed"]) >= 11
