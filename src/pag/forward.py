"""Inside one forward of the denoiser: rows that are equal are computed once, then perturbed ones part from them."""

import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor, nn

from pag.arguments import Arguments
from pag.degraded import base_of
from pag.families import Attending, Family
from pag.intercept import (
    AttentionOp,
    Call,
    Override,
    input_names,
    install,
    is_compiled,
    native_call,
    processor_name,
    remove,
)
from pag.layers import Site
from pag.lent import Lent
from pag.operation import Looking, Operation, Place, tokens_between
from pag.perturbations import INPUT_PERTURBATIONS, PERTURBATIONS, VALUES_ALONE, Attend, identity
from pag.record import Record
from pag.rows import Rows, Stage, tensors
from pag.sharing import multiplies, query_and_key_makers, sharing_modules, stages


@final
class GuidedForward:
    """Steps into the modules of a network for as long as a guided call is under way; any other call finds it untouched.

    Args:
        model: the network, not its compiled wrapper.
        family: what is known of its class.
        sites: the self-attention layers to perturb.
        perturbation: name of the method.
        low_memory: also record what a pass of other rows has in common with one of perturbed rows alone.
    """

    def __init__(
        self, model: nn.Module, family: Family, sites: Sequence[Site], perturbation: str, low_memory: bool
    ) -> None:
        self.text_entry = family.text_entry(model)
        """Path of the module at which the text enters, or None if it is in from the start."""
        self._family = family
        self._config: Any = getattr(model, "config", None)
        self._places = [Place(site, model.get_submodule(site.path)) for site in sites]
        self._of_input = INPUT_PERTURBATIONS.get(perturbation)
        self._perturbation = PERTURBATIONS.get(perturbation, identity)  # unless it only looks
        self._rows: Rows | None = None
        self._call: Mapping[str, Any] = {}
        self._lent: Lent | None = None
        self._stage = Stage.PARTED
        self._shares = False
        self._map_unneeded = False
        readers = {name: paths for name, read_in in family.read_in.items() if (paths := read_in(model))}
        self._around = {name: _within(model, paths) for name, paths in readers.items()}
        self._readers = {
            name: [self._reader(model.get_submodule(path), name) for path in paths] for name, paths in readers.items()
        }
        self._overrides = [Override(place.module, partial(self._perturb, place), alike=True) for place in self._places]
        known: dict[type, Arguments] = {}

        def step_into(module: nn.Module, function: Call, *more: Any) -> None:
            arguments = known.setdefault(type(module), Arguments(module, family))
            self._overrides.append(Override(module, partial(function, arguments, *more), alike=True))

        if self.text_entry is not None:
            step_into(model.get_submodule(self.text_entry), self._enter_text)
        shared = dict(stages(model, family, sharing_modules(model, family, sites, self.text_entry)))
        if perturbation in VALUES_ALONE and family.image_alone:
            for place in self._places:
                makers = query_and_key_makers(place.module)
                place.skips_map = bool(makers)
                for maker in makers:
                    width = getattr(maker, "out_features", None)
                    step_into(maker, self._make_map, width, shared.pop(maker, Stage.PARTED))
        for module, first in shared.items():
            step_into(module, self._share_rows, first)
        self._record = Record(self._recorded(model, family) if low_memory else [], model)
        self._overrides += self._record.overrides

    def _reader(self, module: nn.Module, name: str) -> Override:
        return Override(module, partial(self._read, *_input(module, name)), alike=True)

    def _recorded(self, model: nn.Module, family: Family) -> list[tuple[nn.Module, Arguments]]:
        """What perturbed rows alone do not compute again. Their pass does not see where the text enters."""
        skipping = [place for place in self._places if place.skips_map]
        needless = {maker for place in skipping for maker in query_and_key_makers(place.module)}
        modules = sharing_modules(model, family, [place.site for place in self._places], None)
        chosen = [module for module in modules if module not in needless and multiplies(module)]
        return [(module, Arguments(module, family)) for module in chosen]

    def lends(self, name: str) -> bool:
        """Whether an argument of the network is read in some modules only, which get all its rows there.

        Blocks that are compiled by themselves get them at once: torch.compile would tell a stand-in from the rest, and
        make graphs for both.
        """
        return name in self._around and not any(map(is_compiled, self._around[name]))

    def serves(self, other: "GuidedForward") -> bool:
        """Whether this one can do what the other would: step into the same modules."""
        mine, its = ([*chain(*one._readers.values()), *one._overrides] for one in (self, other))
        same = len(mine) == len(its) and all(a.module is b.module for a, b in zip(mine, its, strict=True))
        return same and not any(override.spent for override in mine)

    @contextmanager
    def running(self, rows: Rows, stage: Stage, call: Mapping[str, Any], lent: Lent | None = None) -> Generator[None]:
        """While a guided call is under way: take over the calls of the modules, and give them back.

        Args:
            rows: the rows of the call.
            stage: from which stage on rows are computed; ``PARTED`` computes them all.
            call: its arguments, by name.
            lent: those of which the network got a stand-in.

        Raises:
            RuntimeError: if a layer was not perturbed.
        """
        self._lent = lent
        with self._reaching(), self._record.replayed() as replays, self._installed(rows, stage, call):
            self._shares = self._shares or replays
            yield

    @contextmanager
    def looking(self, rows: Rows, stage: Stage, call: Mapping[str, Any]) -> Generator[None]:
        """While rows that are not perturbed are run, and the layer's attention is looked at: see :meth:`take_seen`.

        Args:
            rows: the rows of the call.
            stage: from which stage on rows are computed; ``PARTED`` computes them all.
            call: its arguments, by name.

        Raises:
            RuntimeError: if the layer was not reached.
        """
        with self._reaching(), self._installed(rows, stage, call):
            yield

    def take_seen(self) -> Tensor:
        """What was seen of the layer's attention, which is then forgotten. The next call may write where it lies."""
        place = self._places[0]
        seen, place.seen = place.seen, None
        assert seen is not None
        return seen

    @contextmanager
    def _reaching(self) -> Generator[None]:
        """Raise if a layer is not reached meanwhile."""
        for place in self._places:
            place.reached = False
        yield
        if missing := [place for place in self._places if not place.reached]:
            raise RuntimeError(
                "Guidance did not reach "
                + ", ".join(f"{place.site} ({processor_name(place.module)})" for place in missing)
                + ": the layer did not run, or its attention processor makes no call of scaled_dot_product_attention. "
                "Name other layers, or set diffusers' AttnProcessor2_0 there."
            )

    @contextmanager
    def recording(self, rows: Rows, stage: Stage, call: Mapping[str, Any]) -> Generator[None]:
        """While rows that are not perturbed are run ahead of those that are, which :meth:`running` then does alone.

        Args:
            rows: the rows of the call.
            stage: from which stage on rows are computed; ``PARTED`` computes them all, again for the perturbed ones.
            call: its arguments, by name.
        """
        with self._record.made(rows, on=stage != Stage.PARTED), self._installed(rows, stage, call):
            yield

    @contextmanager
    def _installed(self, rows: Rows, stage: Stage, call: Mapping[str, Any]) -> Generator[None]:
        self._stage, self._shares, self._call, self._rows = stage, stage != Stage.PARTED, call, rows
        # Where nothing is lent they would make blocks of one kind differ, and graphs of their own for them.
        readers = [self._readers[name] for name in self._readers if self.lends(name)]
        overrides = [*chain(*readers), *self._overrides]
        install(overrides)
        try:
            yield
        finally:
            remove(overrides)
            self._rows, self._call, self._lent = None, {}, None

    def _enter_text(self, arguments: Arguments, original: Call, *args: Any, **kwargs: Any) -> Any:
        if self._stage == Stage.START and self._rows is not None:
            self._stage = Stage.TEXT
        return self._share_rows(arguments, Stage.TEXT, original, *args, **kwargs)

    def _read(self, position: int, name: str, original: Call, *args: Any, **kwargs: Any) -> Any:
        lent = self._lent
        if lent is not None and name in kwargs:
            return original(*args, **{**kwargs, name: lent.given(kwargs[name])})
        if lent is not None and position < len(args):
            return original(*args[:position], lent.given(args[position]), *args[position + 1 :], **kwargs)
        return original(*args, **kwargs)

    def _share_rows(self, arguments: Arguments, first: Stage, original: Call, *args: Any, **kwargs: Any) -> Any:
        return self._share(arguments, self._later(first), original, *args, **kwargs)

    def _make_map(
        self, arguments: Arguments, width: int | None, first: Stage, original: Call, *args: Any, **kwargs: Any
    ) -> Any:
        """Answer for what makes queries or keys. Where perturbed rows need none they get their prompt's, or zeros."""
        stage, rows = self._later(first), self._rows
        if stage == Stage.PARTED and self._map_unneeded and rows is not None:
            if not rows.normal and width is not None:
                taken = next(tensors((args, kwargs)))
                return taken.new_zeros(()).expand(*taken.shape[:-1], width)
            stage = Stage.TEXT
        return self._share(arguments, stage, original, *args, **kwargs)

    def _later(self, first: Stage) -> Stage:
        return first if self._stage == Stage.START else self._stage

    def _share(self, arguments: Arguments, stage: Stage, original: Call, *args: Any, **kwargs: Any) -> Any:
        rows = self._rows
        if rows is None or not rows.share(stage) or not arguments.carry(rows, args, kwargs):
            return original(*args, **kwargs)
        rows.trim_stores((args, kwargs))
        taken = [arguments.take(rows, stage, index, value) for index, value in enumerate(args)]
        named = {name: arguments.take(rows, stage, name, value) for name, value in kwargs.items()}
        return arguments.spread(rows, stage, original(*taken, **named))

    def _perturb(self, place: Place, original: Call, *args: Any, **kwargs: Any) -> Any:
        rows = self._rows
        if rows is None:
            return original(*args, **kwargs)
        inputs = dict(zip(place.inputs, args, strict=False)) | kwargs

        def attended() -> Any:
            operation = self._operation(rows, place, inputs)
            with AttentionOp(operation):
                return native_call(place.module, original, operation)(*args, **kwargs)

        # Up to the first site rows share all matrices anyway.
        later = self._shares and rows.perturbed and self._stage == Stage.PARTED
        self._map_unneeded = later and place.skips_map
        output = attended()
        if self._map_unneeded and not place.skips_map:  # as it turned out: for keys of something else, say
            self._map_unneeded = False
            output = attended()
        self._map_unneeded = False
        self.part()
        return output

    def _operation(self, rows: Rows, place: Place, inputs: Mapping[str, Any]) -> Call:
        if self._of_input is not None:
            return Looking(self, rows, base_of(rows), place, inputs)
        return Operation(self, rows, place, inputs) if rows.perturbed else self._unperturbed

    def need_map(self, place: Place) -> None:
        """A site's perturbed rows do need their queries and keys."""
        if self._map_unneeded:
            place.skips_map = False

    def _unperturbed(self, op: Call, query: Tensor, key: Tensor, *args: Any, **options: Any) -> Tensor:
        if key.shape[-2] >= query.shape[-2]:  # else to something else
            self.part()
        return op(query, key, *args, **options)

    def part(self) -> None:
        """From here on no two groups are equal. Up to its attention operation that holds within the first site too."""
        self._stage = Stage.PARTED
        self._record.end()

    def perturbed(
        self, place: Place, inputs: Mapping[str, Any], q: Tensor, k: Tensor, v: Tensor, attend: Attend, rows: slice
    ) -> Tensor:
        """The perturbed attention at a site.

        Args:
            place: the layer.
            inputs: arguments of the attention module.
            q: queries of the perturbed rows.
            k: keys.
            v: values.
            attend: the network's own operation on these rows.
            rows: which rows of the call they are.
        """
        attending = Attending(place.site, self._call, inputs, q.shape[-2], k.shape[-2], self._config)
        where = self._family.image(attending)
        if where is None:
            return attend(q, k, v)
        place.reached = True
        frames, shift = self._family.frames(self._config, self._call), self._family.shift(attending)
        if isinstance(where, slice):
            tokens = tokens_between(where, shift, frames)
            if not tokens.alone(q, k):
                self.need_map(place)
            return self._perturbation(q, k, v, attend, tokens)
        # Rows whose text is of different lengths have their image at different places.
        single = zip(q.split(1), k.split(1), v.split(1), where[rows], strict=True)
        each = [
            self._perturbation(q, k, v, attend.row(row), tokens_between(image, shift, frames))
            for row, (q, k, v, image) in enumerate(single)
        ]
        return torch.cat(each)

    def look(self, place: Place, inputs: Mapping[str, Any], q: Tensor, k: Tensor, attend: Attend) -> None:
        """Look at the attention at a site.

        Args:
            place: the layer.
            inputs: arguments of the attention module.
            q: queries of the rows that are looked at.
            k: keys.
            attend: the network's own operation on these rows.
        """
        attending = Attending(place.site, self._call, inputs, q.shape[-2], k.shape[-2], self._config)
        where = self._family.image(attending)
        if self._of_input is not None and isinstance(where, slice):
            place.reached = True
            place.seen = self._of_input.look(q, k, attend, tokens_between(where, self._family.shift(attending), 1))


def _within(model: nn.Module, paths: Sequence[str]) -> list[nn.Module]:
    """Modules of a network with all that lie around them in it."""
    steps = [path.split(".") for path in paths]
    around = {".".join(names[: count + 1]) for names in steps for count in range(len(names))}
    return [model.get_submodule(path) for path in sorted(around)]


def _input(module: nn.Module, name: str) -> tuple[int, str]:
    """Position and name of the argument of a module for one of the network's: by the same name, or else the first."""
    names = input_names(module)
    position = names.index(name) if name in names else 0
    return position, names[position]


_kept: "weakref.WeakKeyDictionary[nn.Module, dict[tuple[Sequence[Site], str, bool], GuidedForward]]"
_kept = weakref.WeakKeyDictionary()


def guided_forward(
    model: nn.Module, family: Family, sites: Sequence[Site], perturbation: str, low_memory: bool = False
) -> GuidedForward:
    """The guided forward of a network, the same one each time: a new one would make torch.compile trace anew."""
    made, key = GuidedForward(model, family, sites, perturbation, low_memory), (tuple(sites), perturbation, low_memory)
    kept = _kept.setdefault(model, {}).setdefault(key, made)
    # Loading a LoRA, say, puts new modules in the place of old ones.
    if not kept.serves(made):
        _kept[model][key] = kept = made
    return kept
