"""References and sums of references: parsing, rejected input, and round trips."""

import time

import pytest

from reprkit.errors import ReferenceSyntaxError
from reprkit.registry.references import Reference, parse, parse_sum


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vq", Reference("vq")),
        (" one-hot ", Reference("one-hot")),
        ("vq()", Reference("vq")),
        ("vq(codes=512, dim=64)", Reference("vq", {"codes": 512, "dim": 64})),
        ("residual-vq (\n codes=8,\n)", Reference("residual-vq", {"codes": 8})),
        ("acme-latents/vq(codes=2)", Reference("vq", {"codes": 2}, "acme-latents")),
        ("Acme.Latents_2/3d-conv", Reference("3d-conv", {}, "Acme.Latents_2")),
        (
            "x(a=-1, b=+2.5, c=1e-3, d=(1, -2), e=[None, True], f={'k': (1,)}, g='a)b\"', h=())",
            Reference(
                "x",
                {
                    "a": -1,
                    "b": 2.5,
                    "c": 1e-3,
                    "d": (1, -2),
                    "e": [None, True],
                    "f": {"k": (1,)},
                    "g": 'a)b"',
                    "h": (),
                },
            ),
        ),
    ],
)
def test_parse_and_str_are_inverse(text: str, expected: Reference) -> None:
    read = parse(text)
    assert read == expected
    assert parse(str(read)) == expected
    assert [type(value) for value in read.arguments.values()] == [
        type(value) for value in expected.arguments.values()
    ]


def test_tuples_and_lists_keep_their_type() -> None:
    assert parse("f(levels=(8, 5))").arguments == {"levels": (8, 5)}
    assert parse("f(levels=[8, 5])").arguments == {"levels": [8, 5]}
    assert str(parse("d/f(levels=(8,))")) == "d/f(levels=(8,))"


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("vq(codes=open('x'))", "\"open('x')\" is not a literal"),
        ("vq(codes=__import__('os').system('true'))", "is not a literal"),
        ("vq(codes=[1, [f(2)]])", "'f(2)' is not a literal"),
        ("vq(codes={'a': x})", "'x' is not a literal"),
        ("vq(codes={**x})", "is not a literal"),
        ("vq(codes={[1]: 2})", "is not a literal"),
        ("vq(codes=1 + 2)", "'1 + 2' is not a literal"),
        ("vq(codes=-True)", "'-True' is not a literal"),
        ("vq(codes=~1)", "'~1' is not a literal"),
        ("vq(codes=1e999)", "'1e999' is not a literal"),
        ("vq(codes=2j)", "'2j' is not a literal"),
        ("vq(codes=b'x')", "is not a literal"),
        ("vq(codes=...)", "'...' is not a literal"),
        ("vq(codes={1, 2})", "'{1, 2}' is not a literal"),
        ("vq(codes=f'{x}')", "is not a literal"),
        ("vq(codes=lambda: 1)", "is not a literal"),
        ("vq(codes=(x := 1))", "is not a literal"),
        ("vq(codes=[i for i in (1,)])", "is not a literal"),
        ("vq(512)", "'512' has no key; write key=value"),
        ("vq(*x)", "'*x' has no key"),
        ("vq(**{'codes': 1})", "is not key=value"),
        ("vq(codes=1, codes=2)", "'codes' is given twice"),
        ("vq(codes=1)(dim=2)", "more than one pair of brackets"),
        ("vq(codes=1).eval()", "more than one pair of brackets"),
        ("vq(codes=1) or f(x=1)", "more than one pair of brackets"),
        ("vq(codes=1", "cannot be read"),
        ("vq(codes=1) # x; y(", "more than one pair of brackets"),
        ("vq(codes=1); x", "cannot be read"),
        ("vq(codes=)", "cannot be read"),
        ("vq(\x00)", "cannot be read"),
        ("vq(a=" + "-" * 20_000 + "1)", "cannot be read"),
        ("", "it has no name"),
        ("(codes=1)", "it has no name"),
        ("acme/", "it has no name"),
        ("/vq", "is not the name of a distribution"),
        ("a/b/vq", "'a/b' is not the name of a distribution"),
        ("VQ(codes=1)", "Did you mean 'vq'?"),
        ("one_hot", "Did you mean 'one-hot'?"),
        ("one hot", "Did you mean 'one-hot'?"),
        ("acme.fsq:FSQ", "passed as an instance"),
        ("-vq", "is not a part's name"),
        ("ｖq", "is not a part's name"),
    ],
)
def test_error_quotes_the_invalid_piece(text: str, piece: str) -> None:
    with pytest.raises(ReferenceSyntaxError) as caught:
        parse(text)
    assert piece in str(caught.value)
    assert "for example: vq(codes=512, dim=64)" in str(caught.value)
    assert len(str(caught.value)) < 1_000 or len(text) > 1_000


def test_no_code_is_executed(tmp_path) -> None:
    target = tmp_path / "made"
    for text in (f"vq(a=open({str(target)!r}, 'w'))", f"vq(a=f'{{open({str(target)!r}, \"w\")}}')"):
        with pytest.raises(ReferenceSyntaxError):
            parse(text)
    assert not target.exists()


def test_only_strings_are_accepted() -> None:
    with pytest.raises(ReferenceSyntaxError, match="not int 3"):
        parse(3)  # type: ignore[arg-type]
    with pytest.raises(ReferenceSyntaxError, match="not NoneType None"):
        parse_sum(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reconstruction", [(1.0, "reconstruction")]),
        (
            "reconstruction + 0.1 * contractive + 1e-3 * sparse(weight=2)",
            [(1.0, "reconstruction"), (0.1, "contractive"), (1e-3, "sparse(weight=2)")],
        ),
        ("1e+3*a+2E+1 * b", [(1000.0, "a"), (20.0, "b")]),
        ("1.e+2*a + .5e1*b + 0*c", [(100.0, "a"), (5.0, "b"), (0.0, "c")]),
        ("a-1e+b", [(1.0, "a-1e"), (1.0, "b")]),
        ("mse1e + 3d-loss", [(1.0, "mse1e"), (1.0, "3d-loss")]),
        ("mse1e+3d-loss", [(1.0, "mse1e"), (1.0, "3d-loss")]),
        (
            "2 * acme-x/a(s='1 + 2 * (', n=-1, w=1e+3) + b",
            [(2.0, "acme-x/a(s='1 + 2 * (', n=-1, w=1000.0)"), (1.0, "b")],
        ),
        ("a(s='it\\'s + that') + b", [(1.0, 'a(s="it\'s + that")'), (1.0, "b")]),
        ("a(x=[(1, 2)], y={'+': 1})\n + b", [(1.0, "a(x=[(1, 2)], y={'+': 1})"), (1.0, "b")]),
    ],
)
def test_sums(text: str, expected: list[tuple[float, str]]) -> None:
    assert [(weight, str(term)) for weight, term in parse_sum(text)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reconstruction - 0.1 * sparse", "has a minus sign"),
        ("reconstruction -sparse", "has a minus sign"),
        ("reconstruction- sparse", "has a minus sign"),
        ("-0.1 * sparse", "has a minus sign"),
        ("a + -0.1 * sparse", "has a minus sign"),
        ("0.1 * -sparse", "has a minus sign"),
        ("sparse * 0.1", "write 0.1 * sparse"),
        ("x * sparse", "'x' is in the position of the weight"),
        ("2 * 3 * sparse", "more than one '*'"),
        ("a +", "a term is missing"),
        ("+ a", "a term is missing"),
        ("a ++ b", "a term is missing"),
        ("", "a term is missing"),
        ("0.1", "is a weight without a term; write 0.1 * name"),
        ("0.1 *", "it has no name"),
        ("1e999 * a", "is not finite"),
        ("0.1 a", "write 0.1 * a"),
        ("a + b(c=d)", "'d' is not a literal"),
    ],
)
def test_invalid_sums_are_rejected(text: str, message: str) -> None:
    with pytest.raises(ReferenceSyntaxError) as caught:
        parse_sum(text)
    assert message in str(caught.value)


HOSTILE = {
    "brackets": "[" * 100_000,
    "brackets in an argument": f"vq(codes={'[' * 5_000}{']' * 5_000})",
    "braces": f"vq(codes={'{1:' * 200}1{'}' * 200})",
    "a large integer": f"vq(codes={10**400})",
    "a larger integer": f"vq(codes={'9' * 100_000})",
    "a small integer": f"vq(codes=-{2**64})",
    "signs": f"vq(codes={'-' * 50_000}1)",
    "negations": f"vq(codes={'not ' * 10_000}1)",
    "attributes": f"vq(codes=a{'.a' * 30_000})",
    "sums": f"vq(codes={'1+' * 30_000}1)",
    "half a number": "9" * 10_000 + "e+",
    "half numbers": "9e+" * 10_000,
    "spaces": "1" + " " * 50_000 + "+ x",
    "digits and a space": "9" * 50_000 + " x",
    "names": "a" * 100_000 + "(",
    "a long text": "vq(codes='" + "x" * 2**22 + "')",
    "many numbers": f"vq(codes=[{'1,' * 100_000}])",
    "half of a surrogate pair": "vq(codes='\ud800', x=\ud800)",
    "a null": "vq(\x00)",
}


@pytest.mark.parametrize("parser", [parse, parse_sum])
@pytest.mark.parametrize("title", HOSTILE)
def test_hostile_text_is_refused_in_little_time(title, parser):
    began = time.process_time()
    with pytest.raises(ReferenceSyntaxError) as caught:
        parser(HOSTILE[title])
    assert time.process_time() - began < 2
    assert len(str(caught.value)) < 2000


def test_bounds_hold_for_what_is_used():
    text = "x" * 2**20
    assert parse(f"vq(packed='{text}')").arguments == {"packed": text}
    assert parse(f"vq(codes={2**63 - 1}, low={-(2**63) + 1})").arguments == {
        "codes": 2**63 - 1,
        "low": 1 - 2**63,
    }
    deep = "[" * 31 + "]" * 31
    assert str(parse(f"vq(codes={deep})")) == f"vq(codes={deep})"
    for wrong in (10**400, 10**5000, ["x"] * 10**6):
        with pytest.raises(ReferenceSyntaxError) as caught:
            parse(wrong)
        assert len(str(caught.value)) < 500
