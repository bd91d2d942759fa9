"""Total correlation from a batch, forward and backward, beside torch.distributions under autograd.

    python tests/benchmarks/bench_total_correlation.py [--threads 1] [--repeats 7]

The peer is how published implementations of beta-TCVAE write it: ``Normal.log_prob`` of every draw under every posterior in every
dimension, and logsumexp.  Values (to 1e-5) and gradients (to 1e-4 of the largest) are compared before any time is taken.  Runs
alternate; medians of processor time in milliseconds, the ratio is of medians.
"""

import argparse
import math
import statistics
import time

import torch
from torch.distributions import Normal

from reprkit.objectives.total_correlation import total_correlation

DIM, SIZES = 10, (128, 512, 1024, 2048)


def peer(z, mean, deviation):
    density = Normal(mean, deviation, validate_args=False).log_prob(z[:, None])
    weight = -math.log(len(mean))
    return torch.logsumexp(density.sum(-1) + weight, 1) - torch.logsumexp(density + weight, 1).sum(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for size in SIZES:
        generator = torch.Generator().manual_seed(0)
        mean = torch.randn(size, DIM, generator=generator).requires_grad_()
        deviation = (torch.rand(size, DIM, generator=generator) * 0.5 + 0.05).requires_grad_()
        noise = torch.randn(size, DIM, generator=generator)

        def step(way, mean=mean, deviation=deviation, noise=noise):
            nats = way(mean + deviation * noise, mean, deviation).sum()
            return nats.detach(), *torch.autograd.grad(nats, (mean, deviation))

        ours, theirs = step(total_correlation), step(peer)
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
        for one, other in zip(ours[1:], theirs[1:], strict=True):
            assert (one - other).abs().max() < 1e-4 * other.abs().max()
        times = {total_correlation: [], peer: []}
        for _ in range(options.repeats):
            for way, seen in times.items():
                start = time.process_time()
                step(way)
                seen.append(1e3 * (time.process_time() - start))
        ours, theirs = (statistics.median(seen) for seen in times.values())
        print(
            f"{size} posteriors of {DIM}: reprkit {ours:.1f} ms, peer {theirs:.1f} ms, ratio {theirs / ours:.1f}"
        )


if __name__ == "__main__":
    main()
