"""One whole run of a diffusers pipeline on tiny random components, and what must be known to compute it by hand."""

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

import pag
from tests import masked


@dataclass(frozen=True)
class Run:
    """A run.

    Args:
        make: builds the pipeline.
        arguments: arguments of its call, without generator, number of steps and type of output.
        path: the self-attention layer to perturb.
        image: positions of the image's tokens among the queries there (see ``tests.masked.perturbed``).
        groups: by number of rows of a call, the number of row groups and which of them is the prompt's.
        turns: how many calls for the prompt a step makes.
        calls: the groups of successive calls in a step, if each call carries one group.
        g: the scale of classifier-free guidance, or one for each prediction, needed if ``calls`` does not begin with
            ``"cond"``, or with ``norm``.
        norm: whether the pipeline compares the result with the prompt's prediction, which must return as it is.
        denoisers: names of the components that predict noise.
        output: reads the final latents from what the pipeline returned.
        output_type: what to ask the pipeline for.
        steps: number of steps, or None if ``arguments`` tells.
        variance: whether the second half of the prediction's channels is a variance.
        predictions: how many of the denoiser's outputs are predictions.
        aside: arguments of the denoiser any of which, if it is given, makes the call one for a prediction of another
            kind.
        prepares: whether a call of the denoiser, from its arguments, only fills a cache.
        reference: as in ``tests.denoisers.Network``.
        tolerance: relative to the largest latent.
    """

    make: Callable[[], Any]
    arguments: Callable[[], dict[str, Any]]
    path: str
    image: masked.Image = None
    groups: Mapping[int, tuple[int, int]] = field(default_factory=lambda: {1: (1, 0), 2: (2, 1)})
    turns: int = 1
    calls: Sequence[str] = ()
    g: float | Sequence[float] | None = None
    norm: bool = False
    denoisers: Sequence[str] = ("transformer",)
    output: Callable[[Any], Any] = lambda output: output[0]
    output_type: str | None = "latent"
    steps: int | None = 2
    variance: bool = False
    predictions: int = 1
    aside: Sequence[str] = ()
    prepares: Callable[[dict[str, Any]], bool] = lambda call: False
    reference: Callable[[nn.Module, str], Any] | None = None
    tolerance: float = 1e-4

    def sample(self, pipe: Any, **arguments: Any) -> Tensor:
        """The final latents; the same noise each time."""
        given: dict[str, Any] = {"return_dict": False} | self.arguments()
        if self.steps is not None:
            given.setdefault("num_inference_steps", self.steps)
        if self.output_type is not None:
            given.setdefault("output_type", self.output_type)
        given.setdefault("generator", torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        pipe.set_progress_bar_config(disable=True)
        return torch.as_tensor(self.output(pipe(**(given | arguments)))).detach().clone()


def pipeline(name: str, **components: Any) -> Any:
    """A pipeline of diffusers by class name; components that are not given are None."""
    cls = getattr(diffusers, name)
    expected, optional = DiffusionPipeline._get_signature_keys(cls)  # pyright: ignore[reportPrivateUsage]
    absent = dict.fromkeys(name for name in expected if name not in optional)
    return cls(**(absent | components))


@contextmanager
def guided(run: Run, pipe: Any, scale: float, reuse: pag.Reuse | None = None, steps: int = 0) -> Generator[None]:
    """Add ``s·(c − ĉ)`` to what the denoisers return, by separate forwards: weights that sum to 1 carry it through.

    With ``reuse`` all rows are computed all the same, and then replaced in those of the ``steps`` that reuse deltas.
    """
    state = _State(Memory(reuse or pag.Reuse(), run.turns, steps))
    with ExitStack() as stack:
        if hasattr(pipe.scheduler, "set_timesteps"):
            stack.enter_context(_noticed(pipe.scheduler, state.memory.reset))
        for name in run.denoisers:
            if (model := getattr(pipe, name, None)) is not None:
                role = "uncond" if name.startswith("unconditional") else None
                stack.enter_context(_replaced(run, pipe, model, scale, state, role))
        yield


@contextmanager
def _noticed(scheduler: Any, notice: Callable[[], None]) -> Generator[None]:
    """Whenever a scheduler of this class, which may be a copy, begins a run."""
    cls = type(scheduler)
    plain = cls.set_timesteps

    @functools.wraps(plain)  # pipelines look at its arguments
    def set_timesteps(*args: Any, **kwargs: Any) -> Any:
        notice()
        return plain(*args, **kwargs)

    cls.set_timesteps = set_timesteps
    try:
        yield
    finally:
        cls.set_timesteps = plain


@dataclass
class _State:
    memory: "Memory"
    calls: int = 0
    deltas: Sequence[Any] = ()
    c: Sequence[Any] = ()


class Memory:
    """Deltas of earlier steps, by what they are deltas to, for each of the prompt's calls in a step.

    Args:
        reuse: in which steps they are computed.
        turns: the number of these calls.
        steps: the number of steps.
    """

    def __init__(self, reuse: pag.Reuse, turns: int, steps: int) -> None:
        self._reuse, self._turns, self.steps = reuse, turns, steps
        self.of_steps: int | None = None
        """The steps of the whole run, where these are but its last ones."""
        self._computed: dict[Any, list[tuple[int, Tensor]]] = {}
        self._prompts, self._others = 0, 0

    def reset(self) -> None:
        """A run begins."""
        self._computed, self._prompts = {}, 0

    def begin(self, prompt: bool) -> None:
        """A call begins, for a prompt or without one."""
        self._prompts, self._others = self._prompts + prompt, 0 if prompt else self._others + 1

    def delta(self, group: str, c: Tensor, other: Tensor, *key: Any) -> Tensor:
        """The delta from a group's prediction to the prompt's, as it is used in this step."""
        step, turn = divmod(self._prompts - 1, self._turns)
        exact = c[:, -other.shape[1] :] - other
        if self._every(group) == 1:
            return exact
        past = self._computed.setdefault((turn, self._others, group, c.shape, *key), [])
        if past and step not in self.planned(group):
            return past[-1][1]
        past.append((step, exact))
        if len(past) == 1 or step == self.steps - 1:
            return exact
        (before, old), _ = past[-2:]
        repay = self._reuse.repay * min(1.0, (self.of_steps or self.steps) / 25)
        return exact + repay * (step - before - 1) / 2 * (exact - old)

    def _every(self, group: str) -> int:
        return int(self._reuse.pag if group == "perturbed" else self._reuse.cfg)

    def planned(self, group: str) -> list[int]:
        """The steps in which a delta is computed: 0, k, 2k, … and the last but one, or half a k later and the last."""
        k, perturbed = self._every(group), group == "perturbed"
        planned = [0, *range(k + (k // 2 if perturbed and self._reuse.cfg > 1 else 0), self.steps, k)]
        last = self.steps - (1 if perturbed else 2)
        if last > 0 and not {last, last - 1} & set(planned):
            planned = [*(step for step in planned if step < last), last]
        return planned


@contextmanager
def _replaced(run: Run, pipe: Any, model: Any, scale: float, state: _State, role: str | None) -> Generator[None]:
    plain = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = plain(*_copied(args), **_copied(kwargs))
        outputs = [output[index] for index in range(run.predictions)]
        if run.prepares(kwargs):
            return output
        group = role or (run.calls[state.calls % len(run.calls)] if run.calls else None)
        state.calls += 1
        if any(kwargs.get(name) for name in run.aside):
            group = "aside"
        state.memory.begin(group in (None, "cond"))
        if group in (None, "cond"):
            with masked.perturbs(model, run.path, run.image, run.reference):
                worse = plain(*args, **kwargs)
            sample = next(iter((*args, *kwargs.values())))
            modes = [value for value in kwargs.values() if isinstance(value, str | bool | None)]
            key = id(model), sample.shape[1:] if isinstance(sample, Tensor) else None, tuple(modes)
            pairs = [_of_prompt(run, one, worse[index], state.memory, *key, index) for index, one in enumerate(outputs)]
            outputs, state.c = [whole for whole, _, _ in pairs], [c for _, c, _ in pairs]
            state.deltas = [_delta(run, delta, scale) for _, _, delta in pairs]
        elif state.c and len(state.c[0]) == len(outputs[0]):
            pairs = zip(state.c, outputs, strict=True)
            outputs = [_without(c, u, state.memory, id(model), index) for index, (c, u) in enumerate(pairs)]
        if not state.deltas:
            return output
        added = [
            _placed(run, delta, group, len(output), _scale(run, index))
            for index, (delta, output) in enumerate(zip(state.deltas, outputs, strict=True))
        ]
        results = [_sum(one, delta) for one, delta in zip(outputs, added, strict=True)]
        return _like(output, results)

    model.forward = forward
    try:
        yield
    finally:
        del model.forward


def _scale(run: Run, prediction: int) -> float | None:
    return run.g[prediction] if isinstance(run.g, Sequence) else run.g


def _of_prompt(run: Run, output: Any, worse: Any, memory: Memory, *key: Any) -> tuple[Any, Any, Any]:
    """A prediction of all rows of a call, with the deltas of this step, ``c`` alone, and ``c − ĉ``."""
    if isinstance(output, list):
        all_three = _of_prompt(run, torch.stack(output), torch.stack(worse), memory, *key)  # pyright: ignore
        return tuple(map(list, all_three))
    count, cond = (1, 0) if run.calls else run.groups[len(output)]
    groups = output.chunk(count)
    c = groups[cond]
    whole = [c if index == cond else c - memory.delta(f"{index}", c, one, *key) for index, one in enumerate(groups)]
    return torch.cat(whole), c, memory.delta("perturbed", c, worse.chunk(count)[cond], *key)


def _without(c: Any, u: Any, memory: Memory, *key: Any) -> Any:
    """The prediction of a call without the prompt's rows, with the delta of this step."""
    if isinstance(u, list):
        return list(_without(torch.stack(c), torch.stack(u), memory, *key))  # pyright: ignore
    return c[:, -u.shape[1] :] - memory.delta("another", c, u, *key)


def _delta(run: Run, delta: Any, scale: float) -> Any:
    """``s·(c − ĉ)`` for the rows of the prompt."""
    if isinstance(delta, list):
        return [scale * one for one in delta]  # pyright: ignore
    delta = scale * delta
    if run.variance:
        delta[:, delta.shape[1] // 2 :] = 0
    return delta


def _placed(run: Run, delta: Any, group: str | None, rows: int, g: float | None) -> Any:
    """What is added to each row of a call, so that ``u + g·(c − u)`` gives its own result and ``δ``."""
    if group is not None:
        return _scaled(delta, _weight(run, group, g))
    count, cond = run.groups[rows]
    names = ["cond" if index == cond else "uncond" for index in range(count)]
    parts = [_scaled(delta, _weight(run, name, g if count > 1 else None)) for name in names]
    return [one for part in parts for one in part] if isinstance(delta, list) else torch.cat(parts)


def _weight(run: Run, group: str, g: float | None) -> float:
    if run.calls and run.calls[0] != "cond":
        return 1 / g if group == "cond" and g is not None else 0.0
    if run.norm and g not in (None, 1):
        return 1 / (1 - g) if group == "uncond" else 0.0
    return 1.0


def _scaled(delta: Any, weight: float) -> Any:
    return [one * weight for one in delta] if isinstance(delta, list) else delta * weight  # pyright: ignore


def _sum(output: Any, delta: Any) -> Any:
    if isinstance(output, list):
        return [a + b for a, b in zip(output, delta, strict=True)]  # pyright: ignore
    return output + delta[:, -output.shape[1] :]


def _like(output: Any, results: list[Any]) -> Any:
    if isinstance(output, tuple | list):
        return type(output)((*results, *output[len(results) :]))  # pyright: ignore
    return type(output)(**(dict(output) | dict(zip(output, results, strict=False))))


def _copied(value: Any) -> Any:
    """Some networks change lists that they are given."""
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)  # pyright: ignore
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}  # pyright: ignore
    return value
