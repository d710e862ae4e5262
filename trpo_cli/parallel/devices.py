"""Where updates are computed: the processor, or a GPU that is made to compute them exactly."""

import torch

from trpo_cli.errors import ConfigError


def usable(name: str) -> str:
    """The name of a device that can be used here; ConfigError where it cannot."""
    try:
        device = torch.device(name)
        if device.type != "cuda" or torch.cuda.device_count() <= (device.index or 0):
            torch.empty(0, device=name)  # not where it works: a process that has used CUDA cannot fork ones that do
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        because = f" ({reason})" if len(reason) < 100 else ""
        raise ConfigError(f"device={name} cannot be used here{because}; device=cpu works everywhere") from error
    return name


def model(name: str) -> str:
    """What the maker calls a GPU; the name itself of any other device."""
    return torch.cuda.get_device_name(name) if torch.device(name).type == "cuda" else name


def exact_convolutions() -> None:
    """Have a GPU compute them in single precision, ten bits being too few for a KL, and the same way every time."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
