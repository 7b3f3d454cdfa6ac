"""What the pipeline around a denoiser call tells about the run: which rows it passes, and what it does with them."""

from typing import Any, Protocol, final

from torch import Tensor

from pag.families import Convention
from pag.rows import Rows, halves_equal


class Caller(Protocol):
    """What a guided call asks of whoever calls the denoiser."""

    def rows(self, sample: Tensor) -> Rows:
        """The row groups of this call."""
        ...

    def starts_equal(self, rows: Rows, inputs: list[Any]) -> bool:
        """Whether all groups get the same inputs, but for the text."""
        ...

    def progress(self, timestep: Tensor | float | int) -> float:
        """Where the run is, from 0 at pure noise to 1 at the clean image."""
        ...

    @property
    def guidance_scale(self) -> float | None:
        """g, if the caller is known to compute ``u + g·(c − u)`` from it."""
        ...

    @property
    def guidance_rescale(self) -> float:
        """How much the result is rescaled towards the standard deviation of the prompt's prediction."""
        ...


@final
class PipelineCaller:
    """Reads the state of a diffusers pipeline while it samples.

    Args:
        pipe: the pipeline.
        convention: its row convention.
    """

    def __init__(self, pipe: Any, convention: Convention) -> None:
        self._pipe = pipe
        self._convention = convention
        self._run: object = None
        self._starts_equal = False

    def rows(self, sample: Tensor) -> Rows:
        """The row groups of this call.

        Raises:
            ValueError: if the number of rows does not fit the pipeline's convention.
        """
        groups = self._convention.groups if self._guided_by_text(sample) else ("cond",)
        size, rest = divmod(sample.shape[0], len(groups))
        if rest:
            raise ValueError(
                f"{type(self._pipe).__name__} passed {sample.shape[0]} rows, which are not {len(groups)} equal groups "
                f"({', '.join(groups)}). Register the pipeline's own order of rows in its family's conventions."
            )
        return Rows(size, groups)

    def _guided_by_text(self, sample: Tensor) -> bool:
        declared = self._declared
        # Some pipelines keep the switch in a local variable; all of them repeat the latents for CFG.
        return halves_equal(sample) if declared is None else declared

    @property
    def _declared(self) -> bool | None:
        # Absent, or an old run's, outside of a call of the pipeline.
        return getattr(self._pipe, "do_classifier_free_guidance", None)

    def starts_equal(self, rows: Rows, inputs: list[Any]) -> bool:
        """Whether all groups get the same inputs, but for the text: looked up in the first call of each run only.

        Every run sets the scheduler's timesteps anew, so their identity tells the runs apart. Looking waits for the
        device, which no later call has to.
        """
        run = getattr(getattr(self._pipe, "scheduler", None), "timesteps", None)
        if run is None or run is not self._run:
            self._run, self._starts_equal = run, rows.equal(inputs)
        return self._starts_equal

    def progress(self, timestep: Tensor | float | int) -> float:
        """Where the run is: ``1 − t/T`` (waits for the device).

        Some schedulers and pipelines pass the logarithm of σ in place of t; with them progress is the share of the
        steps that are done.
        """
        scheduler = self._pipe.scheduler
        config = scheduler.config
        if self._convention.log_sigma or "sigma_data" in config or config.get("timestep_type") == "continuous":
            return (scheduler.step_index or 0) / len(scheduler.timesteps)
        now = timestep.flatten()[0].item() if isinstance(timestep, Tensor) else timestep
        return 1.0 - float(now) / config.num_train_timesteps

    @property
    def guidance_scale(self) -> float | None:
        """g, if the pipeline is known to compute ``u + g·(c − u)`` from it."""
        # Without the declared switch the pipeline holds g in a local variable, and an attribute is an old run's.
        if self._convention.formula != "classifier_free" or self._declared is None:
            return None
        return getattr(self._pipe, "guidance_scale", None)

    @property
    def guidance_rescale(self) -> float:
        """The pipeline's own rescaling towards the standard deviation of the prompt's prediction."""
        return float(getattr(self._pipe, "guidance_rescale", 0.0))
