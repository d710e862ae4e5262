"""Laws of the action distributions: closed forms, Monte-Carlo, the Fisher matrix, and sampling as a function."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from trpo_cli.policies.distributions import DiagonalGaussian, Distribution, FactoredCategorical

GAUSSIAN, FACTORED = DiagonalGaussian(3), FactoredCategorical((3, 2, 4))
BOTH = pytest.mark.parametrize("dist", [GAUSSIAN, FACTORED], ids=["gaussian", "categorical"])
N = 40_000  # Monte-Carlo samples


def parameters(dist: Distribution, *shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(0.7 * np.random.default_rng(seed).standard_normal((*shape, dist.n_params)))


def draw(dist: Distribution, params: Tensor, *shape: int, seed: int = 1) -> Tensor:
    noise = dist.draw_noise(np.random.default_rng(seed), shape)
    return dist.sample(params, torch.from_numpy(noise).to(params))


def reference(params: Tensor) -> Normal:
    return Independent(Normal(params[..., :3], params[..., 3:].exp()), 1)


def factors(params: Tensor) -> list[Categorical]:
    return [Categorical(logits=x) for x in params.split([3, 2, 4], -1)]


def test_the_gaussian_has_the_closed_forms_of_torch():
    old, new = parameters(GAUSSIAN, 5), parameters(GAUSSIAN, 5, seed=2)
    actions = draw(GAUSSIAN, old, 5)
    torch.testing.assert_close(GAUSSIAN.log_prob(old, actions), reference(old).log_prob(actions))
    torch.testing.assert_close(GAUSSIAN.entropy(old), reference(old).entropy())
    torch.testing.assert_close(GAUSSIAN.kl(old, new), kl_divergence(reference(old), reference(new)))
    torch.testing.assert_close(GAUSSIAN.mode(old), old[:, :3])


def test_the_categorical_has_the_closed_forms_of_torch_summed_over_its_factors():
    old, new = parameters(FACTORED, 5), parameters(FACTORED, 5, seed=2)
    actions = draw(FACTORED, old, 5)
    log_prob = sum(f.log_prob(a) for f, a in zip(factors(old), actions.unbind(-1), strict=True))
    torch.testing.assert_close(FACTORED.log_prob(old, actions), log_prob)
    torch.testing.assert_close(FACTORED.entropy(old), sum(f.entropy() for f in factors(old)))
    kl = sum(kl_divergence(p, q) for p, q in zip(factors(old), factors(new), strict=True))
    torch.testing.assert_close(FACTORED.kl(old, new), kl)
    torch.testing.assert_close(FACTORED.mode(old), torch.stack([f.probs.argmax(-1) for f in factors(old)], -1))


@BOTH
def test_entropy_and_kl_old_new_are_means_under_the_old_distribution(dist: Distribution):
    old, new = parameters(dist, 1), parameters(dist, 1, seed=2)
    actions = draw(dist, old, N)
    log_old, log_new = dist.log_prob(old, actions), dist.log_prob(new, actions)
    for estimate, exact in ((-log_old, dist.entropy(old)), (log_old - log_new, dist.kl(old, new))):
        assert abs(estimate.mean() - exact) < 3 * estimate.std() / N**0.5
    other_way = dist.kl(new, old)
    assert abs((log_old - log_new).mean() - other_way) > 20 * (log_old - log_new).std() / N**0.5


@BOTH
def test_the_fisher_product_is_the_hessian_of_the_kl_and_its_gradient_vanishes(dist: Distribution):
    old = parameters(dist, 4)
    for row in old:
        hessian = torch.autograd.functional.hessian(lambda new, row=row: dist.kl(row, new), row)
        product = torch.stack([dist.fisher_product(row, v) for v in torch.eye(len(row)).double()], 1)
        torch.testing.assert_close(product, hessian, atol=1e-9, rtol=1e-9)
    slope = torch.autograd.functional.jacobian(lambda new: dist.kl(old, new), old)
    assert slope.abs().max() < 1e-12
    assert dist.kl(old, old).abs().max() < 1e-12


@BOTH
def test_a_sample_is_a_function_of_its_noise(dist: Distribution):
    params = parameters(dist, 6)
    torch.testing.assert_close(draw(dist, params, 6), draw(dist, params, 6), rtol=0, atol=0)
    assert (draw(dist, params, 6) != draw(dist, params, 6, seed=9)).any()


@BOTH
def test_more_noise_begins_with_less_noise(dist: Distribution):
    short, long = (dist.draw_noise(np.random.default_rng(3), (n,)) for n in (5, 9))
    assert short.dtype == np.float32 and long.shape == (9, dist.action_size)
    np.testing.assert_array_equal(short, long[:5])


def test_a_gaussian_sample_is_the_mean_plus_noise_stds_and_follows_its_law():
    params = torch.tensor([1.0, -2.0, 0.0, np.log(2.0), np.log(0.5), 0.0]).double()
    torch.testing.assert_close(GAUSSIAN.sample(params, torch.ones(3).double()), torch.tensor([3.0, -1.5, 1.0]).double())
    actions = draw(GAUSSIAN, params, 4000).numpy()
    for column, mean, std in zip(actions.T, [1.0, -2.0, 0.0], [2.0, 0.5, 1.0], strict=True):
        assert stats.kstest(column, stats.norm(mean, std).cdf).pvalue > 1e-3


def test_a_categorical_sample_inverts_the_distribution_function_of_each_factor():
    dist = FactoredCategorical((3, 2))
    params = torch.tensor([0.25, 0.25, 0.5, 0.75, 0.25]).double().log()
    below_one = np.nextafter(np.float32(1), np.float32(0))
    noise = torch.tensor([[0.0, 0.0], [0.24, 0.74], [0.26, 0.76], [0.49, 0.5], [0.51, 0.5], [below_one, below_one]])
    expected = [[0, 0], [0, 0], [1, 1], [1, 0], [2, 0], [2, 1]]
    assert dist.sample(params, noise).tolist() == expected


def test_the_frequencies_of_joint_actions_are_their_probabilities():
    params, every = parameters(FACTORED, 1)[0], torch.from_numpy(FACTORED.all_actions())
    probabilities = FACTORED.log_prob(params, every).exp().numpy()
    drawn = draw(FACTORED, params, N).numpy()
    counts = np.bincount(np.ravel_multi_index(tuple(drawn.T), FACTORED.factors), minlength=24)
    assert stats.chisquare(counts, N * probabilities).pvalue > 1e-3


def test_all_actions_are_all_and_their_probabilities_sum_to_one():
    every = FACTORED.all_actions()
    assert FACTORED.n_actions == len(every) == len(np.unique(every, axis=0)) == 24
    assert (every >= 0).all() and (every.max(0) == (2, 1, 3)).all()
    total = FACTORED.log_prob(parameters(FACTORED, 5)[:, None], torch.from_numpy(every)).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(5).double())


def test_no_choice_of_probability_zero_is_ever_taken_and_extreme_logits_stay_finite():
    dist, logits = FactoredCategorical((3,)), torch.tensor([-1e4, 0.0, -1e4])
    noise = torch.tensor([[0.0], [0.5], [np.nextafter(np.float32(1), np.float32(0))]])
    assert (dist.sample(logits, noise) == 1).all()
    assert torch.isfinite(torch.stack([dist.kl(logits, -logits), dist.entropy(logits)])).all()


def test_the_largest_noise_below_one_picks_a_choice_that_exists_however_the_sum_rounds():
    dist = FactoredCategorical((18,))
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((2000, 18)).astype(np.float32))
    noise = torch.full((2000, 1), float(np.nextafter(np.float32(1), np.float32(0))))
    assert (logits.softmax(-1).cumsum(-1)[:, -1:] <= noise).any()  # here it does round below
    assert dist.sample(logits, noise).max() == 17


@BOTH
def test_functions_broadcast_states_over_their_actions(dist: Distribution):
    old, new = parameters(dist, 5), parameters(dist, 5, seed=2)
    actions = draw(dist, old[:, None], 5, 4)
    assert actions.shape == (5, 4, dist.action_size)
    log_prob = dist.log_prob(new[:, None], actions)
    for m in range(5):
        for k in range(4):
            torch.testing.assert_close(log_prob[m, k], dist.log_prob(new[m], actions[m, k]))
    assert dist.kl(old, new).shape == dist.entropy(old).shape == (5,)
    v = parameters(dist, 5, seed=3)
    torch.testing.assert_close(dist.fisher_product(old, v)[2], dist.fisher_product(old[2], v[2]))
