"""The MuJoCo tasks: the laws of a simulator, and the paper's rewards from a plain loop."""

import pickle

import mujoco
import numpy as np
import pytest
from planar_bodies import ASSETS, TASKS, actions_for, shipped, visited

from trpo_cli.errors import ConfigError
from trpo_cli.sims.mujoco_engine import unstable


@pytest.fixture(scope="module", params=TASKS)
def sim(request):
    return shipped(request.param)


def frozen(array):
    array.setflags(write=False)
    return array


def test_a_step_changes_nothing_it_was_given_and_repeats_exactly(sim):
    states, actions = frozen(visited(sim, 12, 30)), frozen(actions_for(sim, 12))
    first = sim.step(states, actions)
    kept = first.states.copy()
    sim.observe(states)
    sim.step(first.states, actions)
    again = sim.step(states, actions)
    np.testing.assert_array_equal(first.states, kept)
    for value, same in zip(first[:3], again[:3], strict=True):
        np.testing.assert_array_equal(value, same)
        assert not np.shares_memory(value, same)


def test_lanes_do_not_touch_each_other(sim):
    states, actions = visited(sim, 12, 30), actions_for(sim, 12)
    order = np.random.default_rng(3).permutation(12)
    whole, permuted = sim.step(states, actions), sim.step(states[order], actions[order])
    for value, moved in zip(whole[:3], permuted[:3], strict=True):
        np.testing.assert_array_equal(moved, value[order])
    alone = sim.step(states[5:6], actions[5:6])
    np.testing.assert_array_equal(alone.states[0], whole.states[5])
    assert alone.rewards[0] == whole.rewards[5]


def test_a_stored_state_restarts_bit_for_bit_in_another_copy(sim):
    actions = [actions_for(sim, 6, seed=t) for t in range(40)]
    states, stored, rewards = sim.reset(np.random.default_rng(0).spawn(6)), None, []
    for t, action in enumerate(actions):
        if t == 20:
            stored = states.copy()
        step = sim.step(states, action)
        states, rewards = step.states, [*rewards, step.rewards]
    copy = pickle.loads(pickle.dumps(sim))
    assert copy == sim
    for t in range(20, 40):
        step = copy.step(stored, actions[t])
        stored = step.states
        np.testing.assert_array_equal(step.rewards, rewards[t])
    np.testing.assert_array_equal(stored, states)


def test_first_states_depend_on_their_own_generator_alone(sim):
    states = sim.reset([np.random.default_rng(i) for i in range(20)])
    np.testing.assert_array_equal(sim.reset([np.random.default_rng(7)])[0], states[7])
    assert len(np.unique(states[:, 1])) == 20


def test_no_lanes_are_a_batch_too(sim):
    step = sim.step(sim.reset([]), np.zeros((0, sim.action_space.size)))
    assert step.states.shape == (0, 1 + sim.n_state) and len(step.rewards) == len(step.terminated) == 0
    assert sim.observe(step.states).shape == (0, *sim.obs_shape)


def test_an_unstable_lane_ends_in_its_last_state_and_changes_no_other_lane(sim, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    states, actions = visited(sim, 6, 10), actions_for(sim, 6)
    sound = sim.step(states, actions)
    for lane, value in [(1, 1e9), (3, np.nan), (4, 1e200)]:
        states[lane, -2] = value
    broken = sim.step(states, actions)
    assert broken.terminated[[1, 3, 4]].all() and not broken.rewards[[1, 3, 4]].any()
    np.testing.assert_array_equal(broken.states[[1, 3, 4]], states[[1, 3, 4]])
    for value, expected in zip(broken[:3], sound[:3], strict=True):
        np.testing.assert_array_equal(value[[0, 2, 5]], expected[[0, 2, 5]])
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("task", "n_state", "n_inputs", "n_controls"), [("swimmer", 10, 9, 2), ("hopper", 12, 11, 3), ("walker", 18, 17, 6)]
)
def test_the_papers_dimensions(task, n_state, n_inputs, n_controls):
    sim = shipped(task)
    assert (sim.n_state, sim.obs_shape, sim.action_space.size) == (n_state, (n_inputs,), n_controls)
    states = visited(sim, 3, 60)
    states[:, -1] = [30.0, -30.0, 0.0]
    np.testing.assert_array_equal(sim.observe(states), states[:, 2:].astype(np.float32))


def plain_reward(model, state, action, feet, alive_bonus):
    """The paper's reward (Section 8.1) of one step of four substeps, and the parts of it, by MuJoCo's plain loop."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = state[1 : 1 + model.nq], state[1 + model.nq :]
    data.ctrl[:] = action
    x, squared_forces = None, []
    for _ in range(4):
        mujoco.mj_forward(model, data)
        x = data.subtree_com[0, 0] if x is None else x
        forces = dict.fromkeys(feet, 0.0)
        for i, contact in enumerate(data.contact):
            for geom in contact.geom:
                name = model.geom(geom).name
                if name in forces:
                    wrench = np.zeros(6)
                    mujoco.mj_contactForce(model, data, i, wrench)
                    forces[name] += wrench[0]
        squared_forces.append(sum(force**2 for force in forces.values()))
        torque = data.qfrc_actuator.copy()
        mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)
    velocity = (data.subtree_com[0, 0] - x) / (4 * model.opt.timestep)
    effort, impact = 1e-5 * torque @ torque, 1e-6 * float(np.mean(squared_forces))
    height, angle = data.qpos[1:3]
    healthy = not alive_bonus or (0.8 < height < 2.0 and -1 < angle < 1)
    return velocity - effort - (impact if feet else 0.0) + alive_bonus * healthy, effort, impact, healthy


@pytest.mark.parametrize(
    ("task", "model_file", "feet", "alive_bonus"),
    [
        ("swimmer", "swimmer.xml", [], 0.0),
        ("hopper", "hopper.xml", [], 1.0),
        ("walker", "walker2d_v5.xml", ["foot_geom", "foot_left_geom"], 1.0),
    ],
)
def test_the_papers_reward_recomputed(task, model_file, feet, alive_bonus):
    sim, model = shipped(task), mujoco.MjModel.from_xml_path(str(ASSETS / model_file))
    states = np.concatenate([visited(sim, 20, n, seed=n) for n in (5, 15, 40)])
    actions = actions_for(sim, len(states), seed=9)
    step = sim.step(states, actions)
    expected = [plain_reward(model, s, a, feet, alive_bonus) for s, a in zip(states, actions, strict=True)]
    rewards, efforts, impacts, healthy = (np.array(column) for column in zip(*expected, strict=True))
    np.testing.assert_allclose(step.rewards, rewards, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(step.terminated, ~healthy)
    assert efforts.max() > 0.1  # the torques are hundreds of N m, not the actions
    if feet:
        assert (impacts > 0.001).sum() >= 10
    if alive_bonus:
        assert 5 < healthy.sum() < 55


@pytest.mark.parametrize("task", ["hopper", "walker"])
def test_the_height_is_that_of_the_torso_and_its_range_the_authors(task):
    sim = shipped(task)
    model = mujoco.MjModel.from_xml_path(str(ASSETS / sim.model))
    data = mujoco.MjData(model)
    edges = [(1.25, 0.0, False), (0.79, 0.0, True), (1.99, 0.0, False), (2.05, 0.0, True)]
    edges += [(1.5, 0.95, False), (1.5, 1.05, True), (1.5, -0.95, False), (1.5, -1.05, True)]
    states = sim.reset(np.random.default_rng(0).spawn(len(edges)))
    states[:, 1:] = 0.0
    states[:, 2:4] = [edge[:2] for edge in edges]
    states[:, [5, 8] if task == "walker" else [5]] = -2.5  # knees bent: nothing touches the ground
    for state in states:
        data.qpos[:] = state[1 : 1 + model.nq]
        mujoco.mj_kinematics(model, data)
        assert data.body("torso").xpos[2] == pytest.approx(state[2])
    step = sim.step(states, np.zeros((len(edges), sim.action_space.size)))
    assert step.terminated.tolist() == [edge[2] for edge in edges]


def test_a_state_is_healthy_strictly_within_all_its_ranges():
    ranges = {"healthy_height": [0.5, 2.0], "healthy_angle": [-0.2, 0.2], "healthy_state": [-0.1, 1.0]}
    sim = shipped("hopper", **ranges)
    height, angle, velocity = 2, 3, 12  # places in a state, after the time
    edges = [
        (height, 0.5, False),
        (height, 2.0, False),
        (angle, 0.2, False),
        (angle, 0.15, True),
        (angle, -0.15, False),
    ]
    edges += [(velocity, 1.0, False), (velocity, -0.1, False), (velocity, 0.99, True), (1, 99.0, True)]
    states = np.zeros((len(edges), 13))
    states[:, height] = 1.0
    for state, (place, value, _) in zip(states, edges, strict=True):
        state[place] = value
    assert sim._healthy(states).tolist() == [healthy for *_, healthy in edges]


def test_a_state_beyond_a_million_has_blown_up():
    assert unstable(np.array([[1e5, 9e5], [-2e6, 0.0], [np.nan, 0.0]])).tolist() == [False, True, True]
    assert unstable(np.array([[1e5, 9e5]])) is None


def test_the_foot_sensors_leave_the_motion_alone():
    sensed, bare = shipped("walker"), shipped("walker", impact_cost=0.0)
    states, actions = visited(sensed, 20, 30), actions_for(sensed, 20)
    with_sensors, without = sensed.step(states, actions), bare.step(states, actions)
    np.testing.assert_array_equal(with_sensors.states, without.states)
    assert (without.rewards - with_sensors.rewards).max() > 0.01


@pytest.mark.parametrize("task", TASKS)
def test_the_velocity_is_the_centre_of_masss_or_the_roots(task):
    mass, root = (shipped(task, velocity_of=of, impact_cost=0.0) for of in ("mass", "root"))
    states, actions = visited(root, 10, 30), actions_for(root, 10)
    data = mujoco.MjData(mujoco.MjModel.from_xml_path(str(ASSETS / root.model)))
    new_states = root.step(states, actions).states

    def offset(state):
        data.qpos[:] = state[1 : 1 + data.model.nq]
        mujoco.mj_kinematics(data.model, data)
        mujoco.mj_comPos(data.model, data)
        return data.subtree_com[0, 0] - data.qpos[0]

    turned = np.array([offset(new) - offset(old) for new, old in zip(new_states, states, strict=True)])
    gap = mass.step(states, actions).rewards - root.step(states, actions).rewards
    np.testing.assert_allclose(gap, turned / root.dt, rtol=0, atol=1e-9)
    assert np.abs(gap).max() > 0.1


def test_a_centre_of_mass_is_refused_if_the_body_does_not_move_in_a_plane():
    with pytest.raises(ConfigError, match=r"env\.velocity_of=mass needs a body that moves in a plane; ant\.xml"):
        sim = shipped("hopper", model="ant.xml")
        sim.step(sim.reset([np.random.default_rng(0)]), np.zeros((1, 8)))


@pytest.mark.parametrize("integrator", ["euler", "rk4", "implicit", "implicitfast"])
def test_timestep_and_integrator_are_those_asked_for(integrator):
    sim = shipped("hopper", timestep=0.004, frame_skip=5, integrator=integrator)
    model = mujoco.MjModel.from_xml_path(str(ASSETS / "hopper.xml"))
    model.opt.timestep = 0.004
    model.opt.integrator = getattr(mujoco.mjtIntegrator, f"mjINT_{integrator.upper()}")
    states, actions = visited(sim, 6, 20), np.clip(actions_for(sim, 6), -1.0, 1.0)
    new_states = sim.step(states, actions).states
    assert sim.dt == pytest.approx(0.02)
    for state, action, new_state in zip(states, actions, new_states, strict=True):
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        data.ctrl[:] = action
        for _ in range(5):
            mujoco.mj_step(model, data)
        np.testing.assert_allclose(new_state[1:], np.concatenate([data.qpos, data.qvel]), rtol=0, atol=1e-9)


def test_integrators_agree_if_the_steps_are_small():
    """Without contacts all solve the same equations: 0.02 s of a hopper in the air, at 0.1 ms per simulator step."""
    sims = [
        shipped("hopper", timestep=1e-4, frame_skip=200, integrator=name) for name in ("rk4", "euler", "implicitfast")
    ]
    states = sims[0].reset(np.random.default_rng(0).spawn(8))
    states[:, 2] += 1.0
    actions = actions_for(sims[0], 8)
    exact, *others = (sim.step(states, actions).states for sim in sims)
    for other in others:
        np.testing.assert_allclose(other, exact, rtol=0, atol=5e-3)
        assert np.abs(other - exact).max() > 1e-9


def test_torque_limits_are_what_full_control_gives_and_costs():
    usual = shipped("swimmer", velocity_of="root")  # the model file's: 150 N m
    weak = shipped("swimmer", velocity_of="root", torque_limits=[50.0, 30.0])
    states, actions = visited(usual, 10, 20), np.random.default_rng(0).uniform(-1.0, 1.0, size=(10, 2))
    step = weak.step(states, actions)
    same = usual.step(states, actions * [50.0 / 150.0, 30.0 / 150.0])
    np.testing.assert_allclose(step.states, same.states, rtol=0, atol=1e-12)
    np.testing.assert_allclose(step.rewards, same.rewards, rtol=0, atol=1e-12)
    beyond = weak.step(states, np.full((10, 2), 3.0))
    effort = (beyond.states[:, 1] - states[:, 1]) / weak.dt - beyond.rewards
    np.testing.assert_allclose(effort, 1e-5 * (50.0**2 + 30.0**2), rtol=1e-9)
