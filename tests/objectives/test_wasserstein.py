"""``critic_loss`` compared with eq. 3 of arXiv 1704.00028, with gradients in closed form."""

import pytest
import torch

from reprkit.objectives.wasserstein import critic_loss
from reprkit.testing.pool import together
from reprkit.utils import collectives


class Quadratic(torch.nn.Module):
    """v(x) = sum over valid tokens of w x + a x^2 / 2, whose slope is w + a x."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([0.3, -0.7, 1.1]))
        self.a = torch.nn.Parameter(torch.tensor(0.4))

    def forward(self, x, mask):
        score = (self.w * x + self.a * x.square() / 2).sum(-1)
        return (score if mask is None else score * mask).sum(1)


def examples(b=4):
    source = torch.Generator().manual_seed(0)
    return tuple(torch.randn(b, 5, 3, generator=source) for _ in range(2))


def reference(critic, real, made, share, penalty, real_mask, fake_mask):
    between = share * real + (1 - share) * made
    slope = critic.w + critic.a * between
    if real_mask is not None:
        slope = slope * (real_mask | fake_mask).unsqueeze(-1)
    norm = slope.square().sum((1, 2)).sqrt()
    return critic(made, fake_mask) - critic(real, real_mask) + penalty * (norm - 1) ** 2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_value_and_gradient_match_the_paper(masked, training):
    critic, (real, made) = Quadratic(), examples()
    masks = [None, None]
    if masked:
        steps = torch.arange(5)
        masks = [steps < torch.tensor([[5], [2], [1], [3]]), steps < torch.tensor([[1], [4], [1], [3]])]
    torch.manual_seed(7)
    loss, difference = critic_loss(
        critic, real, made, real_mask=masks[0], fake_mask=masks[1], penalty=3.0, training=training
    )
    torch.manual_seed(7)
    share = torch.rand(4, 1, 1) if training else 0.5
    wanted = reference(critic, real, made, share, 3.0, *masks)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(difference, critic(made, masks[1]) - critic(real, masks[0]))
    got = torch.autograd.grad(loss.sum(), list(critic.parameters()))
    torch.testing.assert_close(got, torch.autograd.grad(wanted.sum(), list(critic.parameters())))


def test_the_generator_gets_no_gradient():
    critic, (real, made) = Quadratic(), examples()
    made.requires_grad_()
    loss, _ = critic_loss(critic, real, made)
    loss.sum().backward()
    assert made.grad is None
    assert critic.a.grad is not None


def test_a_flat_critic_has_a_finite_gradient():
    critic, (real, made) = Quadratic(), examples()
    with torch.no_grad():
        critic.w.zero_()
        critic.a.zero_()
    loss, _ = critic_loss(critic, real, made)
    torch.testing.assert_close(loss, torch.full((4,), 10.0))
    loss.sum().backward()
    assert all(bool(each.grad.isfinite().all()) for each in critic.parameters())


def test_it_works_under_no_grad_and_for_any_shape():
    def critic(x, mask):
        return x.square().flatten(1).sum(1)

    real, made = torch.randn(3, 4), torch.randn(3, 4)
    with torch.no_grad():
        loss, _ = critic_loss(critic, real, made, training=False)
    norm = (real + made).norm(dim=1)
    torch.testing.assert_close(loss, made.square().sum(1) - real.square().sum(1) + 10 * (norm - 1) ** 2)


def shares(rank):
    critic, (real, made) = Quadratic(), examples()
    own = slice(2 * rank, 2 * rank + 2)
    torch.manual_seed(7)
    return collectives.gather(critic_loss(critic, real[own], made[own])[0].detach())


@pytest.mark.ranks
def test_two_ranks_draw_as_one_process():
    critic, (real, made) = Quadratic(), examples()
    torch.manual_seed(7)
    alone, _ = critic_loss(critic, real, made)
    for each in together(2, shares):
        torch.testing.assert_close(each, alone.detach())
