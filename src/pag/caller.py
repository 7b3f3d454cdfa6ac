"""What the pipeline around a denoiser call tells about the run: which rows it passes, and what it does with them."""

import threading
from collections.abc import Hashable, Mapping
from numbers import Real
from typing import Any, final

import torch
from diffusers.guiders import ClassifierFreeGuidance
from torch import Tensor

from pag.families import Convention
from pag.intercept import is_part, running_pipeline
from pag.noise import Level, level_of, share_of_steps
from pag.reuse import Deltas, Reuse
from pag.rows import Rows, halves_equal


@final
class PipelineCaller(threading.local):
    """Reads the state of a diffusers pipeline while it samples, in each thread that of its own run.

    Args:
        pipe: the pipeline.
        convention: its row convention.
        reuse: which deltas are reused, if any.
        denoiser: of a network that is called ahead of the denoiser, what the latter's caller is.

    Raises:
        TypeError: if the pipeline leaves the combination to a guider that does not compute ``u + g·(c − u)``.
    """

    def __init__(
        self,
        pipe: Any,
        convention: Convention,
        reuse: Reuse | None = None,
        denoiser: "PipelineCaller | None" = None,
    ) -> None:
        self._given = self._pipe = pipe
        self._denoiser = denoiser
        self._locals: Mapping[str, Any] = {}
        self._check_guider()
        self._convention = convention
        self._reuse = reuse
        self._run: Any = None
        self._times: list[float] = []
        self._begins = True
        self._starts_equal: bool | None = None
        self._step: object = None
        self._steps = 0
        self._calls = 0
        self._turn = 0
        self._kept: dict[int, Deltas] = {}
        self._shapes: dict[int, Hashable] = {}
        self._aside = False
        self._deltas: list[Tensor] | None = None

    def rows(self, sample: Any, role: str | None = None) -> Rows:
        """The row groups of this call.

        Args:
            sample: what is denoised, a tensor or a list with an item for each row.
            role: the group that this call is for, if that is known.

        Raises:
            ValueError: if the number of rows does not fit the pipeline's convention.
        """
        groups: tuple[str, ...] = self._look(sample, role)  # pyright: ignore
        self._turn += "cond" in groups
        count = sample.shape[0] if isinstance(sample, Tensor) else len(sample)
        size, rest = divmod(count, len(groups))
        if rest:
            raise ValueError(
                f"{type(self._pipe).__name__} passed {count} rows, which are not {len(groups)} equal groups "
                f"({', '.join(groups)}). Register the pipeline's own order of rows in its family's conventions."
            )
        return Rows(size, groups)

    # Frames of Python cannot be traced.
    @torch.compiler.disable  # pyright: ignore[reportUntypedFunctionDecorator, reportArgumentType]
    def _look(self, sample: Any, role: str | None) -> Any:
        self._pipe, variables = running_pipeline(self._given)
        convention = self._convention
        named = (convention.switch, *self._scales, convention.unless, convention.truncated)
        wanted = (
            "t",
            "timesteps",
            "guider",
            "guidance_rescale",
            *named,
            convention.groups_with[0],
            convention.groups_by[0],
        )
        self._locals = {name: variables[name] for name in wanted if name in variables}
        self._check_guider()
        if self._declared is not False and (reason := convention.impossible(self._pipe)):
            raise TypeError(f"{type(self._pipe).__name__} cannot be guided with classifier-free guidance on: {reason}.")
        self._count_calls()
        return self._groups(sample, role)

    def _groups(self, sample: Any, role: str | None) -> tuple[str, ...]:
        convention = self._convention
        self._aside = role == "aside"
        if role is not None or convention.calls:
            return (role or self._role_by_order(),)
        if convention.groups == ("cond",):
            return convention.groups
        declared = self._declared
        # Where nothing tells, CFG shows in latents that are repeated for it.
        if declared is None or (declared and convention.also_alone):
            declared = halves_equal(sample)
        if convention.guess:
            self._check_guess(sample, declared)
        if not declared:
            return ("cond",)
        name, groups = convention.groups_with
        if self._locals.get(name) is not None:
            return groups
        name, by_value = convention.groups_by
        return by_value.get(self._locals.get(name), convention.groups)

    def _check_guess(self, sample: Any, guided: bool) -> None:
        several = self._calls > 1 and self._step is not None
        if not several and not (guided and self._begins and not halves_equal(sample)):
            return
        what = "calls its denoiser several times a step" if several else "does not pass each sample once more for CFG"
        raise ValueError(
            f"{type(self._pipe).__name__} {what}, and nobody knows for what. Say it: `pipe.pag_convention = "
            'pag.families.Convention(calls=("cond", "uncond"))`, for example, if it calls for the prompt first.'
        )

    def _count_calls(self) -> None:
        # Every run sets the scheduler's timesteps anew, so their identity tells the runs apart.
        run = getattr(self._scheduler, "timesteps", None)
        self._begins = run is None or run is not self._run
        # The loop's variable is a new object in each step, and the same one in all calls of a step.
        step = self._locals.get("t")
        if step is None:
            step = getattr(self._scheduler, "step_index", None)
        same = step == self._step if isinstance(step, int) else step is self._step
        if self._begins:
            self._run, self._times, self._starts_equal = run, [], None
        if self._begins and run is not None:
            self._steps, self._kept, self._shapes, same = 0, {}, {}, False
        if same and self._calls:
            self._calls += 1
        else:
            self._calls, self._turn, self._deltas = 1, 0, None
            self._steps += 1
        self._step = step

    def _role_by_order(self) -> str:
        calls = self._convention.calls
        if self._declared is False:
            return "cond"
        return calls[(self._calls - 1) % len(calls)]

    def shares(self, deltas: list[Tensor]) -> list[Tensor]:
        """What is added to the prompt's own rows: ``δ``, so that ``δ`` in all other rows of the step completes it.

        If another group was called before, that is too late: ``δ/g`` is its equal, as ``u + g·(c + δ/g − u)`` shows.
        """
        self._deltas = deltas
        convention, g = self._convention, self._known_scale
        if self._declared is False:
            return deltas
        if convention.calls and convention.calls[0] != "cond":
            if g is None:
                raise ValueError(
                    f"{type(self._pipe).__name__} calls its denoiser for {convention.calls[0]} first, and its scale of "
                    f"classifier-free guidance cannot be read from {convention.scale!r}."
                )
            return [delta / g for delta in deltas]
        return [delta if self._carrying(index) is None else delta * 0 for index, delta in enumerate(deltas)]

    def owed(self) -> list[Tensor] | None:
        """What is added to the rows of another group than the prompt's, in its call or after it: ``δ``.

        For pipelines that compare the result with the prompt's prediction, that one returns as it is, and this call
        carries all: ``u + δ/(1 − g) + g·(c − u − δ/(1 − g))`` is ``u + g·(c − u) + δ``.
        """
        deltas = self._deltas
        if deltas is None or self._convention.calls[:1] not in ((), ("cond",)):
            return None
        return [self._owed(index, delta) for index, delta in enumerate(deltas)]

    def _owed(self, prediction: int, delta: Tensor) -> Tensor:
        if (g := self._carrying(prediction)) is None:
            return delta
        return delta * 0 if self._aside else delta / (1 - g)

    def _carrying(self, prediction: int) -> float | None:
        """g, if the rows of the other prompt carry all of δ."""
        g = self._scale_of(prediction)
        return g if self._compares and self._declared is not False and g != 1 else None

    @property
    def _scales(self) -> tuple[str, ...]:
        names = self._convention.scale
        return (names,) if isinstance(names, str) else names

    @property
    def _scheduler(self) -> Any:
        return getattr(self._pipe, "scheduler", None)

    def _value(self, name: str) -> Any:
        # A property may be absent, or an old run's, outside of a call of the pipeline.
        value = self._locals.get(name)
        return getattr(self._pipe, name, None) if value is None else value

    @property
    def _guider(self) -> Any:
        """The component that combines the predictions, if the pipeline leaves it to one, and it is enabled."""
        guider = self._value("guider")  # a local variable where the pipeline chooses between two
        return guider if guider is not None and guider._enabled else None

    def _check_guider(self) -> None:
        guider = self._guider
        if guider is not None and not isinstance(guider, ClassifierFreeGuidance):
            raise TypeError(
                f"The pipeline's guider is {type(guider).__name__}, which PAG cannot be added to from outside: its "
                "result is not u + g·(c − u). Give the pipeline a `ClassifierFreeGuidance` for guider, or a "
                "`pag.PerturbedAttentionGuider`, which needs no `pag.guide` around it."
            )

    @property
    def _compares(self) -> bool:
        """Whether the result is compared with the prompt's prediction. A guider rescales towards its deviation."""
        return self._convention.norm or self._guider is not None

    @property
    def _declared(self) -> bool | None:
        if (guider := self._guider) is not None:
            return guider.num_conditions > 1
        if self._locals.get(self._convention.truncated):
            return False
        declared, above = self._value(self._convention.switch), self._convention.on_above
        if declared is None and above is not None and self._known_scale is not None:
            return self._known_scale - self._convention.from_cond > above
        return None if declared is None else bool(declared)

    @property
    def _known_scale(self) -> float | None:
        return self._scale_of(0)

    def _scale_of(self, prediction: int) -> float | None:
        if (guider := self._guider) is not None:
            return guider.guidance_scale + int(guider.use_original_formulation)
        value = self._value(self._scales[min(prediction, len(self._scales) - 1)])
        if isinstance(value, Tensor) and value.ndim == 0:
            value = value.item()
        return float(value) + float(self._convention.from_cond) if isinstance(value, Real) else None

    def starts_equal(self, rows: Rows, inputs: list[Any]) -> bool:
        """Whether all groups get the same inputs, but for the text: looked up in the first call of each run only.

        Looking waits for the device, which no later call has to. Where no pipeline runs, nothing tells what the next
        call will get, so each is looked up.
        """
        if self._starts_equal is None or not self._locals:
            self._starts_equal = rows.equal(inputs)
        return self._starts_equal

    def deltas(self, key: Hashable = None) -> Deltas | None:
        """What is kept of the run's deltas, for this call of the step, or for the prompt's call before it.

        Raises:
            RuntimeError: if nothing tells where a run begins and a step ends.
            ValueError: if the pipeline calls its denoiser for the negative prompt first.
        """
        if self._reuse is None:
            return None
        if key is None:
            return self._kept.get(self._turn)
        self._check_reuse(self._reuse)
        kept = self._kept.get(self._turn)
        if kept is None or (kept.key != key and not kept.promised(self._steps - 1)):
            kept = self._kept[self._turn] = Deltas(self._reuse, key)
        elif kept.key != key:  # good for this call only
            kept.key = None
        if kept.step != self._steps - 1:
            kept.begin(self._steps - 1, self._count_steps(), getattr(self._scheduler, "order", 1))
        return kept

    def leaves_out(self, rows: Rows, shapes: Hashable) -> bool:
        """Whether the denoiser's call that follows this one reads no rows but the prompt's, so that none need be there.

        If so that is kept to: another key (see :meth:`deltas`) counts from the call after it.

        Args:
            rows: the row groups of both.
            shapes: of the rows of this call, which must be those of the last step.
        """
        denoiser, turn = self._denoiser, self._turn
        before, self._shapes[turn] = self._shapes.get(turn), shapes
        if denoiser is None or before != shapes or denoiser._run is not self._run:
            return False
        kept = denoiser._kept.get(turn)
        follows = (self._steps, turn) in ((denoiser._steps, denoiser._turn + 1), (denoiser._steps + 1, 1))
        if kept is None or kept.key is None or not follows:
            return False
        return kept.promise(self._steps - 1, [group for group in rows.given if group != "cond"])

    def _count_steps(self) -> int | None:
        part: Any = self._locals.get("timesteps")
        whole: Any = self._run
        # An image-to-image run has a part of the scheduler's list. A variable of that name may also be of each row.
        lists: list[Any] = [whole] if isinstance(part, Tensor) and not is_part(part, whole) else [part, whole]
        # In some loops each frame has timesteps of its own, so that there are more.
        return next((len(one) for one in lists if hasattr(one, "__len__") and len(one) >= self._steps), None)

    def _check_reuse(self, reuse: Reuse) -> None:
        counted = "t" in self._locals or hasattr(self._scheduler, "step_index")
        if not self._locals or self._run is None or not counted:
            raise RuntimeError(
                "Deltas are reused within a run, and nothing tells here where a run begins and its steps end, as the "
                "call of a diffusers pipeline does. Guide without `reuse` and `speed`."
            )
        first = self._convention.calls[:1]
        if reuse.holds("uncond", reuse.cfg) and first not in ((), ("cond",)) and self._declared is not False:
            raise ValueError(
                f"{type(self._pipe).__name__} calls its denoiser for {first[0]} first, which can only be left out "
                "after the prompt's call. Reuse the other delta alone: `reuse=pag.Reuse(pag=…)`."
            )

    def progress(self, timestep: Tensor | float | int) -> float:
        """Where the run is: ``1 − t/T``, or ``t/T`` if the scheduler counts up.

        Waits for the device once a run, and in each step only where a pipeline makes timesteps of its own. Some
        schedulers and pipelines pass the logarithm of σ in place of t; with them progress is the share of the steps
        that are done.
        """
        scheduler = self._scheduler
        config = scheduler.config
        if self._convention.log_sigma or "sigma_data" in config or config.get("timestep_type") == "continuous":
            return share_of_steps(scheduler)
        done = self._time(timestep) / config.num_train_timesteps
        return done if config.get("invert_sigmas") else 1.0 - done

    def level(self, timestep: Tensor | float | int) -> Level:
        """How much of the sample of this call is noise.

        Raises:
            TypeError: if the scheduler does not tell, or the pipeline calls for the negative prompt by itself.
        """
        if self._convention.calls and self._declared is not False:
            raise TypeError(
                f"{type(self._pipe).__name__} calls its denoiser once for each prompt, but methods that perturb what "
                "the network gets need the negative prompt's prediction in the prompt's call. Switch classifier-free "
                "guidance off, or take perturbation='identity'."
            )
        return self._level(timestep)  # pyright: ignore

    # The time is another one in each step, for which nothing must be traced anew.
    @torch.compiler.disable  # pyright: ignore[reportUntypedFunctionDecorator, reportArgumentType]
    def _level(self, timestep: Any) -> Any:
        return level_of(self._scheduler, self._time(timestep))

    def _time(self, timestep: Tensor | float | int) -> float:
        now = self._locals.get("t")
        if not isinstance(now, Tensor | float | int):
            now = timestep
        return float(self._known_time(now) if isinstance(now, Tensor) else now)  # pyright: ignore

    # Addresses in memory cannot be traced.
    @torch.compiler.disable  # pyright: ignore[reportUntypedFunctionDecorator, reportArgumentType]
    def _known_time(self, now: Tensor) -> float:
        """The value of a timestep. One out of the scheduler's list is told by its place, without asking the device."""
        run = self._run
        if not isinstance(run, Tensor) or now.numel() > 1 or not is_part(now, run):
            return now.max().item()  # where frames or tokens have their own, that of the noisiest
        if not self._times:
            self._times = run.tolist()
        return self._times[now.storage_offset() - run.storage_offset()]

    @property
    def guidance_scale(self) -> float | None:
        """g, if the pipeline is known to compute ``u + g·(c − u)`` from it."""
        # Without the declared switch the pipeline holds g in a local variable, and an attribute is an old run's.
        if self._convention.formula != "classifier_free" or self._declared is None:
            return None
        if self._locals.get(self._convention.unless) is not None:
            return None
        return self._known_scale

    @property
    def guidance_rescale(self) -> float:
        """The pipeline's own rescaling towards the standard deviation of the prompt's prediction."""
        return float(self._value("guidance_rescale") or 0.0)
