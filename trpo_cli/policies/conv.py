"""The network that plays from pixels: convolutions, then fully connected layers (Figure 3, Appendix D).

As in ``mlp.py``, θ is one flat array that is passed in, and J v and Jᵀ u are written out on saved activations. Pixels
stay bytes until a layer reads them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, nan, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from trpo_cli.errors import ConfigError, require
from trpo_cli.policies.base import InputMap, Linearization
from trpo_cli.policies.distributions import Array, distribution_for
from trpo_cli.policies.kernels import NONLINEARITIES, at_a_time
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.sims.base import ActionSpace

CHUNK = 64  # states at a time: their activations stay near the processor
# name: x · f'(z), written over x, for f(z) = a
TIMES_SLOPE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tanh": lambda x, a: x.addcmul_(x * a, a, value=-1),
    "relu": lambda x, a: x.mul_(a > 0),
}


@dataclass(frozen=True)
class Pixels:
    """Images as bytes ``[n, channels, rows, columns]``: the network scales them, so there is no input map."""

    obs_shape: tuple[int, int, int]

    input_map = InputMap()

    def with_map(self, input_map: InputMap) -> "Pixels":
        """Itself: bytes are not mapped."""
        return self

    def array(self, obs: Array) -> Array:
        """Observations as they are."""
        return obs

    def mapped(self, obs: Tensor) -> Tensor:
        """Bytes as they are."""
        return obs

    def tensor(self, obs: NDArray[np.generic]) -> Tensor:
        """Observations as bytes ``[n, channels, rows, columns]``, from bytes or from references to single frames."""
        if obs.dtype == object:  # joining bytes is twenty times as fast as np.stack
            obs = np.frombuffer(bytearray().join(obs.ravel().tolist()), np.uint8)
        pixels = torch.from_numpy(np.ascontiguousarray(obs, np.uint8))
        images = pixels.view(-1, *self.obs_shape)
        return images.contiguous(memory_format=torch.channels_last)  # this makes the backward pass twice as fast


@dataclass(frozen=True)
class ConvNetwork:
    """Convolutions without padding, then dense layers; it takes bytes and scales them itself.

    θ is laid out layer by layer: filters ``[out, in, k, k]``, biases ``[out]``; weights ``[fan_in, fan_out]``, biases.
    """

    obs_shape: tuple[int, int, int]  # channels, rows, columns
    filters: tuple[int, ...]
    kernel_size: int
    stride: int
    hidden_sizes: tuple[int, ...]
    n_outputs: int
    nonlinearity: str
    input_centre: float  # brightness that is mapped to 0
    input_half_range: float  # difference in brightness between what is mapped to 0 and to 1
    output_norm: float  # of each output column of the initial weights
    hidden_norm: float  # of each filter and of each hidden column

    @cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        """Shape of each piece of θ: weights and biases of each layer."""
        channels, rows, columns = self.obs_shape
        shapes: list[tuple[int, ...]] = []
        for n in self.filters:
            shapes += [(n, channels, self.kernel_size, self.kernel_size), (n,)]
            channels, rows, columns = n, *((side - self.kernel_size) // self.stride + 1 for side in (rows, columns))
        sizes = (channels * rows * columns, *self.hidden_sizes, self.n_outputs)
        for a, b in pairwise(sizes):
            shapes += [(a, b), (b,)]
        return shapes

    @property
    def n_parameters(self) -> int:
        """D."""
        return sum(prod(shape) for shape in self._shapes)

    def initial(self, rng: np.random.Generator) -> Tensor:
        """A fresh θ ``[D]``: random directions of the given norms for every unit, zero biases (authors' code)."""
        parts: list[NDArray[np.float64]] = []
        last = len(self._shapes) - 2
        for i, shape in enumerate(self._shapes):
            if len(shape) == 1:
                parts.append(np.zeros(shape))
                continue
            w = rng.standard_normal(shape)
            fan_in = tuple(range(1, len(shape))) if len(shape) == 4 else (0,)
            norm = np.sqrt((w**2).sum(fan_in, keepdims=True))
            parts.append((w / norm * (self.output_norm if i == last else self.hidden_norm)).ravel())
        return torch.as_tensor(np.concatenate(parts), dtype=torch.float32)

    def _scaled(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self.input_centre).div_(self.input_half_range)

    @cached_property
    def _lengths(self) -> list[int]:
        return [prod(shape) for shape in self._shapes]

    def _layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of θ ``[D]`` as (weights, biases), convolutions first."""
        pieces = [p.view(s) for p, s in zip(theta.split(self._lengths), self._shapes, strict=True)]
        return list(zip(pieces[::2], pieces[1::2], strict=True))

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """Filters or weights ``w0``, biases ``b0``, ``w1``, ``b1``, … of θ ``[D]``, convolutions first."""
        layers = enumerate(self._layers(theta))
        return {name: x for i, (w, b) in layers for name, x in ((f"w{i}", w), (f"b{i}", b))}

    def output_layer(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the last layer's weights ``[fan_in, n_out]`` and biases ``[n_out]``."""
        return self._layers(theta)[-1]

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[D]`` on bytes ``[m, …]`` -> ``[m, n_out]``."""
        if torch.compiler.is_exporting():  # a graph for any number of images has no pieces
            return self._forward(theta, inputs)[-1]
        pieces = inputs.split(at_a_time(CHUNK, theta.device))
        return torch.cat([self._forward(theta, piece.to(theta.device))[-1] for piece in pieces])

    def output_by_row(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[Q, D]`` on bytes ``[Q, …]`` -> ``[Q, n_out]``."""
        each = [self.output(row, image[None]) for row, image in zip(theta, inputs, strict=True)]
        return torch.cat(each) if each else theta.new_zeros(0, self.n_outputs)

    def _forward(self, theta: Tensor, pixels: Tensor) -> list[Tensor]:
        """Every layer's activations, the logits last."""
        f, _ = NONLINEARITIES[self.nonlinearity]
        (w, b), *layers = self._layers(theta)
        w = w / self.input_half_range  # fold the scaling into the first filters: cheaper than scaling every pixel
        layers.insert(0, (w, b - self.input_centre * w.sum((1, 2, 3))))
        x, activations = pixels.float(), []
        for i, (w, b) in enumerate(layers):
            x = conv2d(x, w, b, self.stride) if i < len(self.filters) else torch.addmm(b, x.flatten(1), w)
            if i < len(layers) - 1:
                x = f(x)
            activations.append(x)
        return activations

    def linearize(self, theta: Tensor, inputs: Tensor) -> Linearization:
        """The network on bytes ``[m, …]``, with J v and Jᵀ u on activations saved once."""
        activations = self._forward(theta, inputs)
        layers = self._layers(theta)
        slope = TIMES_SLOPE[self.nonlinearity]
        n_conv = len(self.filters)

        def seen(i: int) -> Tensor:
            x = activations[i - 1] if i else self._scaled(inputs)
            return x if i < n_conv else x.flatten(1)

        def jvp(v: Tensor) -> Tensor:
            tangent = None
            for i, ((w, _), (dw, db)) in enumerate(zip(layers, self._layers(v), strict=True)):
                x = seen(i)
                if i < n_conv:
                    out = conv2d(x, dw, db, self.stride)
                    if tangent is not None:
                        out += conv2d(tangent, w, None, self.stride)
                else:
                    out = torch.addmm(db, x, dw)
                    if tangent is not None:
                        out.addmm_(tangent.flatten(1), w)
                tangent = out if i == len(layers) - 1 else slope(out, activations[i])
            assert tangent is not None
            return tangent

        def vjp(u: Tensor) -> Tensor:
            result, delta = torch.empty_like(theta), u
            for i, (w_out, b_out) in reversed(list(enumerate(self._layers(result)))):
                x, w = seen(i), layers[i][0]
                if i < n_conv:
                    back, dw, db = self._backward(delta.view(activations[i].shape), x, w, i > 0)
                else:
                    back, dw, db = delta @ w.T, x.T @ delta, delta.sum(0)
                w_out.copy_(dw)
                b_out.copy_(db)
                if i:
                    delta = slope(back.view(activations[i - 1].shape), activations[i - 1])
            return result

        return Linearization(activations[-1], jvp, vjp)

    def _backward(self, delta: Tensor, x: Tensor, w: Tensor, to_input: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient of a convolution in its input (if asked for), its filters and its biases."""
        delta = delta.contiguous(memory_format=torch.channels_last)
        stride, none, one = [self.stride] * 2, [0, 0], [1, 1]
        wanted = [to_input, True, True]
        return torch.ops.aten.convolution_backward(delta, x, w, [len(w)], stride, none, one, False, none, 1, wanted)


@dataclass(frozen=True)
class ConvLayers:
    """The layers of a convolutional policy or critic, and how brightness is scaled for them."""

    filters: tuple[int, ...]  # of each convolution
    kernel_size: int  # pixels
    stride: int  # pixels
    hidden_sizes: tuple[int, ...]  # units of each dense layer before the outputs
    nonlinearity: str  # tanh or relu
    input_centre: float  # brightness that is mapped to 0
    input_half_range: float  # difference in brightness between what is mapped to 0 and to 1

    def check_layers(self, group: str) -> None:
        """ConfigError, naming ``group.field``, if these layers make no network."""
        if not self.filters or any(n < 1 for n in (*self.filters, *self.hidden_sizes)):
            raise ConfigError(
                f"{group}.filters={list(self.filters)} and {group}.hidden_sizes={list(self.hidden_sizes)}: "
                "there must be a convolution, and every layer needs at least 1 unit"
            )
        for name in ("kernel_size", "stride"):
            require(getattr(self, name) >= 1, f"{group}.{name}", getattr(self, name), "at least 1")
        require(self.nonlinearity in TIMES_SLOPE, f"{group}.nonlinearity", self.nonlinearity, "tanh or relu")
        half_range, centre = self.input_half_range, self.input_centre
        require(0 < half_range < inf, f"{group}.input_half_range", half_range, "a finite number > 0")
        require(abs(centre) < inf, f"{group}.input_centre", centre, "a finite number")

    def network(
        self, group: str, obs_shape: tuple[int, int, int], n_outputs: int, output_norm: float, hidden_norm: float
    ) -> ConvNetwork:
        """The network for images of this shape; ConfigError if they are too small for the convolutions."""
        smallest: tuple[int, ...] = obs_shape[1:]
        for _ in self.filters:
            if min(smallest) < self.kernel_size:
                raise ConfigError(
                    f"{group}.filters={list(self.filters)}: an image of {obs_shape[1]} × {obs_shape[2]} is too small "
                    f"for so many convolutions of {self.kernel_size} × {self.kernel_size}; set fewer {group}.filters, "
                    f"{group}.stride=1 or a smaller {group}.kernel_size"
                )
            smallest = tuple((side - self.kernel_size) // self.stride + 1 for side in smallest)
        return ConvNetwork(
            obs_shape,
            self.filters,
            self.kernel_size,
            self.stride,
            self.hidden_sizes,
            n_outputs,
            self.nonlinearity,
            self.input_centre,
            self.input_half_range,
            output_norm,
            hidden_norm,
        )


@dataclass(frozen=True)
class Conv(ConvLayers):
    """Hyperparameters of the paper's convolutional policy; numbers and sources stand in ``conf/policy/atari.yaml``."""

    output_norm: float  # norm of each output column of the initial weights
    hidden_norm: float  # norm of each filter and of each hidden column of the initial weights

    def __post_init__(self) -> None:
        self.check_layers("policy")
        for name in ("output_norm", "hidden_norm"):
            require(0 < getattr(self, name) < inf, f"policy.{name}", getattr(self, name), "a finite number > 0")

    def build(self, obs_shape: tuple[int, ...], actions: ActionSpace) -> NetworkPolicy:
        """The policy for images of this shape and this action space."""
        shape = _image_shape("atari", obs_shape)
        if actions.factors is None:
            raise ConfigError(
                "policy=atari chooses among discrete actions, and this task's are continuous; use policy=conv"
            )
        return self._built(shape, actions)

    def _built(self, obs_shape: tuple[int, int, int], actions: ActionSpace, std: float = nan) -> NetworkPolicy:
        """The policy; std: the initial standard deviation of continuous actions."""
        dist = distribution_for(actions)
        outputs = dist.n_params - dist.n_free
        network = self.network("policy", obs_shape, outputs, self.output_norm, self.hidden_norm)
        return NetworkPolicy(network, dist, Pixels(obs_shape), std, chunk_size=CHUNK)


@dataclass(frozen=True)
class ConvOfAnyAction(Conv):
    """The same for continuous actions too; numbers and sources stand in ``conf/policy/conv.yaml``."""

    initial_std: float  # of continuous actions, as a fraction of half the action range

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.initial_std < inf, "policy.initial_std", self.initial_std, "a finite number > 0")

    def build(self, obs_shape: tuple[int, ...], actions: ActionSpace) -> NetworkPolicy:
        """The policy for images of this shape and this action space."""
        return self._built(_image_shape("conv", obs_shape), actions, self.initial_std)


def _image_shape(option: str, obs_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, rows and columns; ConfigError, naming the ``option`` of ``policy=``, if observations are no images."""
    if len(obs_shape) != 3:
        raise ConfigError(
            f"policy={option} needs images, and this task's observation has the shape {list(obs_shape)}; use policy=mlp"
        )
    channels, rows, columns = obs_shape
    return channels, rows, columns
