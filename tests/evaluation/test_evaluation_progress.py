import pytest

from reprkit.evaluation import progress


@pytest.fixture
def bars(monkeypatch):
    made = []

    class Spy:
        def __init__(self, what, total):
            self.what, self.total, self.moves, self.closed = what, total, [], False
            made.append(self)

        def move(self, done):
            self.moves.append(done)

        def close(self):
            self.closed = True

    monkeypatch.setattr(progress, "_Bar", Spy)
    return made


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_bar_appears_after_a_second_only(bars, clock):
    for item in progress.tracked(range(4), "encoding", show=True):
        clock[0] += 0.4
        assert bool(bars) == (item >= 3)
    assert (bars[0].what, bars[0].total, bars[0].moves, bars[0].closed) == ("encoding", 4, [3], True)


def test_no_bar_off_a_terminal(bars, clock, capsys):
    for _ in progress.tracked(range(4), "encoding"):
        clock[0] += 5
    assert not bars
    assert capsys.readouterr().out == ""


def test_the_bar_comes_down_when_the_work_is_left(bars, clock):
    for _ in progress.tracked(range(4), "encoding", show=True):
        clock[0] += 5
        if bars:
            break
    assert bars[0].closed


def test_a_bar_inside_another_does_not_fail(clock):
    from rich.progress import Progress

    with Progress(disable=False):
        done = []
        for item in progress.tracked(range(4), "encoding", show=True):
            clock[0] += 5
            done.append(item)
    assert done == [0, 1, 2, 3]
