"""Documents before they are encoded: which of them stay together, and whose summary each one is shown with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import derive_seed
from reprkit.errors import DataError

_ASSIGN = 0x6465616C  # separates the assignment's random numbers from others of the same seed
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One document.

    Attributes:
        document: its text, not empty.
        summary: its human summary, or None.
        label: the name of its class, or None.
        group: records of one group are never split among parts; None groups those of equal text, spaces and case aside.
    """

    document: str
    summary: str | None = None
    label: str | None = None
    group: str | None = None

    @property
    def group_key(self) -> str:
        """The key that the records of its group share."""
        return self.group if self.group is not None else normalize_text(self.document)


def strip_text(text: str) -> str:
    """Strip white space at both ends; return "" for a text without printable characters."""
    return text.strip() if any(char.isprintable() and not char.isspace() for char in text) else ""


def normalize_text(text: str) -> str:
    """Fold case and white space, so that texts differing only in these become equal."""
    return _SPACE.sub(" ", text).strip().casefold()


@dataclass(frozen=True, kw_only=True)
class SummaryAssignment:
    """Which records stay together, and whose summary each one is shown with.

    Attributes:
        cluster: number of each record's cluster (n,); a cluster is never split among parts.
        summary_of: the record whose summary each one is shown with (n,), of the same cluster; None without summaries.
    """

    cluster: Int[Tensor, " n"]
    summary_of: Int[Tensor, " n"] | None


def assign_summaries(records: Sequence[Record]) -> SummaryAssignment:
    """Cluster two or three groups that have summaries at random, and exchange the summaries within each cluster.

    So every summary shown with a document is of another document, and both documents are in the same part of every split:
    a part shows no summaries of other parts.  A document without a summary joins a cluster.

    Raises:
        DataError: there are summaries, but of fewer than two different documents.
    """
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault(record.group_key, []).append(number)
    with_summary = {name: [n for n in members if records[n].summary] for name, members in groups.items()}
    names = _shuffle(sorted(groups))
    names_with = [name for name in names if with_summary[name]]
    if not names_with:
        return SummaryAssignment(
            cluster=_cluster_numbers([groups[name] for name in names], len(records)), summary_of=None
        )
    if len(names_with) < 2:
        raise DataError(
            f"among {len(records)} documents only one distinct document has a summary: "
            "no other document's can be shown with it\n  add documents with summaries, or use none: summary=None"
        )
    clusters = [names_with[i : i + 2] for i in range(0, len(names_with) - len(names_with) % 2, 2)]
    clusters[-1] += names_with[2 * len(clusters) :]
    names_without = [name for name in names if not with_summary[name]]
    for i, name in enumerate(names_without):
        clusters[i % len(clusters)].append(name)
    summary_of = torch.arange(len(records))
    for cluster in clusters:
        sources = [name for name in cluster if with_summary[name]]
        for i, name in enumerate(cluster):
            # A group with summaries is shown those of the next one.
            source = with_summary[sources[(i + bool(with_summary[name])) % len(sources)]]
            for j, number in enumerate(groups[name]):
                summary_of[number] = source[j % len(source)]
    members = [[number for name in cluster for number in groups[name]] for cluster in clusters]
    return SummaryAssignment(cluster=_cluster_numbers(members, len(records)), summary_of=summary_of)


def _shuffle(names: list[str]) -> list[str]:
    generator = torch.Generator().manual_seed(derive_seed(0, _ASSIGN))
    return [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]


def _cluster_numbers(clusters: list[list[int]], count: int) -> Tensor:
    numbers = torch.empty(count, dtype=torch.int64)
    for number, members in enumerate(clusters):
        numbers[members] = number
    return numbers
