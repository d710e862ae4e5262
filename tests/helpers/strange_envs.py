"""Gymnasium environments that do what a stranger's program may do: ``env.id=strange_envs:Counted-v0`` imports them.

A test tells them what to do by ``DO`` and ``os.environ["NOTE"]``, which the processes that it starts inherit.
"""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import gymnasium
import numpy as np
from gymnasium import spaces

DO: dict[str, Callable[[], object]] = {}  # what `Told` does at the calls of these names
POOL = ThreadPoolExecutor(1)


class Told(gymnasium.Env):
    """Five steps per episode. What `DO` says happens in its methods; a step returns what comes out of it, if any."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.t = 0
        DO.get("make", lambda: None)()

    def seen(self):
        return np.full(2, self.t, np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        told = DO.get("reset", lambda: None)()
        return (self.seen(), {}) if told is None else told

    def step(self, action):
        self.t += 1
        told = DO.get("step", lambda: None)()
        return (self.seen(), float(action), self.t == 5, False, {}) if told is None else told

    def close(self):
        DO.get("close", lambda: None)()


def note(line):
    with open(os.environ["NOTE"], "a") as file:
        file.write(f"{os.getpid()} {line}\n")


class Counted(Told):
    """Notes when it is made and when it is closed."""

    def __init__(self):
        super().__init__()
        note("made")

    def close(self):
        note("closed")
        raise AttributeError("it never had a window")


class Gambler(Told):
    """Draws from the generators of the whole process, and notes where each episode began."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = np.array([np.random.uniform(), random.random()])
        note(f"{self.place[0]} {self.place[1]}")
        return self.place, {}

    def seen(self):
        return np.random.uniform(size=2)


class Pooled(Told):
    """Computes in a thread of its module, as environments on JAX or gRPC do."""

    def seen(self):
        return POOL.submit(super().seen).result()


def serve(pipe):
    while True:
        pipe.send(pipe.recv() + 1)


class Served(Told):
    """Every episode has a simulator of its own, a process that the next reset ends."""

    process = None

    def reset(self, *, seed=None, options=None):
        self.stop()
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=serve, args=(other,))
        self.process.start()
        return super().reset(seed=seed)

    def step(self, action):
        self.pipe.send(int(action))
        self.pipe.recv()
        return super().step(action)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.join()


class Leaving(Told):
    """Goes to another folder, and leaves a process behind."""

    def __init__(self):
        super().__init__()
        os.chdir("/")
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)


for kind in (Told, Counted, Gambler, Pooled, Served, Leaving):
    gymnasium.register(f"{kind.__name__}-v0", kind, max_episode_steps=20)
