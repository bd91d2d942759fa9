"""Progress: a bar on a terminal, lines elsewhere, each with its own title."""

import re
import sys
from unittest.mock import Mock

import pytest

import reprkit as rk
from reprkit.utils import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_last_line", 0.0)
    return now


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


@pytest.fixture
def bars(monkeypatch):
    """The opened bars, without rich, whose console remembers the kind of the first terminal."""
    opened = []
    closed = progress.ProgressBar.close

    def spied_open(self):
        opened.append(self)
        self._bar = Mock()
        return True

    def spied_close(self, done=None):
        closed(self, done)
        self.closed = True

    monkeypatch.setattr(progress.ProgressBar, "_open", spied_open)
    monkeypatch.setattr(progress.ProgressBar, "close", spied_close)
    return opened


def test_bar_appears_only_after_a_second(bars, clock, terminal):
    for item in progress.track_progress(range(5), "encoding"):
        assert bool(bars) == (item >= 3)
        clock[0] += 0.4
    assert [(bar.title, bar.total, bar.closed) for bar in bars] == [("encoding", 5, True)]


def test_lines_without_a_terminal(bars, clock, capsys):
    for _ in progress.track_progress(range(100), "encoding"):
        clock[0] += 2.0
    out, err = capsys.readouterr()
    assert (bars, out) == ([], "")
    lines = err.splitlines()
    assert lines[0] == "encoding: 15 of 100, 0.5/s, 0:02:50 left"
    assert [int(line.split()[1]) for line in lines] == [15, 30, 45, 60, 75, 90]


def test_line_period_is_shared_by_short_operations(clock, capsys):
    for name in ("one", "two", "three", "four", "five", "six", "seven"):
        for _ in progress.track_progress(range(20), name):
            clock[0] += 0.5
    assert capsys.readouterr().err.splitlines() == [
        "four: 2 of 20, 2/s, 0:00:09 left",
        "seven: 2 of 20, 2/s, 0:00:09 left",
    ]


def test_line_shows_the_note_and_needs_no_total(clock, capsys):
    bar = progress.ProgressBar("training vq", None)
    bar.begin(10)
    bar.note("loss 0.3")
    clock[0] = 30.0
    bar.advance(70)
    bar.close(70)
    assert capsys.readouterr().err == "training vq: 70, 2/s, loss 0.3\n"


def test_nothing_is_shown_if_disabled(bars, clock, terminal, capsys):
    for _ in progress.track_progress(range(4), "encoding", show=False):
        clock[0] += 50
    assert (bars, tuple(capsys.readouterr())) == ([], ("", ""))


def test_short_operations_show_nothing(clock, capsys):
    for _ in progress.track_progress(range(4), "encoding"):
        clock[0] += 5
    assert tuple(capsys.readouterr()) == ("", "")


def test_bar_is_closed_when_iteration_stops_early(bars, clock, terminal):
    for _ in progress.track_progress(range(4), "encoding"):
        clock[0] += 5
        if bars:
            break
    assert bars[0].closed


def test_nested_bars_do_not_fail(clock):
    from rich.progress import Progress

    with Progress(disable=False):
        done = []
        for item in progress.track_progress(range(4), "encoding", show=True):
            clock[0] += 5
            done.append(item)
    assert done == [0, 1, 2, 3]


def test_every_bar_has_its_own_title(monkeypatch, tmp_path):
    titles = []
    original_init = progress.ProgressBar.__init__

    def spied(self, title, *args, **options):
        titles.append(title)
        original_init(self, title, *args, **options)

    monkeypatch.setattr(progress.ProgressBar, "__init__", spied)
    data = rk.dataset("digits")
    model = rk.build(
        data=data, encoder="mlp(widths=(4,))", latent="gaussian(dim=2)", decoder="mlp(widths=(4,))"
    )
    for options in ({}, {"out": tmp_path / "first"}, {"out": tmp_path / "two", "stage": "prior"}):
        for step in rk.loop(model, data, steps=1, device="cpu", **options):
            step.backward(step.model(step.batch).total)
            step.update()
    assert titles == [
        "training gaussian(dim=2)",
        "training gaussian(dim=2)",
        "training gaussian(dim=2), prior",
    ]
    titles.clear()
    rk.evaluate(model, data, "reconstruction", "knn", fit_on=data, examples=0)
    assert titles
    assert all(re.fullmatch(r"(reconstruction|knn) of gaussian\(dim=2\): \w+", title) for title in titles)
    assert {title.partition(" ")[0] for title in titles} == {"reconstruction", "knn"}
