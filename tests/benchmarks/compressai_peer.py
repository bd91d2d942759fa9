r"""CompressAI's factorized model on crops that another process wrote; run by figures_compressai.py.

    python tests/benchmarks/compressai_peer.py FOLDER \
        '{"name": "compressai", "seconds": 200, "width": 64, "lambda": 0.02, "lr": 0.001, "batch": 8, "seed": 0}'

Reads FOLDER/learn.npy and FOLDER/test.npy (n h w 3) of uint8; writes FOLDER/NAME.npz: ``decoded`` and ``sizes``, the bytes of
CompressAI's own entropy coder, and prints the steps.  Training follows the package's examples/train.py: Adam, gradients
of norm 1 at most, and a second optimizer for the quantiles of the entropy model.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from compressai.losses import RateDistortionLoss
from compressai.models import FactorizedPrior

AUXILIARY_STEPS = 2_000  # after training, not counted: the quantiles, from which the coder's tables are made


def train(net: FactorizedPrior, learn: torch.Tensor, given: dict) -> int:
    """Train for a number of processor seconds; return the steps."""
    quantiles = [p for name, p in net.named_parameters() if name.endswith(".quantiles")]
    rest = [p for name, p in net.named_parameters() if not name.endswith(".quantiles")]
    optimizer, auxiliary = torch.optim.Adam(rest, given["lr"]), torch.optim.Adam(quantiles, 1e-3)
    criterion = RateDistortionLoss(lmbda=given["lambda"])
    generator = torch.Generator().manual_seed(given["seed"])
    start, steps = time.process_time(), 0
    while (share := (time.process_time() - start) / given["seconds"]) < 1:
        optimizer.param_groups[0]["lr"] = given["lr"] * (1 if share < 0.8 else 0.1)
        rows = torch.randint(len(learn), (given["batch"],), generator=generator)
        x = learn[rows].float().div(255).movedim(-1, 1).contiguous()
        loss = criterion(net(x), x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        optimizer.step()
        auxiliary.zero_grad()
        net.aux_loss().backward()
        auxiliary.step()
        steps += 1
    auxiliary.param_groups[0]["lr"] = 1e-2
    for _ in range(AUXILIARY_STEPS):
        auxiliary.zero_grad()
        net.aux_loss().backward()
        auxiliary.step()
    return steps


@torch.no_grad()
def main(folder: Path, given: dict) -> None:
    """Train, code the test crops, and write what they decode to."""
    torch.set_num_threads(1)
    torch.manual_seed(given["seed"])
    learn, test = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("learn", "test"))
    net = FactorizedPrior(given["width"], given["width"])
    with torch.enable_grad():
        steps = train(net, learn, given)
    net.eval()
    net.update(force=True)
    sizes, decoded = [], []
    for picture in test:
        written = net.compress(picture.float().div(255).movedim(-1, 0)[None])
        sizes.append(sum(len(string) for strings in written["strings"] for string in strings))
        x = net.decompress(written["strings"], written["shape"])["x_hat"]
        decoded.append((x[0].movedim(0, -1) * 255).round().clamp(0, 255).byte().numpy())
    np.savez(folder / f"{given['name']}.npz", decoded=np.stack(decoded), sizes=np.array(sizes))
    print(steps)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
