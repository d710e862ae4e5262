"""Some two hundred faults at random moments of short runs: killed, asked to stop, out of disk; not a row is lost."""

import os
import random
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, sleep
from zipfile import ZipFile

import pytest
import torch
from compose import executed, planned
from subprocesses import results, until

from trpo_cli.cli import exits
from trpo_cli.parallel import processes, stopping
from trpo_cli.runs import provenance
from trpo_cli.runs.checkpoint import CHECKPOINT, PREVIOUS, load_checkpoint
from trpo_cli.runs.files import DONE
from trpo_cli.runs.tensorboard import TensorBoardMirror
from trpo_cli.training.run import Plan, execute

SEED = 1502_05477
FAULTS = {1: 120, 2: 60, 3: 24}  # workers: faults that have to hit
ITERATIONS = 12
SHORT = ("step_limit=20", f"iterations={ITERATIONS}", "seed=3")
STREAMS = ("critic=mlp", "critic.hidden_sizes=[4]", "sampler.streams=4", "sampler.steps_per_iteration=80")
STREAMS += ("policy.input_scale=running",)
METHODS = {
    1: (*SHORT, "sampler.n_paths=4"),
    2: (*SHORT, "sampler=vine", "sampler.n_trunks=4", "sampler.n_states=12", "sampler.branch_length=5"),
    3: (*SHORT, *STREAMS),
}
LARGEST = 14_000  # bytes, more than any file of such a run
ENDS = {  # exit status of a command that a fault has hit
    "kill": {-signal.SIGKILL},
    "kill_worker": {1},
    "stop": {128 + signal.SIGTERM},
    "disk": {1},
}
assert sum(FAULTS.values()) >= 200 and TensorBoardMirror  # imported here, and not anew by every process


@dataclass
class Command:
    """What ``trpo-train`` does once it has composed ``plan``, in a process forked from this warm one."""

    plan: Plan
    n_workers: int
    log: Path
    file_size: int | None = None  # bytes that a file may grow to before the disk is full

    def start(self) -> None:
        reader, writer = os.pipe()
        self.process = get_context("fork").Process(target=self._body, args=(writer,))
        self.process.start()
        os.close(writer)
        os.read(reader, 1)  # it is in the hands of its own signal handlers
        os.close(reader)

    def _body(self, ready: int) -> None:
        torch.set_num_threads(1)
        with self.log.open("ab") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        try:
            with exits.sentences("trpo-train"):
                os.write(ready, b"!")
                if self.file_size is not None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size, resource.RLIM_INFINITY))
                with stopping.StopRequest() as stop:
                    status = processes.run(self.n_workers, lambda group: execute(self.plan, group, stop))
        except SystemExit as leaving:
            status = leaving.code
        sys.stdout.flush()
        os._exit(status)

    def family(self) -> list[int]:
        """The command and its workers."""
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except OSError:
            children = []
        return [self.process.pid, *map(int, children)]

    def status(self) -> int:
        """The exit status, once the command and its workers are gone."""
        family = self.family()
        self.process.join(60)
        assert self.process.exitcode is not None, f"the command hangs: {self.log.read_text()}"
        until(lambda: not any(alive(pid) for pid in family[1:]))
        return self.process.exitcode


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def strike(kind: str, command: Command, after_s: float, moment: random.Random) -> int:
    """Run the command, have the fault hit it, and return its exit status."""
    command.start()
    sleep(after_s)
    family = command.family()
    victim = moment.choice(family[1:]) if kind == "kill_worker" and len(family) > 1 else family[0]
    if kind != "disk" and command.process.is_alive():
        os.kill(victim, signal.SIGTERM if kind == "stop" else signal.SIGKILL)
    return command.status()


def saved(directory: Path) -> int:
    """Iterations that the checkpoints of a run cover; each one that is there has to be whole."""
    found = [load_checkpoint(directory / name) for name in (CHECKPOINT, PREVIOUS) if (directory / name).exists()]
    return max((state["iteration"] for state in found), default=0)


def damage(directory: Path, moment: random.Random) -> bool:
    """Cut off or alter the checkpoint where it has a predecessor."""
    path = directory / CHECKPOINT
    if not path.exists() or not (directory / PREVIOUS).exists():
        return False
    data = bytearray(path.read_bytes())
    if moment.random() < 0.5:
        data = data[: moment.randrange(len(data))]
    else:
        data[_middle_of_the_largest_part(path, data)] ^= 0xFF
    path.write_bytes(data)
    return True


def _middle_of_the_largest_part(path: Path, data: bytes) -> int:
    """A place in the contents of the archive that a checkpoint is; what lies between its parts is padding."""
    with ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda part: part.file_size)
    name, extra = (int.from_bytes(data[part.header_offset + at :][:2], "little") for at in (26, 28))
    return part.header_offset + 30 + name + extra + part.file_size // 2


def kinds(n_workers: int, moment: random.Random) -> Iterator[str]:
    while True:
        yield moment.choice(["kill", "stop", "disk"] + ["kill_worker"] * (n_workers > 1))


@pytest.mark.parametrize("n_workers", FAULTS)
def test_faults_at_random_moments_leave_the_rows_of_an_undisturbed_run(
    n_workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(provenance, "_commit", lambda root: ("none", False))  # which asks git, at every start
    words, moment = METHODS[n_workers], random.Random(SEED + n_workers)
    executed(planned(*words, f"outputs={tmp_path}", "name=warm"))  # here: what is loaded late is loaded for all
    undisturbed = planned(*words, f"outputs={tmp_path}", "name=undisturbed")
    start = monotonic()
    command = Command(undisturbed, n_workers, tmp_path / "undisturbed.log")
    command.start()
    assert command.status() == 0
    duration, expected = monotonic() - start, results(undisturbed.directory)
    assert len(expected) == ITERATIONS
    tally: Counter[str] = Counter()
    for run in count():
        if sum(tally[kind] for kind in ENDS) >= FAULTS[n_workers]:
            break
        every = moment.choice([1, 1, 3])
        plan = planned(*words, f"outputs={tmp_path}", f"name=run{run}", f"checkpoint_every={every}")
        log, reached, status = tmp_path / f"run{run}.log", 0, -1
        for kind in (next(kinds(n_workers, moment)) for _ in range(moment.randint(3, 8))):
            size = moment.randrange(LARGEST) if kind == "disk" else None
            status = strike(kind, Command(plan, n_workers, log, size), moment.uniform(0, 0.4 * duration), moment)
            if status == 0:
                break
            # A worker's end may reach the command before or after its own.
            assert status in ENDS[kind] | ({-signal.SIGKILL} if kind == "kill_worker" else set()), log.read_text()
            assert "Traceback" not in log.read_text(), log.read_text()
            tally[kind] += 1
            assert saved(plan.directory) >= reached, "a checkpoint was lost"
            reached = saved(plan.directory)
        # A fault between done.json and the command's end leaves a finished run, which reads no checkpoint.
        finished = (plan.directory / DONE).exists()
        damaged = status != 0 and not finished and damage(plan.directory, moment)
        command = Command(plan, n_workers, tmp_path / "last.log")
        command.log.write_bytes(b"")
        command.start()
        assert command.status() == 0, command.log.read_text()
        assert ("checkpoint.pt is damaged" in command.log.read_text()) == damaged
        tally["damaged checkpoints"] += damaged
        tally["runs"] += 1
        assert results(plan.directory) == expected
        assert saved(plan.directory) == ITERATIONS and not list(plan.directory.glob("*.tmp"))
    with capsys.disabled():
        seconds = f"{monotonic() - start:.0f} s, {duration:.2f} s an undisturbed run"
        print(f"\n{n_workers} workers, seed {SEED + n_workers}: {dict(tally)}, {seconds}")
    assert all(tally[kind] for kind in ENDS if kind != "kill_worker" or n_workers > 1)
