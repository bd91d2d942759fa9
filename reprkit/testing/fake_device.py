"""A forward of a model on a CUDA device that need not exist: finds tensors that stay on the CPU, or are created there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import SkipTest, mock

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from reprkit.models.model import Model
    from reprkit.types import Batch

_DEVICE = "cuda"


def forward_on_gpu(model: Model, batch: Batch) -> None:
    """Compute the losses of a batch with all weights, buffers and data on a CUDA device of torch's ``FakeTensorMode``.

    Such tensors have shapes, types and devices but no values, so no device is needed; the model cannot be used afterwards.  It
    should have been used on the CPU before: then tensors that it keeps outside of parameters and buffers are found too.

    Raises:
        AssertionError: a tensor is on the CPU, or on both devices in one operation.
        SkipTest: the forward depends on values, or computes gradients, which needs a device.
    """
    with FakeGPU(model) as gpu:
        with explained():
            total = model(gpu.move(batch)).total
        gpu.check_loss(total)


class FakeGPU:
    """Context in which a model is on a CUDA device that need not exist; afterwards its weights and buffers are those before.

    What the model keeps elsewhere (a cache, say) is not restored.  Errors are those of torch: see ``explained``.

    Args:
        models: what is moved.
    """

    def __init__(self, *models: nn.Module) -> None:
        from torch._subclasses import fake_tensor
        from torch.fx.experimental import symbolic_shapes

        shapes = symbolic_shapes.ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
        self.models = models
        self._mode = fake_tensor.FakeTensorMode(allow_non_fake_inputs=False, shape_env=shapes)
        self._stack = ExitStack()

    def __enter__(self) -> FakeGPU:
        """Move the models."""
        with ExitStack() as stack:
            stack.enter_context(self._mode)
            stack.enter_context(_fake_recurrent_layers())
            for model in self.models:
                for table, values in _move(model, self._mode):
                    stack.callback(table.update, values)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Restore the models."""
        self._stack.close()

    def move(self, batch: Batch) -> dict[str, Tensor]:
        """Return a batch on the device."""
        return {
            name: self._mode.from_tensor(value, static_shapes=True).to(_DEVICE)
            for name, value in batch.items()
        }

    def check_loss(self, total: Tensor) -> None:
        """Check that a loss is on the device.

        Raises:
            AssertionError: it is not.
        """
        if total.device.type != _DEVICE:
            raise AssertionError(f"the loss of a model on a GPU is on {total.device}")


@contextmanager
def explained() -> Iterator[None]:
    """A block whose errors say what they mean of a model in ``FakeGPU``.

    Raises:
        AssertionError: a tensor is on the CPU, or on both devices in one operation.
        SkipTest: the block depends on values, or computes gradients, which needs a device.
    """
    from torch._subclasses import fake_tensor
    from torch.fx.experimental import symbolic_shapes

    try:
        yield
    except (
        fake_tensor.DataDependentOutputException,
        fake_tensor.DynamicOutputShapeException,
        symbolic_shapes.GuardOnDataDependentSymNode,
    ) as error:
        raise SkipTest(f"its forward depends on values, which are not computed here: {error}") from None
    except ValueError as error:
        if "batch_sizes should always be on CPU" in str(error):
            raise SkipTest("its forward packs sequences, which needs a device") from None
        raise
    except RuntimeError as error:
        if "hasPrimaryContext" in str(error):
            raise SkipTest("its forward computes gradients, which needs a device") from None
        raise AssertionError(f"on a GPU its forward fails: {error}") from error
    except AssertionError as error:
        raise AssertionError(
            f"a tensor stays on the CPU when the model is moved to a GPU: {error}"
        ) from error


def _move(model: nn.Module, mode: FakeTensorMode) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Replace parameters and buffers, as ``model.to`` does; what is shared stays shared.

    Returns:
        Each table of a module, and its values before.
    """
    moved: dict[int, Tensor] = {}

    def move(value: Tensor) -> Tensor:
        if id(value) not in moved:
            with torch.no_grad():
                found: Tensor = mode.from_tensor(value, static_shapes=True).to(_DEVICE)
            if isinstance(value, nn.Parameter):
                found = nn.Parameter(found, requires_grad=value.requires_grad)
            moved[id(value)] = found
        return moved[id(value)]

    # The values before are kept, so that no number of an object is used twice.
    tables: list[dict[str, Any]] = [
        table for module in model.modules() for table in (module._parameters, module._buffers)
    ]
    before = [(table, dict(table)) for table in tables]
    for table, values in before:
        table.update({name: move(value) for name, value in values.items() if value is not None})
    return before


@contextmanager
def _fake_recurrent_layers() -> Iterator[None]:
    """A block in which ``nn.GRU`` and ``nn.LSTM`` compute shapes and compare devices: cuDNN's kernels have no fake version."""
    found = {name: _recurrent(states) for name, states in (("gru", 1), ("lstm", 2))}
    with (
        mock.patch.object(torch._VF, "gru", found["gru"]),
        mock.patch.object(torch._VF, "lstm", found["lstm"]),
        mock.patch.object(nn.RNNBase, "flatten_parameters"),
    ):
        yield


def _recurrent(states: int) -> Callable[..., tuple[Tensor, ...]]:
    def forward(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        packed = isinstance(arguments[0], Tensor) and arguments[0].dtype == torch.int64
        state, weights = arguments[1:3] if packed else arguments[:2]
        before = (state,) if isinstance(state, Tensor) else tuple(state)
        devices = {str(each.device) for each in (x, *before, *weights)}
        if len(devices) > 1:
            raise RuntimeError(f"a recurrent layer has tensors on {' and '.join(sorted(devices))}")
        bidirectional = arguments[-1] if packed else arguments[-2]
        width = before[0].shape[-1] * (2 if bidirectional else 1)
        out = (x.sum() + sum(weight.sum() for weight in weights)).expand(*x.shape[:-1], width).clone()
        return out, *(each.clone() for each in before[:states])

    return forward
