"""Updates on an accelerator are those of the processor, where sampling stays. All but one need a GPU."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from compose import planned
from subprocesses import finished, progress, results, trpo_train, until
from toy_sims import Chain, Point, mlp, single, trpo, vine

from trpo_cli.optimizers.fisher import METRICS, fisher_matrix
from trpo_cli.optimizers.surrogate import change, surrogate_at
from trpo_cli.parallel.devices import make_convolutions_exact
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.policies.kernels import at_a_time
from trpo_cli.samplers.base import Sampler
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Simulator, Task
from trpo_cli.training.algorithms import PolicyUpdate

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
GPU, WORLD = torch.device("cuda"), Group()
UPDATES = ("trpo", "natural_gradient", "policy_gradient", "max_kl", "empirical_fim", "rwr")


def test_only_an_accelerator_takes_more_states_at_a_time():
    assert at_a_time(64, torch.device("cpu")) == 64
    assert at_a_time(64, torch.device("meta")) == 8192 and at_a_time(10_000, torch.device("meta")) == 10_000


def drawn(name: str) -> tuple[Policy, Batch]:
    """A policy and a batch of single paths that it has drawn."""
    if name == "pong":
        plan = planned("env=atari/pong")
        policy = plan.policy
        theta = policy.initial(np.random.default_rng(0))
        roll = run_episodes(Task(plan.task.sim, 50), PolicyActor(policy, theta), Draw(0), range(4))
        actions, old = (torch.from_numpy(x) for x in (roll.actions, roll.params))
        noise = torch.from_numpy(np.random.default_rng(1).standard_normal((len(old), 1))).float()
        log_q = policy.dist.log_prob(old, actions)[:, None]
        return policy, Batch(roll.obs, old, actions[:, None], noise, log_q, "importance", len(old))
    sim: Simulator = Point() if name == "gaussian" else Chain()
    policy = mlp(sim, (8, 6))
    theta = policy.initial(np.random.default_rng(0))
    return policy, single()(Task(sim, 20), policy, theta, Draw(0), WORLD)[0]


@needs_gpu
@pytest.mark.parametrize("name", ["gaussian", "categorical", "pong"])
def test_gradient_fisher_products_and_divergence_are_those_of_the_processor(name: str):
    make_convolutions_exact()
    policy, batch = drawn(name)
    rng, found = np.random.default_rng(2), []
    theta = policy.initial(np.random.default_rng(0))
    v = torch.from_numpy(rng.standard_normal(len(theta))).to(theta.dtype)
    for device in (torch.device("cpu"), GPU):
        here, moved = theta.to(device), batch.to(device)
        at = surrogate_at(policy, here, moved, WORLD)
        products = [fisher_matrix(at, 1.0, Draw(3), metric).product(v.to(device)) for metric in METRICS.values()]
        far = change(policy, here + 0.01 * v.to(device), moved, WORLD)
        assert all(x.device == here.device for x in (at.gradient, *products))
        values = torch.tensor([at.value, far.surrogate, far.mean_kl])
        found.append([at.gradient.cpu(), *(p.cpu() for p in products), values])
    far_off = [float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(*found, strict=True)]
    assert max(far_off) < (1e-10 if theta.dtype == torch.float64 else 1e-4), far_off


@needs_gpu
@pytest.mark.parametrize("sampler", [single(), vine()], ids=["single", "vine"])
def test_the_same_theta_draws_the_same_batch(sampler: Sampler):
    algorithm = PolicyUpdate(Task(Point(), 20), mlp(Point(), (4,)), sampler, trpo(), 0)
    state = algorithm.initial()
    (here, row), (there, other) = (algorithm.iterate(state.to(d), WORLD) for d in ("cpu", GPU))
    assert {k: v for k, v in row.items() if "collect/" in k} == {k: v for k, v in other.items() if "collect/" in k}
    assert there.theta.device.type == "cuda"
    torch.testing.assert_close(there.theta.cpu(), here.theta, rtol=1e-8, atol=1e-10)


@needs_gpu
@pytest.mark.parametrize("optimizer", UPDATES)
def test_every_update_computes_there(optimizer: str):
    plan = planned("env=cartpole", f"optimizer={optimizer}", "sampler.n_paths=24", "step_limit=100")
    state = plan.algorithm.initial()
    rows = [plan.algorithm.iterate(state.to(d), WORLD)[1] for d in ("cpu", GPU)]
    assert rows[0]["update/accepted"] == rows[1]["update/accepted"]
    assert rows[0]["update/mean_kl"] == pytest.approx(rows[1]["update/mean_kl"], rel=1e-3)


@needs_gpu
def test_a_run_of_two_workers_stays_in_its_trust_region_and_resumes_to_the_same_rows(tmp_path: Path):
    words = ("device=cuda", "workers=2", "iterations=6")
    run = Path("outputs/train/cartpole/trpo-single/seed0")
    finished(tmp_path / "whole", *words)
    with trpo_train(tmp_path / "killed", *words, FAULT="slow:0:2") as command:
        until(lambda: len(progress(tmp_path / "killed" / run)) >= 2)
        command.process.send_signal(signal.SIGKILL)
    finished(tmp_path / "killed", *words)
    whole = results(tmp_path / "whole" / run)
    assert results(tmp_path / "killed" / run) == whole and len(whole) == 6
    assert all(row["update/mean_kl"] <= 0.01 for row in whole)
    assert any(row["update/accepted"] for row in whole)
