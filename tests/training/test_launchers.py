"""One recipe file under every launcher: the same weights, and the same examples in every step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import reprkit as rk
from reprkit.data.loading.order import Order
from reprkit.runs.reader import read_metrics, read_record
from reprkit.testing.processes import free_port

pytestmark = [pytest.mark.ranks, pytest.mark.slow]
STEPS, BATCH = 12, 48
RECIPE = '''
import json
import torch
import reprkit as rk
from reprkit.utils.collectives import rank

torch.set_num_threads(1)

class Marked(rk.Dataset):
    """The digits, each with its own number, so that the recipe can tell which it was given."""

    def __init__(self):
        self.digits = rk.dataset("digits").split()[0]
        number = rk.Field(kind="label", shape=(), vocab=len(self.digits))
        self.signature = rk.Signature({"x": self.digits.signature["x"], "number": number})

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        return {"x": self.digits[index]["x"], "number": torch.tensor(index)}

def main(latent: str = "gaussian(dim=4)", steps: int = STEPS, batch: int = BATCH, out: str = "",
         launch: rk.Launch = rk.Launch(optimizer="sgd(momentum=0.9)", clip=1.0, device="cpu")) -> None:
    data = Marked()
    model = rk.build(data=data, encoder="mlp(widths=(16,))", latent=latent, decoder="mlp(widths=(16,))")
    given = []
    for step in rk.loop(model, data, steps=steps, batch=batch, lr=1e-2, out=out, log_every=1, **launch):
        given.append(step.batch["number"].tolist())
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(6):
            step.log(losses, rk.evaluate(model, data, "reconstruction", examples=0))
    model.save(f"{out}/model")
    with open(f"{out}/given-{rank()}.json", "w") as file:
        json.dump(given, file)
    if rank() == 0:
        print("done")

if __name__ == "__main__":
    rk.recipe(main)
'''.replace("STEPS", str(STEPS)).replace("BATCH", str(BATCH))
TORCHRUN = ["-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launch")
    (folder / "mine.py").write_text(RECIPE)
    return folder


def start(place, name, *launcher, flags=(), recipe="mine.py"):
    """Start the recipe by a launcher; it writes to a folder of that name."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    # Away from the settings that a person may have made for Accelerate on this machine.
    settings |= {"HF_HOME": str(place / "none"), "PYTHONPATH": str(Path(rk.__file__).parents[1])}
    command = [sys.executable, *launcher, str(place / recipe), "--out", str(place / name), *flags]
    return subprocess.Popen(
        command,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
    )


def ended(*processes):
    """What they printed; all must end well."""
    told = [process.communicate(timeout=250) for process in processes]
    for process, (out, err) in zip(processes, told, strict=True):
        assert process.returncode == 0, out + err
    return "".join(out for out, _ in told)


@pytest.fixture(scope="module")
def alone(place):
    assert ended(start(place, "alone")) == "done\n"
    return place / "alone"


def check(folder, alone, ranks, strategy="ddp"):
    """The same weights, results and examples as one process's; rank 0 wrote the run."""
    import json

    record = read_record(folder)
    assert (record["status"], record["stages"]["main"]["ranks"]) == ("finished", ranks)
    assert record["stages"]["main"]["strategy"] == strategy
    mine, whole = rk.load(folder).state_dict(), rk.load(alone).state_dict()
    assert mine.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(
            mine[name], value, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )
    given = [json.loads((folder / f"given-{rank}.json").read_text()) for rank in range(ranks)]
    order = Order(len(rk.dataset("digits").split()[0]), BATCH, 0)
    for step in range(STEPS):
        assert [number for rank in given for number in rank[step]] == order.at(step).tolist()
        assert {len(rank[step]) for rank in given} == {BATCH // ranks}
    for one, two in zip(read_metrics(alone), read_metrics(folder), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        if "results" in one:
            error = one["results"]["reconstruction"]["error"]
            assert two["results"]["reconstruction"]["error"] == pytest.approx(error, rel=1e-5)


def test_torchrun(place, alone):
    told = ended(start(place, "torchrun", *TORCHRUN, "--standalone", "--nproc-per-node", "2"))
    assert told == "done\n", "rank 0 alone prints"
    check(place / "torchrun", alone, 2)


def test_torchrun_in_shards(place, alone):
    run = start(
        place, "fsdp", *TORCHRUN, "--standalone", "--nproc-per-node", "2", flags=["--strategy", "fsdp"]
    )
    assert ended(run) == "done\n"
    check(place / "fsdp", alone, 2, "fsdp")


def test_accelerate_launch(place, alone):
    """Without settings of Accelerate's own, and with nobody there to answer questions."""
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    assert ended(start(place, "accelerate", *launcher, "--main_process_port", str(free_port()))) == "done\n"
    check(place / "accelerate", alone, 2)


def test_accelerate_launch_on_the_cpu(place, alone):
    """Accelerate itself starts one process there, whatever number is asked: for more it wants mpirun."""
    launcher = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    assert ended(start(place, "cpu", *launcher, "--main_process_port", str(free_port()))) == "done\n"
    check(place / "cpu", alone, 1)


def test_two_nodes_meet(place, alone):
    """Two agents of one process each, as on two machines."""
    meeting = [
        *TORCHRUN,
        "--nnodes",
        "2",
        "--nproc-per-node",
        "1",
        "--rdzv-backend",
        "c10d",
        "--rdzv-id",
        "test",
    ]
    meeting += ["--rdzv-endpoint", f"localhost:{free_port()}", "--local-addr", "localhost"]
    assert ended(*[start(place, "nodes", *meeting) for _ in range(2)]) == "done\n"
    check(place / "nodes", alone, 2)


def test_pieces_and_flags_under_torchrun(place, alone):
    run = start(
        place,
        "pieces",
        *TORCHRUN,
        "--standalone",
        "--nproc-per-node",
        "3",
        flags=["--accumulate", "4", "--ema", "0.5"],
    )
    assert ended(run) == "done\n"
    facts = read_record(place / "pieces")["stages"]["main"]
    assert (facts["ranks"], facts["accumulate"], facts["ema"], facts["clip"]) == (3, 4, 0.5, 1.0)


def test_the_shipped_recipe_prints_once_under_torchrun(place):
    from reprkit.commands.recipes import find

    (place / "latent_swap.py").write_text(find("latent_swap").path.read_text())
    flags = [
        "--latents",
        "vq(codes=16)",
        "--steps",
        "20",
        "--batch",
        "64",
        "--device",
        "cpu",
        "--schedule",
        "constant",
    ]
    launcher = [*TORCHRUN, "--standalone", "--nproc-per-node", "2"]
    told = ended(start(place, "swap", *launcher, flags=flags, recipe="latent_swap.py"))
    assert told.count("the page: ") == 1
    assert told.count("vq(codes=16)") == 1
    assert (place / "swap" / "report.html").is_file()
