"""Which images a comparison is made of: rows are prompts or seeds, columns are ways to guide."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import Any, Self, final

from pag.generate.grid import Label
from pag.generate.settings import Picture, Sampling, arguments, from_json, shell_command

__all__ = ["Comparison"]

OWN = ("prompts", "seed", "num", "scales", "sweep_layers", "cell")
"""The settings of the comparison as such; all others are those of its images."""


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every cell of a row starts from the same noise: what differs between them is the guidance alone."""

    prompts: tuple[str, ...]
    seed: int = field(metadata={"flag": "--seed"})
    num: int = field(metadata={"flag": "--num"})
    scales: tuple[float, ...] = field(default=(), metadata={"flag": "--scales"})
    sweep_layers: tuple[str, ...] = field(default=(), metadata={"flag": "--sweep-layers"})
    cell: int = field(default=256, metadata={"flag": "--cell"})
    sampling: Sampling

    @property
    def columns(self) -> list[tuple[Label, Sampling]]:
        """Label and settings of each column."""
        if self.scales:
            return [(Label(f"s = {s:g}"), replace(self.sampling, pag_scale=s)) for s in self.scales]
        if self.sweep_layers:
            layers = [(Label(name), replace(self.sampling, layers=name)) for name in self.sweep_layers]
            return [(Label("no PAG"), replace(self.sampling, pag_scale=0.0)), *layers]
        return _guidance_on_and_off(self.sampling)

    @property
    def rows(self) -> list[tuple[Label, str, int]]:
        """Label, prompt and seed of each row."""
        pairs = [(prompt, seed) for prompt in self.prompts for seed in range(self.seed, self.seed + self.num)]
        return [(self._row_label(prompt, seed), prompt, seed) for prompt, seed in pairs]

    def _row_label(self, prompt: str, seed: int) -> Label:
        shown = f"“{prompt}”" if prompt else "empty prompt"
        if len(self.prompts) == 1:
            return Label(f"seed {seed}") if self.num > 1 else Label(shown)
        return Label(shown, f"seed {seed}" if self.num > 1 else "")

    @property
    def title(self) -> str:
        """The prompt, where the rows do not say it."""
        return f"“{self.prompts[0]}”" if len(self.prompts) == 1 and self.num > 1 and self.prompts[0] else ""

    @property
    def caption(self) -> str:
        """What all cells have in common."""
        how = self.sampling
        guided = f"CFG g = {how.guidance_scale:g}" if how.guidance_scale > 1 else "no CFG"
        facts = [guided] if self.scales or self.sweep_layers else []
        facts += [f"PAG s = {how.pag_scale:g}"] if self.sweep_layers else [f"PAG at {how.layers}"]
        facts += [] if self.num > 1 else [f"seed {self.seed}"]
        return " · ".join([*facts, f"{how.steps} steps", how.scheduler, f"{_short(how.model)} model"])

    @property
    def pictures(self) -> list[Picture]:
        """All cells, column by column, so that a batch shares its settings."""
        return [
            Picture(prompt=prompt, seed=seed, sampling=how) for _, how in self.columns for _, prompt, seed in self.rows
        ]

    def to_json(self) -> dict[str, Any]:
        """All settings in one flat record."""
        record = asdict(self)
        return {key: record[key] for key in OWN} | record["sampling"]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises UserError."""
        rest = {key: value for key, value in record.items() if key not in OWN}
        mine = {key: record[key] for key in OWN if key in record}
        return from_json(cls, mine | {"sampling": from_json(Sampling, rest)})

    def command(self) -> str:
        """The command line that draws this comparison."""
        return shell_command("compare", list(self.prompts), [*arguments(self), *arguments(self.sampling)])


def _short(model: str) -> str:
    """A hub id whole, of a folder's path the end."""
    return model if model.count("/") == 1 and model[0] not in "./~" else PurePath(model).name


def _guidance_on_and_off(how: Sampling) -> list[tuple[Label, Sampling]]:
    """None, PAG, CFG, CFG + PAG, less those whose scale is off anyway."""
    has_pag, has_cfg = how.pag_scale > 0, how.guidance_scale > 1
    g, s = f"g = {how.guidance_scale:g}", f"s = {how.pag_scale:g}"
    columns = [(Label("no guidance", "the model alone"), replace(how, guidance_scale=0.0, pag_scale=0.0))]
    if has_pag:
        columns.append((Label("PAG", s), replace(how, guidance_scale=0.0)))
    if has_cfg:
        columns.append((Label("CFG", g), replace(how, pag_scale=0.0)))
    if has_pag and has_cfg:
        columns.append((Label("CFG + PAG", f"{g}, {s}"), how))
    return columns
