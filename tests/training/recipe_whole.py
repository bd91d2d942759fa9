"""A recipe that the tests kill and resume: it trains, logs, evaluates, saves the best and the last model, and writes the report."""

import sys
import time

import torch

import reprkit as rk

PAUSE = float(sys.argv[1])
torch.set_num_threads(1)

train, valid, test = rk.dataset("digits").split(valid=True)
model = rk.build(
    data=train,
    encoder="mlp(widths=(32,), dropout=0.1)",
    latent="gaussian(dim=4)",
    decoder="mlp(widths=(32,))",
)
for step in rk.loop(
    model, train, steps=120, batch=64, lr=3e-3, out="run", resume=True, schedule="cosine", ema=0.9, keep=2,
    best="min reconstruction.error", save_every=0.03, log_every=5,
):  # fmt: skip
    losses = step.model(step.batch)
    step.backward(losses.total)
    step.update()
    if step.every(20):
        with step.averaged():
            step.log(losses, rk.evaluate(model, valid, "reconstruction", "codebook"))
    print(step.index, flush=True)
    time.sleep(PAUSE)
print("trained", flush=True)
results = rk.evaluate(
    model, test, "reconstruction", "knn", "codebook", "projection(tsne=False)", fit_on=train
)
time.sleep(PAUSE)
print("evaluated", flush=True)
model.save("run/model")
time.sleep(PAUSE)
print("saved", flush=True)
rk.report("run", results)
print("reported", flush=True)
