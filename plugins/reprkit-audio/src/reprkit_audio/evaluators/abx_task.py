"""Evaluation of codes by ABX discrimination of phones, within and across speakers."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le

from reprkit import Dataset, Evaluator, Model
from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import batches
from reprkit.registry.constraints import Count, Seed
from reprkit_audio.evaluators.phone_items import (
    Array,
    FrameCosts,
    Item,
    abx_error,
    angular,
    mismatch,
    phone_items,
)
from reprkit_audio.evaluators.speech_units import check_phones, content_factor, fit_kmeans, silent_phones
from reprkit_audio.frontends import frontend


class ABX(Evaluator):
    """ABX discrimination of phones by a code, within and across speakers; k-means and the frames are baselines.

    Items are the occurrences of phones, without silence and without those at an example's ends, which may be cut off; an item is
    the tokens of the code whose centers lie within it, at least the one at its middle.  Two items are compared by dynamic time
    warping, and errors are averaged over contexts, speakers and pairs of phones (``reprkit_audio.evaluators.phone_items``; Schatz
    et al. 2013; Kahn et al. 2020, arXiv 1912.07875, section 4.1).

    ``within``, ``across``: error with the angle between the vectors of the code, in [0, 1], chance 0.5.  ``units.within``,
    ``units.across``: with the share of indices that differ, where the code is discrete.  ``frames.NAME``: of the frames that a
    token covers, one after the other as one vector.  ``kmeans.NAME`` and ``kmeans.units.NAME``: of the centers and of the numbers
    of as many clusters of these vectors as the code has values (``units`` where it has none or more than that), fitted on
    ``fit_on``.  ``milliseconds``: the time of a token.  ``items``: number of occurrences.

    Args:
        phone: the tokens field of each frame's phone; its names are ``facts["symbols"][phone]`` of the data.
        speaker: the label field of the speaker.
        factor: the factor to evaluate; by default "content", or else the only one.
        context: "any": phones in any context are compared; "same": only those between the same phones (minimal pairs).
        group: at most so many items of a phone, a speaker and a context.
        units: the most clusters of k-means.
        seed: of k-means and of the draw of items.

    Raises:
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        phone: str = "phone",
        speaker: str = "speaker",
        factor: str | None = None,
        context: Literal["any", "same"] = "any",
        group: Count = 4,
        units: Annotated[int, Ge(2), Le(2**16)] = 128,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.phone, self.speaker, self.factor = phone, speaker, factor
        self.context, self.group, self.units, self.seed = context, group, units, seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above on ``data``.

        Raises:
            BuildError: no such factor, or one of a single token an example.
            DataError: no ``fit_on``, no field of phones, or no two phones to compare.
        """
        if fit_on is None:
            raise DataError("abx fits k-means: give evaluate(..., fit_on=train)")
        factor = content_factor(model, self.factor, "abx")
        for each in (fit_on, data):
            check_phones(each, self.phone, self.speaker, "abx")
        rows, items, per = self._collect(model, data, factor)
        fit, _, _ = self._collect(model, fit_on, factor)
        vocab = model.latent(factor).vocab
        means = fit_kmeans(
            fit["frames"], self.units if vocab is None else min(math.prod(vocab), self.units), self.seed
        )
        numbers = means.predict(rows["frames"])
        kinds: dict[str, tuple[Array, FrameCosts]] = {
            "": (rows["code"], angular),
            **({"units.": (rows["indices"], mismatch)} if "indices" in rows else {}),
            "frames.": (rows["frames"], angular),
            "kmeans.": (means.cluster_centers_[numbers], angular),
            "kmeans.units.": (numbers[:, None], mismatch),
        }
        results: dict[str, Any] = {"items": len(items)}
        for prefix, (values, costs) in kinds.items():
            for across in (False, True):
                error = abx_error(
                    values,
                    items,
                    costs,
                    across=across,
                    same_context=self.context == "same",
                    group=self.group,
                    seed=self.seed,
                )
                if error is not None:
                    results[f"{prefix}{'across' if across else 'within'}"] = error
        if "within" not in results and "across" not in results:
            raise DataError(
                f"abx: {data.name} has no two phones to compare in {self.context} context: give more data, or context='any'"
            )
        form = data.signature[model.factors[factor].input].form
        if form is not None:
            front = frontend(form)
            results["milliseconds"] = 1000 * front.hop / front.rate * per
        return results

    def _collect(self, model: Model, data: Dataset, factor: str) -> tuple[dict[str, Array], list[Item], int]:
        """Rows of all tokens one after the other ("code", "frames", "indices" where there are any), their items, frames a token."""
        silent = silent_phones(data, self.phone)
        found: dict[str, list[Array]] = {"code": [], "frames": [], "indices": []}
        items: list[Item] = []
        total, per = 0, 1
        for batch in batches(data, "aligning"):
            code = model.encode(batch, factors=(factor,))[factor]
            x, phones = batch[model.factors[factor].input], batch[self.phone]
            count, length = code.z.shape[1], phones.shape[1]
            if count == 1 and length > 1:
                raise BuildError(
                    f"abx: factor {factor} has one token per example, and phones change within it"
                )
            per = -(-length // count)
            places = (np.arange(count)[:, None] * per + np.arange(per)).clip(max=length - 1)
            ends = batch.get(f"{self.phone}_mask", torch.ones_like(phones, dtype=torch.bool)).sum(1).tolist()
            found["code"].append(code.point.float().cpu().numpy().reshape(-1, code.point.shape[-1]))
            found["frames"].append(x.numpy()[:, places].reshape(len(x) * count, -1))
            if code.indices is not None:
                found["indices"].append(code.indices.cpu().numpy().reshape(len(x) * count, -1))
            for row, (own, end) in enumerate(zip(phones.numpy(), ends, strict=True)):
                speaker, first = int(batch[self.speaker][row]), total + row * count
                items += phone_items(own[:end], speaker, per, count, first, silent)
            total += len(x) * count
        return {name: np.concatenate(parts) for name, parts in found.items() if parts}, items, per
