"""Two nodes with networks of their own: one is killed with -9, and torchrun's elastic restart goes on from the last save."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from loop_helpers import assert_states_close

import reprkit as rk
from reprkit.runs.reader import read_metrics, read_record
from reprkit.training.resume import state

pytestmark = [pytest.mark.ranks, pytest.mark.slow]
STEPS, BATCH, PORT = 60, 48, 29400
REBOOT = (
    15.0  # seconds: longer than torchrun takes to notice that the node is gone, as any machine takes to start
)
RECIPE = """
import time
import torch
import reprkit as rk

torch.set_num_threads(1)

def main(steps: int = STEPS, batch: int = BATCH, out: str = "", pause: float = 0.0, resume: bool = False,
         launch: rk.Launch = rk.Launch(optimizer="sgd(momentum=0.9)", clip=1.0, device="cpu", ema=0.9)) -> None:
    data = rk.dataset("digits").split()[0]
    torch.manual_seed(0)
    model = rk.build(data=data, encoder="mlp(widths=(16,))", latent="vq(codes=16, dim=2)", decoder="mlp(widths=(16,))")
    for step in rk.loop(model, data, steps=steps, batch=batch, lr=1e-2, out=out, resume=resume, log_every=1, **launch):
        step.backward(step.model(step.batch).total)
        step.update()
        time.sleep(pause)
    model.save(f"{out}/model")

if __name__ == "__main__":
    rk.recipe(main)
""".replace("STEPS", str(STEPS)).replace("BATCH", str(BATCH))


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True, timeout=20)


@pytest.fixture
def nodes():
    """Two network namespaces joined by a virtual cable, as (namespace, device, address)."""
    number = os.getpid() % 200
    names = [f"rk{os.getpid()}{side}" for side in "ab"]
    pair = [(name, name[-15:], f"10.213.{number}.{index}") for index, name in enumerate(names, 1)]
    made = []
    try:
        for namespace, _, _ in pair:
            ip("netns", "add", namespace)
            made.append(namespace)
        ip("link", "add", pair[0][1], "type", "veth", "peer", "name", pair[1][1])
        for namespace, device, address in pair:
            ip("link", "set", device, "netns", namespace)
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            for each in (device, "lo"):
                ip("-n", namespace, "link", "set", each, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        for namespace in made:
            ip("netns", "delete", namespace)
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"network namespaces cannot be made here: {str(reason).strip()}")
    yield pair
    for namespace in made:
        ip("netns", "delete", namespace)


def agent(place, node, head, fewest, *flags):
    """torchrun on one node, in a session of its own, so that all its processes can be killed at once."""
    namespace, device, address = node
    settings = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": device,
        # Otherwise an agent that stays tells one that comes later no address (torch 2.11), and both wait in vain.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONPATH": str(Path(rk.__file__).parents[1]),
    }
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "torch.distributed.run"]
    command += ["--nnodes", f"{fewest}:2", "--nproc-per-node", "1", "--max-restarts", "3"]
    command += ["--rdzv-backend", "c10d", "--rdzv-id", "test", "--rdzv-endpoint", f"{head}:{PORT}"]
    # The name of the machine tells torchrun nothing of the address in a namespace.
    own = f"is_host={str(address == head).lower()}"
    command += ["--rdzv-conf", f"{own},last_call_timeout=15,keep_alive_interval=2,keep_alive_max_attempt=5"]
    command += ["--local-addr", address, str(place / "mine.py"), "--out", str(place / "run"), *flags]
    log = (place / f"{namespace}.log").open("a")
    return subprocess.Popen(
        command,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=place,
        start_new_session=True,
    )


def kill_node(node, process):
    """End everything that runs on a node by signal 9, as when its power fails."""
    found = ip("netns", "pids", node[0]).stdout.split()
    for pid in found:
        os.kill(int(pid), signal.SIGKILL)
    process.wait(20)
    return len(found)


def until(condition, told, timeout=120):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.02)


@pytest.mark.parametrize("returns", [False, True])
def test_a_node_that_is_killed_costs_the_steps_since_the_last_save(nodes, tmp_path, returns):
    """Without it the other node goes on alone, if that is allowed; with it both meet again."""
    (tmp_path / "mine.py").write_text(RECIPE)
    flags = ["--resume", "--strategy", "fsdp", "--saving", "sharded", "--save-every", "0.2", "--pause", "0.1"]
    first, second = nodes
    fewest = 2 if returns else 1
    agents = [agent(tmp_path, node, first[2], fewest, *flags) for node in nodes]
    told = lambda: "".join(path.read_text() for path in tmp_path.glob("*.log"))  # noqa: E731
    try:
        states = tmp_path / "run" / "state"
        until(
            lambda: states.is_dir() and len(read_metrics(tmp_path / "run")) > 15 and state.list_saved(states),
            told,
        )
        assert kill_node(second, agents[1]) > 1, "the agent and its process"
        saved = state.load_newest(states)[0]["step"]
        if returns:
            time.sleep(REBOOT)
            agents[1] = agent(tmp_path, second, first[2], fewest, *flags)
        assert agents[0].wait(200) == 0, told()
        if returns:
            assert agents[1].wait(60) == 0, told()
    finally:
        for node, process in zip(nodes, agents, strict=True):
            if process.poll() is None:
                kill_node(node, process)
    record = read_record(tmp_path / "run")
    assert record["status"] == "finished"
    assert record["resumed"][-1]["step"] >= saved > 0
    assert record["stages"]["main"]["ranks"] == (2 if returns else 1)
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == list(range(1, STEPS + 1))
    recipe: dict[str, Any] = {"__name__": "recipe"}
    exec(RECIPE, recipe)
    recipe["main"](out=str(tmp_path / "alone"))
    assert_states_close(
        rk.load(tmp_path / "run").state_dict(), rk.load(tmp_path / "alone").state_dict(), 1e-5
    )
