"""Sizes of codes as bytes on the digits: fixed rate, tables, and a causal prior.

    python tests/benchmarks/figures_bytes.py [--steps 1000] [--seed 0]

A conv model of each latent is trained on the train part; tables are counted and the prior is trained on its codes; sizes are means
over the test part, in bits an example.  "rate" is ``Code.bits``; "tables" is the cross-entropy of the test codes under the tables,
and "prior" the prior's -log2 p of them.  "bytes" are the payloads that were written, without the header of a string.  Each string
was read again and its decoding compared, bit by bit.
"""

import argparse
import json
import math

import torch

import reprkit as rk
from reprkit.data import CodesOf
from reprkit.models.priors import code_to_batch, log_prob

LATENTS = (
    "vq(codes=64, dim=16)",
    "residual-vq(codes=32, layers=4, dim=16)",
    "binary(bits=32)",
    "one-hot(classes=16, groups=8)",
)


def payload_bits(model, code, write):
    return 8 * sum(map(len, write(code))) / len(code.z)


@torch.no_grad()
def measure(model, prior, test):
    from reprkit.models.coding_prior import CodingPrior

    rows = test.batch(range(len(test)))
    codes = model.encode(rows)
    code, latent = codes["code"], model.latent()
    for priors in (None, {"code": prior}):
        head = {name: value[:32] for name, value in rows.items()}
        again = model.decompress(model.compress(head, priors=priors), priors=priors)
        assert torch.equal(model.decode(again).x, model.decode(model.encode(head)).x)
    tables = latent.frequencies()
    bits = 16 - tables.double().log2()
    symbols = code.indices.flatten(0, 1)
    table_bits = sum(float(bits[slot][symbols[:, slot]].sum()) for slot in range(len(latent.vocab)))
    prior_bits = -float(log_prob(prior, code_to_batch(code, latent)).sum()) / math.log(2)
    some = rk.Code.of(code, z=code.z, indices=code.indices)
    return {
        "rate": float(code.bits.mean()),
        "tables": table_bits / len(code.z),
        "tables, bytes": payload_bits(model, some, latent.write),
        "prior": prior_bits / len(code.z),
        "prior, bytes": payload_bits(model, some, CodingPrior(model, "code", prior).write),
        "string": sum(map(len, model.compress(rows))) * 8 / len(code.z),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train, test = rk.dataset("digits").split(0)[:2]
    settings = {"steps": options.steps, "seed": options.seed, "progress": False, "lr": 3e-3}
    for latent in LATENTS:
        model = rk.build(data=train, encoder="conv", latent=latent, decoder="conv", seed=options.seed)
        rk.fit(model, train, batch=128, **settings)
        model.fit_frequencies(train)
        codes = CodesOf(model, train)
        prior = rk.build(data=codes, decoder="gru(width=64, causal=True)", objective="autoregressive")
        rk.fit(prior, codes, batch=128, **settings)
        print(
            json.dumps(
                {"latent": latent, **{k: round(v, 2) for k, v in measure(model, prior, test).items()}}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
