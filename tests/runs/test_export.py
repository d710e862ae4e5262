"""Laws of a policy outside of training: it acts as it did there, from a run directory and from every exported file."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from compose import composed, executed, planned
from omegaconf import OmegaConf

import trpo_cli
from trpo_cli.cli.evaluate import load_trained
from trpo_cli.cli.export import parse
from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import InputMap, Policy
from trpo_cli.runs.export import export, write
from trpo_cli.runs.trained import Categorical, Description, Normal
from trpo_cli.sims.gymnasium import Gymnasium
from trpo_cli.sims.gymnasium_spaces import action_space, batch, native_actions, seen, shape_seen
from trpo_cli.sims.spaces import from_json, spaces_of, to_json

WALKS = ("Pushed", "Stepped", "Numbered", "Shifted", "Factored", "Named", "Pictured")
RNG = np.random.default_rng(0)


def described(walk: str) -> tuple[Description, Policy, torch.Tensor]:
    """A policy for one of the test environments, with parameters and an input map that are not the first ones."""
    env = gymnasium.make(f"gym_envs:{walk}Walk-v0")
    option = "conv" if walk == "Pictured" else "mlp"
    cfg, _ = composed("env=gymnasium", f"policy={option}", "env.id=none")
    values: dict[str, Any] = OmegaConf.to_container(cfg.policy)  # type: ignore[assignment]
    description = Description(env.observation_space, env.action_space, values, {"seed": 0})
    policy = description.build()
    if option == "mlp":
        inputs = np.random.default_rng(1).uniform(0.5, 2, (2, *shape_seen(env.observation_space)))
        policy = policy.with_input_map(replace(policy.input_map, centre=inputs[0], half_range=inputs[1], clip=1.5))
    theta = policy.initial(np.random.default_rng(2))
    moved = 0.3 * np.random.default_rng(3).standard_normal(len(theta))
    return description, policy, theta + torch.from_numpy(moved).to(theta)


def observations(description: Description, n: int = 5) -> list[Any]:
    description.observation_space.seed(0)
    return [description.observation_space.sample() for _ in range(n)]


def as_in_training(description: Description, policy: Policy, theta: torch.Tensor, obs: list[Any]) -> list[Any]:
    """The most likely actions, by what samplers and simulators do with observations and actions."""
    space, controls = description.observation_space, action_space(description.action_space)
    inputs = policy.tensor(batch(space, [seen(space, x) for x in obs]))
    chosen = policy.dist.mode(policy.params(theta, inputs)).numpy()
    return list(native_actions(description.action_space, controls.controls(chosen)))


@pytest.mark.parametrize("walk", WALKS)
def test_an_exported_policy_acts_as_in_training(walk: str, tmp_path: Path) -> None:
    description, policy, theta = described(walk)
    write(tmp_path / "policy.npz", description, policy, theta)
    loaded, obs = trpo_cli.load(tmp_path / "policy.npz"), observations(description)
    assert (loaded.observation_space, loaded.action_space) == (description.observation_space, description.action_space)
    for x, wanted in zip(obs, as_in_training(description, policy, theta, obs), strict=True):
        action, state = loaded.predict(x)
        np.testing.assert_allclose(action, wanted, rtol=1e-5, atol=1e-6)
        assert np.asarray(action).dtype == np.asarray(wanted).dtype and state is None


@pytest.mark.parametrize("walk", WALKS)
def test_a_batch_gives_what_each_observation_gives_alone(walk: str, tmp_path: Path) -> None:
    description, policy, theta = described(walk)
    write(tmp_path / "policy.npz", description, policy, theta)
    loaded, obs = trpo_cli.load(tmp_path / "policy.npz"), observations(description)
    together = gymnasium.vector.utils.concatenate(
        description.observation_space,
        obs,
        gymnasium.vector.utils.create_empty_array(description.observation_space, len(obs)),
    )
    actions, _ = loaded.predict(together)
    np.testing.assert_allclose(actions, [loaded.predict(x)[0] for x in obs], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("walk", "suffix"), [("Pushed", ".pt2"), ("Pictured", ".pt2"), ("Pictured", ".onnx")])
def test_every_format_acts_the_same_for_any_number_of_observations(walk: str, suffix: str, tmp_path: Path) -> None:
    description, policy, theta = described(walk)
    obs = observations(description)
    write(tmp_path / f"policy{suffix}", description, policy, theta)
    loaded = trpo_cli.load(tmp_path / f"policy{suffix}")
    wanted = as_in_training(description, policy, theta, obs)
    np.testing.assert_allclose(loaded.predict(np.array(obs))[0], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loaded.predict(obs[0])[0], wanted[0], rtol=1e-5, atol=1e-5)


def test_the_graph_itself_gives_the_action_in_the_environments_unit(tmp_path: Path) -> None:
    description, policy, theta = described("Pushed")
    write(tmp_path / "policy.onnx", description, policy, theta)
    runtime = pytest.importorskip("onnxruntime").InferenceSession(str(tmp_path / "policy.onnx"))
    obs = observations(description, 50)
    action, params = runtime.run(["action", "params"], {"obs": np.array(obs)})
    np.testing.assert_allclose(action, as_in_training(description, policy, theta, obs), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trpo_cli.load(tmp_path / "policy.onnx").predict(np.array(obs))[0], action, atol=1e-6)
    assert params.shape == (50, 4)
    assert action.min() == -2 and action.max() <= 4  # clipped to the space


@pytest.mark.parametrize("walk", WALKS)
def test_a_draw_from_the_policy_is_in_the_space_and_follows_the_distribution(walk: str, tmp_path: Path) -> None:
    description, policy, theta = described(walk)
    write(tmp_path / "policy.npz", description, policy, theta)
    loaded, obs = trpo_cli.load(tmp_path / "policy.npz", seed=0), observations(description, 1)[0]
    drawn = [loaded.predict(obs, deterministic=False)[0] for _ in range(400)]
    assert all(description.action_space.contains(x) for x in drawn)
    again = trpo_cli.load(tmp_path / "policy.npz", seed=0)
    np.testing.assert_array_equal([again.predict(obs, deterministic=False)[0] for _ in range(9)], drawn[:9])
    found = loaded.distribution(obs)
    if isinstance(found, Normal):
        assert found.mean.shape == found.std.shape == description.action_space.shape
    else:
        assert isinstance(found, Categorical)
        first = np.array([np.ravel(x)[0] for x in drawn]) - np.ravel(getattr(description.action_space, "start", 0))[0]
        shares = np.bincount(first, minlength=len(found.probabilities[0])) / len(drawn)
        np.testing.assert_allclose(shares, found.probabilities[0], atol=0.1)
        np.testing.assert_allclose([p.sum() for p in found.probabilities], 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a continuous task, with an input map that it has measured."""
    words = ("env=hopper_v5", "total_steps=1100", "sampler.steps_per_iteration=64", "policy.hidden_sizes=[8]")
    return executed(planned(*words, f"outputs={tmp_path_factory.mktemp('outputs')}"))


def test_a_run_directory_is_loaded_as_it_was_trained(run: Path, tmp_path: Path) -> None:
    loaded = trpo_cli.load(run)
    assert loaded.observation_space.shape == (11,) and (loaded.action_space.high == 1).all()
    sim, policy, theta, _, _ = load_trained(run)
    obs = sim.observe(sim.reset([np.random.default_rng(i) for i in range(6)]))
    wanted = np.clip(policy.dist.mode(policy.params(theta, policy.tensor(obs))).numpy(), -1, 1)
    np.testing.assert_allclose(loaded.predict(obs)[0], wanted, atol=1e-6)
    assert export(run, tmp_path / "hopper.npz").about["env"]["option"] == "hopper_v5"
    np.testing.assert_allclose(trpo_cli.load(tmp_path / "hopper.npz").predict(obs)[0], wanted, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hopper.json", "hopper.npz"]


def test_loading_makes_no_simulator_and_needs_no_hydra(run: Path) -> None:
    code = (
        f"import sys, trpo_cli; trpo_cli.load({str(run)!r});"
        "sys.exit(' '.join({m.partition('.')[0] for m in sys.modules} & {'hydra', 'omegaconf', 'mujoco', 'ale_py'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) in ((0, ""), (1, "")), done.stderr


def test_an_observation_that_its_space_does_not_have_is_refused_in_one_sentence(tmp_path: Path) -> None:
    wrong: dict[str, list[Any]] = {
        "Numbered": [1, 7, 3.0, np.eye(5)[0]],  # Discrete(5, start=2)
        "Pushed": [[np.nan, 0.0], np.zeros((0, 3))],
        "Pictured": [np.zeros((16, 12, 3)), np.full((16, 12, 3), -1), np.full((16, 12, 3), 256)],
    }
    for walk, observed in wrong.items():
        description, policy, theta = described(walk)
        write(tmp_path / f"{walk}.npz", description, policy, theta)
        loaded = trpo_cli.load(tmp_path / f"{walk}.npz")
        for obs in observed:
            with pytest.raises(ConfigError, match="this policy's observations are"):
                loaded.predict(obs)
    description, policy, theta = described("Named")
    write(tmp_path / "named.npz", description, policy, theta)
    loaded, (obs,) = trpo_cli.load(tmp_path / "named.npz"), observations(description, 1)
    for broken in ({**obs, "more": 1}, dict(list(obs.items())[1:]), [obs, obs]):
        with pytest.raises(ConfigError, match="this policy's observations are"):
            loaded.predict(broken)
    assert len(trpo_cli.load(tmp_path / "Pushed.npz").predict(np.zeros((0, 2)))[0]) == 0


@pytest.mark.parametrize("suffix", [".npz", ".pt2", ".onnx"])
def test_a_damaged_file_and_a_foreign_description_are_refused_in_one_sentence(suffix: str, tmp_path: Path) -> None:
    description, policy, theta = described("Pushed")
    write(tmp_path / "policy.npz", description, policy, theta)
    for content in (b"", b"no policy", (tmp_path / "policy.npz").read_bytes()[:300]):
        (tmp_path / f"policy{suffix}").write_bytes(content)
        with pytest.raises(ConfigError, match="is damaged, or belongs to another description"):
            trpo_cli.load(tmp_path / f"policy{suffix}")
    write(tmp_path / "other.npz", *described("Shifted"))
    (tmp_path / "other.npz").rename(tmp_path / "policy.npz")
    with pytest.raises(ConfigError, match="and its description needs"):
        trpo_cli.load(tmp_path / "policy.npz")


@pytest.mark.parametrize("obs", [np.zeros(3), np.zeros((2, 2, 11)), 1.0])
def test_an_observation_of_another_shape_is_refused_in_one_sentence(run: Path, obs: Any) -> None:
    with pytest.raises(ValueError, match=r"obs has the shape .*; this policy's observations are Box"):
        trpo_cli.load(run).predict(obs)


def repeated(part: Any, n: int) -> Any:
    """A batch of ``n`` times the same part of an observation."""
    if isinstance(part, tuple):
        return tuple(repeated(inner, n) for inner in part)
    return {k: repeated(v, n) for k, v in part.items()} if isinstance(part, dict) else np.stack([part] * n)


def test_parts_that_do_not_fit_are_named(tmp_path: Path) -> None:
    description, policy, theta = described("Named")
    write(tmp_path / "named.npz", description, policy, theta)
    loaded = trpo_cli.load(tmp_path / "named.npz")
    (one,) = observations(description, 1)
    key = next(key for key, part in one.items() if isinstance(part, np.ndarray) and part.ndim == 1)
    longer = one | {key: np.zeros(len(one[key]) + 1, one[key].dtype)}
    sentence = rf"^obs\['{key}'\] has the shape \({len(one[key]) + 1},\); this policy's"
    with pytest.raises(ConfigError, match=sentence):
        loaded.predict(longer)
    batches = {name: repeated(part, 3 if name == key else 2) for name, part in one.items()}
    with pytest.raises(ConfigError, match=rf"different numbers of observations: .*obs\['{key}'\] 3"):
        loaded.predict(batches)
    with pytest.raises(ConfigError, match=r"it looks like what env\.reset\(\) returns: give its first part"):
        loaded.predict((one, {}))


def test_an_observation_with_its_info_is_told_apart(run: Path) -> None:
    loaded = trpo_cli.load(run)
    (obs,) = observations(loaded.description, 1)
    with pytest.raises(ConfigError, match=r"is no array \(it looks like what env\.reset\(\) returns"):
        loaded.predict((obs, {"x": 1}))


def test_the_arrays_hold_the_bounds_of_the_actions(tmp_path: Path) -> None:
    description, policy, theta = described("Pushed")
    write(tmp_path / "pushed.npz", description, policy, theta)
    with np.load(tmp_path / "pushed.npz") as arrays:
        space: Any = description.action_space
        np.testing.assert_array_equal(arrays["action_low"], space.low.ravel())
        np.testing.assert_array_equal(arrays["action_high"], space.high.ravel())


def test_what_is_no_policy_is_refused_in_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: dict[str, Callable[[], object]] = {
        "does not exist": lambda: trpo_cli.load(tmp_path / "no.npz"),
        "is no run directory": lambda: trpo_cli.load(tmp_path),
        "must end in": lambda: export(run, tmp_path / "policy.h5"),
        "is no exported policy": lambda: trpo_cli.load(run / "progress.jsonl"),
        "out= is missing": lambda: parse([f"run={run}"]),
        "did you mean run": lambda: parse([f"ru={run}", "out=x.npz"]),
        "is not key=value": lambda: parse(["x.npz"]),
    }
    for words, refused in refusals.items():
        with pytest.raises(ConfigError, match=words):
            refused()
    export(run, tmp_path / "policy.npz")
    (tmp_path / "policy.json").unlink()
    with pytest.raises(ConfigError, match=r"policy\.json belongs to it"):
        trpo_cli.load(tmp_path / "policy.npz")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"needs the package onnxscript: pip install 'trpo_cli\[onnx\]'"):
        export(run, tmp_path / "policy.onnx")


@pytest.mark.parametrize("walk", [*WALKS, "Tall", ""])
def test_a_space_survives_json(walk: str) -> None:
    for space in spaces_of(Gymnasium(f"gym_envs:{walk}Walk-v0", {})):
        assert from_json(to_json(space)) == space


def test_the_input_map_of_a_description_is_that_of_its_configuration() -> None:
    description, _, _ = described("Pushed")
    again = Description.from_dict(description.to_dict(), Path("policy.json"))
    assert again.policy == description.policy and isinstance(again.build().input_map, InputMap)
    with pytest.raises(ConfigError, match="format 1"):
        Description.from_dict({"format": 0}, Path("policy.json"))


def test_the_examples_of_the_readme_work(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Use the policy")[2].partition("\n## ")[0]
    drive, session, arrays = (block.partition("```")[0] for block in section.split("```python\n")[1:])
    directory = tmp_path / "outputs/train/hopper_v5/trpo-single-mlp/seed0"
    directory.parent.mkdir(parents=True)
    directory.symlink_to(run)
    for suffix in ("npz", "onnx"):
        export(run, tmp_path / f"hopper.{suffix}")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(drive, names)
    assert names["ended"]
    obs = observations(trpo_cli.load(run).description, 20)
    exec(session, names)
    np.testing.assert_allclose(names["action"][0], names["policy"].predict(names["obs"])[0], atol=1e-5)
    exec(arrays, names)
    np.testing.assert_allclose(names["act"](np.array(obs)), names["policy"].predict(np.array(obs))[0], atol=1e-5)
