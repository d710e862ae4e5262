"""The measurements of ``scripts/bench``: each runs, at sizes of no meaning, and compares what computes the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import process_time

import numpy as np
import pytest
import torch
from benchmarks import __main__ as bench
from benchmarks import atari, iterations, measure, sampling, tasks, updates
from benchmarks.measure import Row, in_turns, on_cores, watch

from trpo_cli.optimizers.fisher import analytic_metric, fisher_matrix
from trpo_cli.optimizers.surrogate import surrogate_at, surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import InputMap
from trpo_cli.policies.distributions import DiagonalGaussian
from trpo_cli.policies.kernels import IN_NUMPY
from trpo_cli.policies.network_policy import NetworkPolicy, ScaledInputs
from trpo_cli.samplers.randomness import Draw

KEYS = {"name", "unit", "ours", "peer", "theirs", "ratio", "target", "met", "pairs"}


@pytest.fixture
def no_input_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the 10,000 steps that the percentiles of the inputs come from."""
    monkeypatch.setattr(tasks, "measure_input_map", lambda *_: InputMap())


def sensible(rows: list[Row], n: int) -> None:
    assert len(rows) == n
    for record in (row.record() for row in rows):
        assert set(record) == KEYS
        assert all(np.isfinite(record[key]) and record[key] > 0 for key in ("ours", "theirs", "ratio"))
        assert (record["met"] is None) == (record["target"] == "")


def test_a_ratio_is_the_median_over_pairs_and_its_target_goes_either_way():
    pairs = [(1.0, 2.0), (30.0, 40.0), (5.0, 1.0)]
    assert Row("r", "s", "p", pairs).ratio == 0.75 and Row("r", "s", "p", pairs).met is None
    assert Row("r", "s", "p", pairs, at_least=0.75).met and not Row("r", "s", "p", pairs, at_least=0.76).met
    assert Row("r", "s", "p", pairs, at_most=0.75).met and not Row("r", "s", "p", pairs, at_most=0.74).met
    record = Row("r", "s", "p", pairs, at_most=0.5).record()
    assert (record["ours"], record["theirs"], record["target"]) == (5.0, 2.0, "<= 0.5")


def test_measures_take_turns_and_answer_in_their_own_column():
    calls: list[int] = []

    def numbered(i: int) -> Callable[[], float]:
        def call() -> float:
            calls.append(i)
            return 10 * i + len(calls)

        return call

    assert in_turns(2, numbered(1), numbered(2)) == [(11, 22), (14, 23)]
    assert calls == [1, 2, 2, 1]


def test_what_workers_burn_counts_as_this_programs_own():
    def burn(group: Group) -> float:
        end = process_time() + 0.2
        while process_time() < end:
            pass
        return group.sums(1.0)[0]

    before = measure._own_cpu_s()
    answer, others = watch(lambda: on_cores(2, burn))
    assert answer == 2 and others >= 0
    assert measure._own_cpu_s() - before > 0.35


def test_atari_rates_and_derivatives():
    sensible(atari.sampler_rate("pong", atari.AtariSize(2, 8, 1), 1), 3)
    sensible(atari.derivatives(64, 1), 2)


def test_the_plain_atari_network_has_the_gradient_that_ours_is_measured_against():
    p = atari.parts("pong")
    obs = np.random.default_rng(0).integers(0, 256, (9, 4, 52, 40), np.uint8)
    batch = updates.synthetic_batch(p.policy, p.theta, obs)
    plain = atari.PlainNetwork(p.policy, p.theta)
    logits = plain(p.policy.tensor(obs))
    torch.testing.assert_close(logits, batch.old, rtol=1e-4, atol=1e-5)
    ratio = torch.exp(p.policy.dist.log_prob(logits, batch.actions[:, 0]) - batch.log_q[:, 0])
    (ratio * batch.advantages[:, 0]).mean().backward()
    gradient = torch.cat([piece.grad.ravel() for piece in plain.pieces if piece.grad is not None])
    torch.testing.assert_close(surrogate_gradient(p.policy, p.theta, batch, Group())[0], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("no_input_map")
def test_sampler_rates():
    size = sampling.SamplerSize(True, 2, 1, 3, 2, 2, 2)
    sensible(sampling.sampler_rate("hopper_v5", size, 2), 1)
    (row,) = sampling.sampler_rate("swimmer", size, 1)
    assert "one process, 2 lanes each (2 alive on average)" in row.name
    sensible(sampling.against_gymnasium("swimmer_v5", "Swimmer-v5", size, 1), 2)


def perturbed(nonlinearity: str = "tanh") -> tuple[NetworkPolicy, torch.Tensor]:
    """Hopper's network in double precision, away from its initial θ."""
    policy, theta, _ = updates.policy_of("hopper_v5")
    network = replace(updates.network_of(policy), nonlinearity=nonlinearity, dtype=torch.float64)
    policy = replace(policy, network=network, inputs=ScaledInputs(torch.float64, policy.input_map))
    return policy, theta.double() + 0.1 * torch.from_numpy(np.random.default_rng(0).standard_normal(len(theta)))


def in_modules_order(policy: NetworkPolicy, vector: torch.Tensor) -> torch.Tensor:
    """A vector of θ's layout as the parameters of the plain modules, whose weights are transposed."""
    network = updates.network_of(policy)
    layers = network.layers(vector[: network.n_parameters])
    parts = [part for w, b in layers for part in (w.T.reshape(-1), b.reshape(-1))]
    return torch.cat([vector[-policy.dist.action_size :], *parts])


def test_the_plain_peers_compute_what_ours_does():
    policy, theta = perturbed()
    batch = updates.synthetic_batch(policy, theta, updates.scaled_states(policy, 300))
    batch = replace(batch, obs=batch.obs.astype(np.float64), advantages=batch.advantages.double())
    network = updates.PlainNetwork(policy, theta)
    ours, _ = surrogate_gradient(policy, theta, batch, Group())
    torch.testing.assert_close(updates.plain_gradient(network, batch), in_modules_order(policy, ours))
    v = torch.from_numpy(np.random.default_rng(1).standard_normal(len(theta)))
    matrix = fisher_matrix(surrogate_at(policy, theta, batch, Group()), 1.0, Draw(0), analytic_metric)
    expected = in_modules_order(policy, matrix.product(v))
    torch.testing.assert_close(updates.plain_product(network, batch, in_modules_order(policy, v)), expected)


@pytest.mark.parametrize("nonlinearity", IN_NUMPY)
def test_a_policy_acts_in_numpy_as_it_does_in_torch(nonlinearity: str):
    policy, theta = perturbed(nonlinearity)
    policy = policy.with_input_map(InputMap(np.full(11, 0.3), np.full(11, 0.5), 2.0))
    rng = np.random.default_rng(2)
    obs, noise = (rng.standard_normal((40, n)).astype(np.float32) for n in (11, 3))
    acting = policy.acting(theta)
    assert acting is not None
    params = policy.params(theta, policy.tensor(obs))
    actions = policy.dist.sample(params, torch.from_numpy(noise))
    for found, expected in zip(acting(obs, noise), (params, actions), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-14)
    assert isinstance(policy.dist, DiagonalGaussian)


def test_derivatives():
    sensible(updates.derivatives("hopper_v5", updates.UpdateSize(200, 1, double_backprop=True)), 6)


def test_memory():
    sensible(updates.memory("hopper", 50_000, [1.0]), 1)


@pytest.mark.usefixtures("no_input_map")
def test_iterations():
    sensible(iterations.scaling(60, 2, 1, 1), 1)
    (row,) = iterations.update_share(2, 1, 1)
    sensible([row], 1)
    assert row.ratio < 1


@pytest.mark.skipif(find_spec("sb3_contrib") is None, reason="the bench extra is not installed")
def test_sb3_runs_in_a_process_of_its_own():
    assert iterations._sb3_rate(20, 1, 2) > 0
    (row,) = iterations.against_zoo(1, 1, 1)
    assert row.unit == "s" and 0 < row.ratio < 1


def test_the_command_prints_a_table_and_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    row = Row("a measurement", "steps/s", "a peer", [(30000.0, 20000.0)], at_least=2.0)
    monkeypatch.setattr(bench, "sections", lambda n_cores: {"one": [lambda: [row]], "other": []})
    assert bench.main(["--only", "one", "--out", str(tmp_path / "b" / "found.json")]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("a measurement", "30,000 steps/s", "a peer", "1.5", ">= 2", "NO"))
    found = json.loads((tmp_path / "b" / "found.json").read_text())
    assert found["cores"] >= 1 and found["wall_s"] > 0
    (record,) = found["rows"]
    assert record.pop("cores_of_others") >= 0 and record == row.record() | {"pairs": [[30000.0, 20000.0]]}


def test_every_measurement_has_a_name_for_the_command_line():
    assert set(bench.sections(2)) == {
        *("sampler", "falling", "one_core", "gymnasium", "atari", "update", "memory", "scaling", "share", "sb3"),
        "training",
        "many_cores",
    }
