"""A small recipe that the tests run, kill and resume: random draws of all kinds, evaluation, a teacher, averaged weights."""

import json
import os
import random
import sys
import time

import numpy as np
import torch

import reprkit as rk

OUT, RESUME, PAUSE = sys.argv[1], "--resume" in sys.argv, float(os.environ.get("PAUSE", "0"))
LATENT = os.environ.get("LATENT", "gaussian(dim=4)")
torch.set_num_threads(1)

train, valid = rk.dataset("digits").split()
model = rk.build(
    data=train,
    encoder="mlp(widths=(16,), dropout=0.1)",
    latent=LATENT,
    decoder="mlp(widths=(16,))",
    objective="reconstruction",
)
torch.manual_seed(7)
teacher = torch.nn.Linear(3, 3)
for step in rk.loop(
    model, train, steps=60, batch=64, lr=1e-2, out=OUT, resume=RESUME, schedule="cosine", warmup=5, clip=5.0, ema=0.9,
    save_every=float(os.environ.get("SAVE_EVERY", "0.05")), log_every=1, extras={"teacher": teacher},
):  # fmt: skip
    losses = step.model(step.batch)
    step.backward(losses.total)
    step.update()
    with torch.no_grad():
        teacher.weight.add_(torch.rand(3, 3) * random.random() * np.random.rand())
    if step.every(20):
        step.log(losses, {"noise": {"value": float(torch.rand(()))}}, teacher=teacher.weight.sum())
    print(step.index, flush=True)
    time.sleep(PAUSE)
model.save(f"{OUT}/model")
torch.save(teacher.state_dict(), f"{OUT}/teacher.pt")
print(json.dumps({"end": True}))
