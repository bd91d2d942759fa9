"""Reading a class from its source without an import: constructors of all forms, re-exports, papers."""

import sys

import pytest

from reprkit.registry.sources import locate, read_class
from reprkit.testing.fake_installs import Site


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)

    def put(**modules: str) -> None:
        site.add(
            "any",
            entry_points={},
            modules={name.replace("__dot__", "."): text for name, text in modules.items()},
        )

    yield put
    site.forget()


def arguments(target: str) -> list[str]:
    source = read_class(target)
    assert source is not None
    return [str(each) for each in source.arguments]


def test_locate_imports_nothing(write):
    bomb = "raise RuntimeError('imported')"
    write(
        src_a__dot____init__=bomb,
        src_a__dot__b__dot____init__=bomb,
        src_a__dot__b__dot__c=bomb,
        src_ns__dot__leaf=bomb,
    )
    for name in ("src_a", "src_a.b", "src_a.b.c", "src_ns", "src_ns.leaf", "torch.nn", "math"):
        assert locate(name) is not None, name
    for name in ("src_a.x", "src_a.b.c.d", "src_nothing", "math.x", "__main__.x"):
        assert locate(name) is None, name
    assert not {"src_a", "src_ns"} & set(sys.modules)


def test_constructors(write):
    write(
        src_forms="""
        import dataclasses
        from dataclasses import dataclass
        from typing import ClassVar

        class Plain:
            def __init__(self, a, /, b, c: int = 1, *rest, d, e: "str" = 'x', f=None, **more): ...

        class Child(Plain):
            pass

        class Grandchild(Child):
            pass

        class Foreign(dataclasses.Field):
            pass

        class Loop(Loop):
            pass

        @dataclass(frozen=True)
        class Data:
            shared: ClassVar[int] = 0
            x: int
            y: float = 0.5
        """
    )
    assert arguments("src_forms:Plain") == ["a", "b", "c: int = 1", "d", "e: str = 'x'", "f=None"]
    assert arguments("src_forms:Child") == arguments("src_forms:Grandchild") == arguments("src_forms:Plain")
    assert arguments("src_forms:Data") == ["x: int", "y: float = 0.5"]
    assert arguments("src_forms:Foreign") == arguments("src_forms:Loop") == []
    complete = {
        name: read_class(f"src_forms:{name}").complete
        for name in ("Plain", "Child", "Foreign", "Loop", "Data")
    }
    assert complete == {"Plain": False, "Child": False, "Foreign": False, "Loop": False, "Data": True}
    for target in (
        "reprkit.latents.continuous:Continuous",
        "reprkit.objectives.reconstruction:Reconstruction",
    ):
        assert read_class(target).complete, target


def test_renamed_arguments_are_inherited(write):
    base = "class Base:\n    renamed_arguments = {'old': 'new'}\n    def __init__(self, new=1): ...\n"
    write(bases=base, parts="from bases import Base\nclass Part(Base): ...\nclass Other: ...\n")
    assert read_class("parts:Part").renamed == {"old": "new"}
    assert read_class("parts:Other").renamed == {}


def test_reexports_are_followed(write):
    write(
        src_re__dot____init__="from .inner import Hidden as Shown",
        src_re__dot__inner__dot____init__="from ..leaf import Hidden",
        src_re__dot__leaf="class Hidden:\n    def __init__(self, x=1): ...",
        src_re__dot__user="from src_re.leaf import Hidden\nclass User(Hidden): ...",
        src_re__dot__circle="from src_re.circle import Round",
    )
    assert (
        arguments("src_re:Shown")
        == arguments("src_re.inner:Hidden")
        == arguments("src_re.user:User")
        == ["x=1"]
    )
    assert read_class("src_re.circle:Round") is None
    assert read_class("src_re.leaf:Absent") is None


def test_unreadable_sources(write):
    write(src_bad="def broken(:")
    assert read_class("src_bad:X") is None
    assert read_class("math:X") is None
    assert read_class("src_nothing:X") is None


def test_papers_and_argument_descriptions(write):
    write(
        src_doc='''
        """About.

        Paper: Kingma and Welling (2014),
        arXiv 1312.6114. In 2014 nothing (or 300) happened here.
        """

        class Doc:
            """First line.

            See He et al. 2016.  Not this one.  As in
            Oord (van den Oord et al., 2017b).

            Args:
                a: first,
                    with: a colon below.
                b (int): second (Smith et al. 2018).

            Raises:
                ValueError: never.
            """

            def __init__(self, a, b, c=0):
                """Make it.

                Args:
                    c: third.
                """
        '''
    )
    source = read_class("src_doc:Doc")
    assert source is not None
    assert source.papers == (
        "Kingma and Welling (2014), arXiv 1312.6114.",
        "See He et al. 2016.",
        "As in Oord (van den Oord et al., 2017b).",
    )
    assert {each.name: each.help for each in source.arguments} == {
        "a": "first, with: a colon below.",
        "b": "second (Smith et al. 2018).",
        "c": "third.",
    }
    assert source.doc.startswith("First line.")
    assert source.line > 1


def test_constraints_are_formatted(write):
    write(
        src_bounds="""
        LEAST = 0.25
        Count = Annotated[int, Ge(1)]
        """,
        src_declared="""
        from typing import Annotated, Literal
        from src_bounds import LEAST, Count

        class Declared:
            def __init__(
                self,
                codes: Annotated[int, Ge(2)] = 512,
                share: Annotated[float, Ge(LEAST), Lt(1)] = 0.5,
                sizes: Annotated[tuple[Count, ...], MinLen(1)] | None = None,
                pool: Literal["mean", "flatten"] = "mean",
                width: Annotated[int, Interval(gt=0, le=2**20)] = 8,
                kernel: Annotated[int, Ge(1), Predicate(odd)] = 3,
            ): ...
        """,
    )
    assert arguments("src_declared:Declared") == [
        "codes: int >= 2 = 512",
        "share: 0.25 <= float < 1 = 0.5",
        "sizes: tuple[int >= 1, ...] (at least 1 long) | None = None",
        "pool: 'mean' | 'flatten' = 'mean'",
        "width: 0 < int <= 2**20 = 8",
        "kernel: int >= 1 (odd) = 3",
    ]
