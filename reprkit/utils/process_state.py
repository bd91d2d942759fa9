"""The settings of the process that training changes, put back afterwards: random states, default dtype, threads, determinism."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class ProcessState:
    """What the process is set to when this is created.

    The random states of Python, NumPy and torch (on all CUDA devices in use); torch's default dtype, number of threads, precision
    of matrix products, and switches for deterministic algorithms.
    """

    def __init__(self) -> None:
        self._python, self._numpy = random.getstate(), np.random.get_state()
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self._cuda_seed = torch.initial_seed()
        self._dtype, self._threads = torch.get_default_dtype(), torch.get_num_threads()
        self._precision = torch.get_float32_matmul_precision()
        self._deterministic = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        cudnn = torch.backends.cudnn
        self._cudnn = cudnn.enabled, cudnn.benchmark, cudnn.deterministic

    def restore(self) -> None:
        """Put back what has changed since."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        if torch.cuda.is_initialized():
            if self._cuda:
                torch.cuda.set_rng_state_all(self._cuda)
            else:  # CUDA was first used since: its generators are as a fresh process with this seed has them
                torch.cuda.manual_seed_all(self._cuda_seed)
        torch.set_rng_state(self._torch)
        torch.set_default_dtype(self._dtype)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        if torch.get_float32_matmul_precision() != self._precision:
            torch.set_float32_matmul_precision(self._precision)
        enabled, warn_only = self._deterministic
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        cudnn = torch.backends.cudnn
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = self._cudnn


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Context after which the process is as it was; see ``ProcessState``."""
    before = ProcessState()
    try:
        yield
    finally:
        before.restore()
