import pytest
import torch
from brute_force import sentence_probability, trees
from reprkit_structure.layers.grammar import Grammar

N, T = 3, 4


def random_grammar(lengths, rows=1, count=6, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    rules = torch.randn(rows, N, (N + T) ** 2, dtype=dtype).mul(2).log_softmax(-1).view(rows, N, N + T, N + T)
    return Grammar(
        torch.randn(rows, N, dtype=dtype).log_softmax(-1),
        torch.randn(rows, T, dtype=dtype).log_softmax(-1),
        rules,
        -3 * torch.rand(len(lengths), count, T, dtype=dtype),
        torch.arange(count) < torch.tensor(lengths)[:, None],
    )


@pytest.mark.parametrize("rows", [1, 5])
def test_equal_to_the_sum_over_derivations(rows):
    lengths = [6, 4, 3, 2, 1]
    grammar = random_grammar(lengths, rows)
    found = grammar.log_prob()
    for row, length in enumerate(lengths):
        of = row if rows > 1 else 0
        if length == 1:
            expected = (grammar.singles[of] + grammar.emissions[row, 0]).logsumexp(0)
        else:
            expected = sentence_probability(
                grammar.roots[of], grammar.rules[of], grammar.emissions[row], length
            )
        assert float(found[row]) == pytest.approx(float(expected), abs=1e-9)


def test_gradients_by_differences():
    grammar = random_grammar([4, 2], 2, count=4)

    def total(roots, rules, emissions):
        return Grammar(roots, grammar.singles, rules, emissions, grammar.mask).log_prob()

    inputs = [getattr(grammar, name).requires_grad_() for name in ("roots", "rules", "emissions")]
    assert torch.autograd.gradcheck(total, inputs)


def test_posteriors_are_shares_of_trees():
    grammar = random_grammar([4], count=4)
    posteriors = grammar.posteriors()[0]
    # A score that forbids all other spans leaves the trees with the span.
    for i, j in ((0, 1), (1, 2), (1, 3), (0, 2)):
        forbidden = torch.zeros(1, 4, 4, dtype=torch.float64)
        for first, last in ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3)):
            if not any({(i, j), (first, last)} <= tree for tree in trees(0, 3)):
                forbidden[0, first, last] = -200.0
        share = (grammar.log_prob(forbidden) - grammar.log_prob()).exp()
        assert float(posteriors[i, j]) == pytest.approx(float(share), abs=1e-9)
    assert float(posteriors[0, 3]) == pytest.approx(1.0)
    assert int(grammar.best().sum()) == 7


def test_long_sentences_neither_overflow_nor_underflow():
    grammar = random_grammar([60], count=60, dtype=torch.float32)
    exact = Grammar(
        *(getattr(grammar, each).double() for each in ("roots", "singles", "rules", "emissions")),
        grammar.mask,
    )
    torch.testing.assert_close(grammar.log_prob().double(), exact.log_prob(), rtol=1e-5, atol=1e-3)
    sure = Grammar(grammar.roots, grammar.singles, grammar.rules, grammar.emissions - 50.0, grammar.mask)
    torch.testing.assert_close(sure.log_prob(), grammar.log_prob() - 60 * 50.0, rtol=1e-5, atol=0.1)


@pytest.mark.filterwarnings("ignore:.*does not define `arg_constraints`")
def test_equal_to_torch_struct():
    torch_struct = pytest.importorskip("torch_struct")
    lengths = [6, 4, 3, 2]
    grammar = random_grammar(lengths, rows=4)
    other = torch_struct.SentCFG(
        (grammar.emissions, grammar.rules, grammar.roots), lengths=torch.tensor(lengths)
    )
    torch.testing.assert_close(grammar.log_prob(), other.partition)


def test_equal_to_nltk():
    """The inside probability of a written grammar is the sum of the probabilities of nltk's parses."""
    nltk = pytest.importorskip("nltk")
    written = nltk.PCFG.fromstring("""
        A0 -> A0 A0 [0.2] | P0 A1 [0.3] | P0 P1 [0.25] | A1 P1 [0.25]
        A1 -> P1 P0 [0.6] | A0 P0 [0.4]
        P0 -> 'a' [0.7] | 'b' [0.3]
        P1 -> 'a' [0.1] | 'b' [0.9]
    """)
    words = ["a", "b", "a", "b", "b"]
    probability = sum(tree.prob() for tree in nltk.parse.InsideChartParser(written).parse(words))
    names = ["A0", "A1", "P0", "P1"]
    rules = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    emissions = torch.zeros(1, 5, 2, dtype=torch.float64)
    for production in written.productions():
        left = names.index(production.lhs().symbol())
        if len(production.rhs()) == 2:
            b, c = (names.index(each.symbol()) for each in production.rhs())
            rules[0, left, b, c] = production.prob()
        else:
            places = [place for place, word in enumerate(words) if word == production.rhs()[0]]
            emissions[0, places, left - 2] = production.prob()
    grammar = Grammar(
        torch.tensor([[1.0, 0.0]], dtype=torch.float64).log(),
        torch.zeros(1, 2, dtype=torch.float64),
        rules.log(),
        emissions.log(),
    )
    assert probability > 0
    assert float(grammar.log_prob().exp()) == pytest.approx(probability, rel=1e-9)
