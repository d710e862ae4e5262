"""Where updates are computed: the CPU, or a GPU that computes them exactly."""

import torch

from trpo_cli.errors import ConfigError


def require_usable(name: str) -> str:
    """Returns the name of a device that can be used here; ConfigError if it cannot."""
    try:
        device = torch.device(name)
        # Do not touch CUDA if it looks available: once CUDA is initialised, forked workers cannot use it.
        if device.type != "cuda" or torch.cuda.device_count() <= (device.index or 0):
            torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        because = f" ({reason})" if len(reason) < 100 else ""
        raise ConfigError(f"device={name} cannot be used here{because}; device=cpu works everywhere") from error
    return name


def worker_device(name: str, local_rank: int) -> str:
    """The device of one worker: ``cuda`` is GPU ``local_rank`` modulo the number of the machine's GPUs.

    local_rank: number of the worker on its machine. A device with a number (``cuda:1``) is for all workers.
    """
    device = torch.device(name)
    if device.type != "cuda" or device.index is not None:
        return name
    return f"cuda:{local_rank % max(torch.cuda.device_count(), 1)}"


def model_name(name: str) -> str:
    """The model name of a GPU; the name itself of any other device."""
    return torch.cuda.get_device_name(name) if torch.device(name).type == "cuda" else name


def make_convolutions_exact() -> None:
    """Make a GPU compute convolutions in single precision, always in the same way: TF32 is too coarse for a KL."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
