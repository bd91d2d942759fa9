import itertools

import pytest
import torch
from brute_force import chart_of, trees
from reprkit_structure.layers.charts import parents_of, reduces_of
from reprkit_structure.layers.shift_reduce import program_of

import reprkit as rk
from reprkit import Field, Signature
from reprkit.types import Features

WORDS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=2)})


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return rk.create("decoder", "stack(width=6)", data=WORDS).eval()


def features_of(charts):
    parents = parents_of(charts)
    mask = parents >= 0
    mask[torch.arange(len(mask)), mask.sum(1)] = True  # the root
    x = torch.linspace(-1, 1, 6).expand(*parents.shape, 6)
    return Features(x=x, parents=parents, mask=mask)


def reference(decoder, tree, words):
    """-log p of words and tree, by a stack that is a list of nodes."""
    context = torch.linspace(-1, 1, 6)[None]
    bottom = decoder.bottom[None].chunk(2, -1)
    stack, states, total, actions = [], [bottom], torch.zeros(()), torch.zeros(())

    def push(node):
        stack.append(node)
        output, _ = node.chunk(2, -1)
        states.append(decoder.cell(torch.cat([output, context], -1), states[-1]))

    for place, word in enumerate(words):
        if len(stack) >= 2:
            actions = actions - torch.nn.functional.logsigmoid(-decoder.action(states[-1][0]))[0, 0]
        logits = decoder.head.linear(states[-1][0]).log_softmax(-1)
        total = total - logits.flatten()[word]
        push(decoder.compose.leaf(decoder.words(torch.tensor([word]))))
        for first in range(place - 1, -1, -1):
            if (first, place) not in tree:
                continue
            if place < len(words) - 1:
                actions = actions - torch.nn.functional.logsigmoid(decoder.action(states[-1][0]))[0, 0]
            right, left = stack.pop(), stack.pop()
            del states[-2:]
            push(decoder.compose.join(left, right))
    assert len(stack) == 1
    return total, actions


def test_equal_to_a_stack_of_lists(decoder):
    words = [1, 0, 0, 1, 1]
    charts = torch.stack([chart_of(tree, 5) for tree in trees(0, 4)])
    teacher = torch.tensor(words)[None, :, None].expand(len(charts), -1, -1)
    decoded = decoder(features_of(charts), teacher=teacher)
    for row, tree in enumerate(trees(0, 4)):
        total, actions = reference(decoder, tree, words)
        torch.testing.assert_close(decoded.nll(teacher)[row].sum(), total)
        torch.testing.assert_close(decoded.code_nll[row], actions)


def test_words_and_trees_have_probability_one_together(decoder):
    sentences = torch.tensor(list(itertools.product(range(2), repeat=4)))
    total = 0.0
    for tree in trees(0, 3):
        features = features_of(chart_of(tree, 4)[None].expand(len(sentences), -1, -1))
        decoded = decoder(features, teacher=sentences.unsqueeze(-1))
        total += float((-decoded.nll(sentences.unsqueeze(-1)).sum(1) - decoded.code_nll).exp().sum())
    assert total == pytest.approx(1.0, abs=1e-5)


def test_padding_changes_nothing(decoder):
    tree = next(iter(trees(0, 3)))
    short, padded = chart_of(tree, 4)[None], chart_of(tree, 7)[None]
    words = torch.tensor([[[1], [0], [1], [1]]])
    more = torch.cat([words, torch.zeros(1, 3, 1, dtype=torch.int64)], 1)
    one, two = decoder(features_of(short), teacher=words), decoder(features_of(padded), teacher=more)
    torch.testing.assert_close(one.nll(words), two.nll(more)[:, :4])
    torch.testing.assert_close(one.code_nll, two.code_nll)
    assert two.mask.tolist() == [[True] * 4 + [False] * 3]


def test_trees_over_more_or_fewer_words():
    left = features_of(chart_of({(i, i) for i in range(4)} | {(0, 1), (0, 2), (0, 3)}, 4)[None])
    cpu = torch.device("cpu")
    assert program_of(left, 1, 6, cpu).reduces.tolist() == [[0, 1, 1, 0, 0, 3]]
    assert program_of(left, 1, 3, cpu).reduces.tolist() == [[0, 1, 1]]
    assert program_of(left, 1, 1, cpu).reduces.tolist() == [[0]]
    assert program_of(None, 1, 3, cpu).reduces.tolist() == [[0, 0, 2]]
    assert program_of(left, 1, 6, cpu).words.tolist() == [4]


def test_a_tree_that_predicts_words_is_learned_by_policy_and_straight_through():
    """The code is the tree alone; a parser that learns moves all its weights."""
    data = rk.dataset("sentences(size=40, longest=8)")
    for latent, objective in (
        ("tree(dim=4, width=8, hidden=8)", "reconstruction"),
        ("tree(gradient='none')", "policy"),
    ):
        model = rk.build(
            data=data, encoder="gru(width=8)", latent=latent, decoder="stack(width=16)", objective=objective
        )
        parser = model.latent().parser
        before = [value.clone() for value in parser.parameters()]
        optimizer, batch = torch.optim.Adam(model.parameters(), 0.02), data.batch(range(40))
        losses = []
        for _ in range(12):
            step = model(batch)
            optimizer.zero_grad()
            step.total.backward()
            optimizer.step()
            losses.append(step.terms["reconstruction"].item())
        assert losses[-1] < 0.96 * losses[0]
        moved = [not torch.equal(a, b) for a, b in zip(before, parser.parameters(), strict=True)]
        assert all(moved)
        found = rk.evaluate(model, data, "bracket-f1", examples=0)["bracket-f1"]
        assert 0 < found["f1"] <= found["f1_best"]


def test_the_code_is_the_tree():
    torch.manual_seed(0)
    latent = rk.create("latent", "tree(dim=4, width=8)").eval()
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    code = latent(Features(x=torch.randn(3, 6, 8), mask=mask))
    assert code.mask.sum(1).tolist() == [11, 7, 1]
    assert torch.equal(code.z, latent.embed(code.indices))
    assert code.bits.tolist() == pytest.approx(
        [5.392317, 2.321928, 0.0], abs=1e-4
    )  # log2 of 42, 5 and 1 trees
    assert (code.indices.squeeze(-1) * code.mask).sum(1).tolist() == [5, 3, 0]


def test_tree_lstm_equals_a_recursion():
    torch.manual_seed(0)
    latent = rk.create("latent", "tree-lstm(width=5, hidden=6)").eval()
    x, mask = torch.randn(2, 6, 5), torch.arange(6) < torch.tensor([6, 4])[:, None]
    code = latent(Features(x=x, mask=mask))
    for row, length in enumerate((6, 4)):
        chart = latent.parser(Features(x=x, mask=mask)).crf.best()[row]

        def node(i, j, row=row, chart=chart):
            if i == j:
                return latent.compose.leaf(x[row, i])
            (k,) = [k for k in range(i, j) if chart[i, k] and chart[k + 1, j]]
            return latent.compose.join(node(i, k), node(k + 1, j))

        torch.testing.assert_close(code.z[row, 2 * length - 2], node(0, length - 1)[:5])
        assert int(reduces_of(chart[None]).sum()) == length - 1
    root = rk.create("latent", "tree-lstm(width=5, hidden=6, keep='root')").eval()
    root.load_state_dict(latent.state_dict())
    assert torch.equal(root(Features(x=x, mask=mask)).z[:, 0], code.z[torch.arange(2), torch.tensor([10, 6])])


@pytest.mark.parametrize(
    "decoder", ["stack(width=6)", "pcfg(nonterminals=2, preterminals=3, width=6, depth=0)"]
)
@pytest.mark.parametrize(
    "latent", ["tree(dim=6, width=6)", "tree-lstm(width=6)", "tree-lstm(width=6, keep='root')"]
)
def test_single_words_give_every_parameter_a_gradient(latent, decoder):
    """Data-parallel training stops at a parameter without one."""
    data = rk.dataset("sentences(size=4, longest=8)")
    model = rk.build(data=data, encoder="gru(width=6)", latent=latent, decoder=decoder)
    x = torch.tensor([[[1]], [[2]]])
    model({"x": x.squeeze(-1), "x_mask": torch.ones(2, 1, dtype=torch.bool)}).total.backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []
