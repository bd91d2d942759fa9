"""Conformance checks of evaluators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import SkipTest

import torch

from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, ReprkitError
from reprkit.interfaces import Evaluator
from reprkit.runs.metrics import flatten_metrics, iterate_leaves
from reprkit.testing.assertions import expect, expect_close, expect_instance
from reprkit.testing.parts import PartConformance

_MLP = ("mlp(widths=(16,))", "mlp(widths=(16,))")
_SEQUENCE = ("gru(width=8)", "transformer(width=8, depth=1, heads=1)")


class EvaluatorConformance(PartConformance):
    """Conformance of an evaluator: ``class TestMine(EvaluatorConformance): part = "acme/mine(k=5)"``.

    The models have one factor, and the data one label.  An evaluator that refuses all of them is checked on models of two factors
    and data with two labels.

    Attributes:
        latents: the latents of the models on which the evaluator runs.
    """

    kind = "evaluator"
    latents: tuple[str, ...] = (
        "continuous(dim=4)",
        "gaussian(dim=4)",
        "binary(bits=4)",
        "vq(codes=8, dim=4)",
    )

    def model_with_part(self) -> Any:
        """Not for evaluators: they read values, which do not exist there.

        Raises:
            SkipTest: always.
        """
        raise SkipTest("evaluators read values, which a device that does not exist has not")

    def sets(self) -> tuple[Any, Any]:
        """Return the train and test split of a small labeled data set that fits ``data``."""
        from reprkit.data.formats.tensors import Tensors

        train, test = Tensors(self.batch(60), self.data).split()
        return train, test

    def models(self, train: Any) -> Iterator[tuple[str, Any]]:
        """Build a small model with each latent, in evaluation mode."""
        from reprkit.models.build import build

        encoder, decoder = self._networks()
        for latent in self.latents:
            yield latent, build(data=train, encoder=encoder, latent=latent, decoder=decoder).eval()

    def _networks(self) -> tuple[str, str]:
        return _SEQUENCE if None in self.data["x"].shape else _MLP

    def _cases(self) -> Iterator[tuple[Any, Any, Iterator[tuple[str, Any]]]]:
        """Yield train, test and models; then the same with two labels and two equal factors."""
        from reprkit.data.formats.tensors import Tensors
        from reprkit.models.build import build
        from reprkit.models.factor import factor

        train, test = self.sets()
        yield train, test, self.models(train)
        signature = Signature({**self.data, "parity": Field(kind="label", shape=(), vocab=2)})
        train, test = Tensors({**self.batch(60), "parity": torch.arange(60) % 2}, signature).split()
        encoder, decoder = self._networks()
        pairs = (
            (latent, {name: factor(encoder, latent) for name in ("one", "other")}) for latent in self.latents
        )
        yield (
            train,
            test,
            ((latent, build(data=train, factors=pair, decoder=decoder).eval()) for latent, pair in pairs),
        )

    def accepted_models(self) -> Iterator[tuple[str, Any, Any, Callable[[], dict[str, Any]]]]:
        """Iterate over the models that the evaluator does not refuse: latent, model, a run's results, a function to repeat it.

        Each run starts from the same random state.  A refusal is a BuildError or a DataError, which says what the model lacks.

        Raises:
            ReprkitError: the evaluator refuses every model on this kind of data; the error is the first refusal.
        """
        evaluator = self.fresh()
        expect_instance(evaluator, Evaluator)
        refused: list[ReprkitError] = []
        tried = 0
        for train, test, models in self._cases():
            for latent, model in models:
                tried += 1

                def run(model: Any = model, train: Any = train, test: Any = test) -> dict[str, Any]:
                    torch.manual_seed(1)
                    with torch.no_grad():
                        return evaluator(model, test, fit_on=train)

                try:
                    results = run()
                except (BuildError, DataError) as error:
                    refused.append(error)
                    continue
                yield latent, model, results, run
            if len(refused) < tried:
                return
        raise refused[0]

    def test_returns_numbers_for_any_latent(self) -> None:
        """It returns numbers by name for a model with any latent that it does not refuse."""
        for latent, _, results, _ in self.accepted_models():
            expect(
                isinstance(results, dict), f"with {latent} it returned a {type(results).__name__}, not a dict"
            )
            numbers, values = flatten_metrics(results), dict(iterate_leaves(results))
            expect(len(values) > 0, f"with {latent} it returned no values")
            for name, value in values.items():
                fits = name in numbers and value is not None
                expect(fits, f"with {latent}, {name} is a {type(value).__name__}, not a number")

    def test_evaluation_is_deterministic(self) -> None:
        """Two runs with equal random states return equal numbers."""
        for latent, _, results, run in self.accepted_models():
            repeated = flatten_metrics(run())
            for name, value in flatten_metrics(results).items():
                again = repeated.get(name)
                same = value == again or (_is_nan(value) and _is_nan(again))
                expect(same, f"with {latent}, {name} was {value} and then {again}")

    def test_model_is_not_modified(self) -> None:
        """It changes neither weights nor buffers nor the training mode of the model."""
        for latent, model, _, run in self.accepted_models():
            model.eval()
            before = {name: value.clone() for name, value in model.state_dict().items()}
            run()
            expect(not model.training, f"with {latent} it left the model in training mode")
            for name, value in model.state_dict().items():
                expect_close(value, before[name], f"with {latent}, the model's {name}", 0.0)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
