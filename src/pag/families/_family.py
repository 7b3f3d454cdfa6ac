"""The shape of a family entry: facts, not logic."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from pag.layers import Layers, Site

ROWS = (
    "sample",
    "hidden_states",
    "timestep",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "attention_mask",
    "encoder_hidden_states_mask",
    "pooled_projections",
    "guidance",
    "class_labels",
    "added_cond_kwargs",
)
"""Arguments of ``forward`` that carry one entry per row, by the names that most denoisers share."""

_TABLE = re.compile(r"rot|rope|freqs|ids$|pos|shape|grid|size|length|num_|height|width|index|indices|block_|cu_")


@dataclass(frozen=True)
class Attending:
    """One attention operation at a site, as far as the layout of its tokens depends on it.

    Args:
        site: the layer.
        call: arguments of the denoiser's ``forward``, by name.
        inputs: arguments of the attention module's ``forward``, by name.
        queries: number of queries.
        keys: number of keys.
        config: the model's configuration.
    """

    site: Site
    call: Mapping[str, Any]
    inputs: Mapping[str, Any]
    queries: int
    keys: int
    config: Any = None

    def text(self, *names: str) -> int:
        """Length (dimension 1) of the first of the arguments that is given, in the inputs or else in the call."""
        for source in (self.inputs, self.call):
            for name in names or ("encoder_hidden_states",):
                if isinstance(value := source.get(name), Tensor):
                    return value.shape[1]
        return 0


def every_token(attending: Attending) -> slice:
    """All tokens are the image's."""
    return slice(0, attending.queries)


def after_text(attending: Attending) -> slice:
    """The text's tokens come first, then the image's."""
    return slice(attending.text(), attending.queries)


def before_text(attending: Attending) -> slice:
    """The image's tokens come first, then the text's."""
    return slice(0, attending.queries - attending.text())


def extra_keys_first(attending: Attending) -> int:
    """Keys without queries lie ahead of the others."""
    return attending.keys - attending.queries


def one_frame(config: Any, call: Mapping[str, Any]) -> int:
    """An image."""
    return 1


def no_entry(model: nn.Module) -> str | None:
    """The text is in from the start."""
    return None


def grow_nothing(call: Mapping[str, Any], rows: Sequence[int]) -> Mapping[str, Any]:
    """All arguments are grown row by row."""
    return {}


def prepares_nothing(call: Mapping[str, Any]) -> bool:
    """Each call predicts."""
    return False


def no_variance(model: Any) -> bool:
    """All channels are the prediction."""
    return False


def no_layers(model: nn.Module) -> tuple[()]:
    """The recommendation is the family's."""
    return ()


def always_possible(pipe: Any) -> str | None:
    """The pipeline can be guided however it is configured."""
    return None


@dataclass(frozen=True)
class Convention:
    """How a pipeline lays out the rows of classifier-free guidance, and what it does with the result.

    Args:
        groups: the row groups of one call while CFG is on, in order; ``"cond"`` is the prompt's.
        groups_with: name of a local variable and, where that is set, the groups in place of ``groups``.
        groups_by: name of a local variable, and the groups by its value, in place of ``groups``.
        also_alone: whether, with CFG on, there are also calls for the prompt alone. They show in latents that are not
            repeated.
        calls: if the pipeline calls its denoiser once for each group, the groups in the order of their calls in a
            step; ``groups`` does not matter then.
        formula: ``"classifier_free"`` if the pipeline computes ``u + g·(c − u)`` from ``scale`` (and rescales by its
            property ``guidance_rescale``); ``None`` if it computes something else, or from values that cannot be
            read. Any combination whose weights sum to 1 is served either way.
        unless: name of a local variable which, if it is set, tells that the pipeline computes something else after all.
        switch: name of the property or, where there is none, of the local variable that tells whether CFG is on.
        truncated: name of a local variable which, if it is true, tells that CFG is off in this step after all.
        scale: the same for g, or one name for each prediction of a network that makes several.
        on_above: where nothing of that name tells, CFG is on if g is above this.
        from_cond: whether the pipeline computes ``c + g·(c − u)``, which is that formula for ``g + 1``.
        norm: whether the pipeline compares the result with the prompt's own prediction (to bring it to its norm, say),
            which must then return as it is. Of use with ``calls`` that begin with the prompt's, or if ``formula`` is
            None; the weight of that prediction must be g.
        log_sigma: whether the pipeline passes the logarithm of the noise level where others pass the timestep.
        noisy_first: whether the first channels of what the denoiser gets are the noisy image and nothing else, where
            its family has such.
        guess: whether nobody has read the pipeline: its calls are then checked, as far as they tell.
        impossible: why a pipeline cannot be guided while CFG is on, as it is configured: its weights do not sum to 1,
            say. None if it can.
    """

    groups: tuple[str, ...] = ("uncond", "cond")
    groups_with: tuple[str, tuple[str, ...]] = ("", ())
    groups_by: tuple[str, Mapping[Any, tuple[str, ...]]] = ("", MappingProxyType({}))
    also_alone: bool = False
    calls: tuple[str, ...] = ()
    formula: str | None = "classifier_free"
    unless: str = ""
    switch: str = "do_classifier_free_guidance"
    truncated: str = ""
    scale: str | tuple[str, ...] = "guidance_scale"
    on_above: float | None = None
    from_cond: bool = False
    norm: bool = False
    log_sigma: bool = False
    noisy_first: bool = True
    guess: bool = False
    impossible: Callable[[Any], str | None] = always_possible


@dataclass(frozen=True)
class Family:
    """What must be known of a denoiser class to guide it.

    Args:
        models: class names of the denoisers.
        sites: lists the self-attention layers of a model, in the order in which they run.
        example: arguments of ``forward`` for a number of rows, on the model's device; sizes as in the
            published checkpoints. Without it nothing but the cost of guidance is unknown.
        layers: names of the recommended layers, or the relative depth of the one recommended layer (0.5 is the
            middle one), which suits models of all sizes.
        layers_of: full paths of the recommended layers of a model, if they are others than ``layers``; else none.
        scale: the recommended scale.
        source: where the recommendation comes from.
        trunk: children of the model through which rows flow, in the order in which they run; lists of blocks mostly.
            There equal rows are computed once; without a trunk nowhere.
        sample: the argument of ``forward`` that is denoised.
        timestep: the argument of ``forward`` that tells the noise level.
        row_arguments: arguments of ``forward`` that carry one entry per row, tensors or nests of tensors.
            A dotted name is an entry of a dictionary argument. All other arguments are left alone: a table
            without a batch dimension must never be indexed because its size happens to fit.
        folded_arguments: those of them that may carry several entries per row, one after the other (the frames of a
            video, say).
        layered_arguments: those of them whose first dimension is a layer of the text encoder, and the second the row;
            the network takes one layer at a time, so that a list of layers will do.
        row_lists: arguments of ``forward`` that are lists with one item for each row.
        row_tables: arguments inside the network that carry rows although they are named as tables are that do not
            (rotary embeddings, ids).
        row_stacks: arguments inside the network that hold all rows and after them more entries: all rows once more,
            or some that serve every row (of a second timestep, say).
        rows_second: arguments of blocks that have the rows in the second dimension; what such a block returns has too.
        tables: arguments inside the network that carry no rows although their names do not tell.
        unshared: names of modules inside the blocks whose input has the rows in another way, and who compute all of it.
        stores: arguments of ``forward`` that are objects which hold keys and values of earlier calls, of the pipeline's
            own rows only. A call that gets them fills them, or they come from an output, beside the predictions.
        paired_arguments: arguments with a pair of entries, of keys and values, in the first dimension of every tensor,
            and rows in the second.
        image: where the image's tokens are among the queries of an attention operation: one slice, or one for each
            row of the call; None if the operation is not the image's self-attention (but attention to the image of an
            IP-Adapter, say).
        shift: how much further on the image's tokens are among the keys, which may be more than the queries.
        frames: number of frames whose tokens lie one after the other, from the model's configuration and the
            arguments of ``forward``; 0 if they are of unequal size.
        variance: whether the second half of the output's channels is a variance, which is not guided.
        degradable: whether the sample is an image of shape (rows, channels, height, width), whose first channels are
            denoised and whose tokens lie row by row at the sites, and the output is what the pipeline's scheduler says:
            then methods apply that make the image in the input worse.
        looked_at: names of layers of which such a method looks at the first; those recommended if there are none.
        predictions: how many of the outputs are predictions (of video and audio, say).
        packed: whether ``forward`` takes one sample only, packed into one sequence that has no rows. Its perturbed
            prediction is then a call of its own, which shares nothing.
        aside: arguments of ``forward`` any of which, if it is given, makes the call one for a prediction of another
            kind, which the pipeline compares with the prompt's: of a network with fewer layers, say.
        grow: from the arguments of ``forward``, and the row that each row to run is or is a copy of, those arguments
            that must get these rows in another way.
        prepares: whether a call of ``forward`` only fills a cache, and predicts nothing, from its arguments.
        text_entry: path of the first module at which the rows of the prompt and of the negative prompt
            begin to differ, or ``None`` if they differ from the start.
        text_trunk: those parts of the trunk that the text goes through ahead of ``text_entry``.
        trunk_arguments: the row arguments that reach the other parts ahead of ``text_entry``.
        read_in: of arguments that are read in some modules and nowhere else, what lists the paths of these, or nothing
            if it is otherwise in a model.
        taken_singly: row arguments that are lists of which ``forward`` takes one tensor after the other, and keeps
            none.
        convention: how pipelines call it.
        conventions: by pipeline class name, where it is another.
        guess: whether the facts are read from the structure of a model that nobody knows: the first guided call then
            checks that its rows do not depend on one another.
    """

    models: tuple[str, ...]
    sites: Callable[[nn.Module], tuple[Site, ...]]
    example: Callable[[Any, int], dict[str, Any]] | None = None
    layers: tuple[str, ...] | float = 0.5
    layers_of: Callable[[nn.Module], tuple[str, ...]] = no_layers
    scale: float = 3.0
    source: str = "no published setting: the middle block, by analogy with arXiv 2403.17377"
    trunk: tuple[str, ...] = ()
    sample: str = "hidden_states"
    timestep: str = "timestep"
    row_arguments: tuple[str, ...] = ROWS
    folded_arguments: tuple[str, ...] = ()
    layered_arguments: tuple[str, ...] = ()
    row_lists: tuple[str, ...] = ()
    row_tables: tuple[str, ...] = ()
    row_stacks: tuple[str, ...] = ()
    rows_second: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    unshared: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    paired_arguments: tuple[str, ...] = ()
    image: Callable[[Attending], slice | Sequence[slice] | None] = every_token
    shift: Callable[[Attending], int] = extra_keys_first
    frames: Callable[[Any, Mapping[str, Any]], int] = one_frame
    variance: Callable[[Any], bool] = no_variance
    degradable: bool = False
    looked_at: tuple[str, ...] = ()
    predictions: int = 1
    packed: bool = False
    aside: tuple[str, ...] = ()
    grow: Callable[[Mapping[str, Any], Sequence[int]], Mapping[str, Any]] = grow_nothing
    prepares: Callable[[Mapping[str, Any]], bool] = prepares_nothing
    text_entry: Callable[[nn.Module], str | None] = no_entry
    text_trunk: tuple[str, ...] = ()
    trunk_arguments: tuple[str, ...] = ()
    read_in: Mapping[str, Callable[[nn.Module], Sequence[str]]] = field(
        default_factory=dict[str, Callable[[nn.Module], Sequence[str]]]
    )
    taken_singly: tuple[str, ...] = ()
    convention: Convention = Convention()
    conventions: Mapping[str, Convention] = field(default_factory=dict[str, Convention])
    guess: bool = False

    def convention_of(self, pipe: object) -> Convention:
        """The row convention of a pipeline: its own attribute ``pag_convention``, or what is known of its class."""
        if isinstance(own := getattr(pipe, "pag_convention", None), Convention):
            return own
        for base in type(pipe).__mro__:
            if base.__name__ in self.conventions:
                return self.conventions[base.__name__]
        return self.convention

    def recommended(self, model: nn.Module) -> Layers:
        """The recommended layers of a model: its own, else the family's, else the middle one."""
        if own := self.layers_of(model):
            return own
        sites = self.sites(model)
        if isinstance(self.layers, tuple) and any(name in site.path for name in self.layers for site in sites):
            return self.layers
        depth = 0.5 if isinstance(self.layers, tuple) else self.layers
        blocks = list(dict.fromkeys(site.block or site.path for site in sites))
        chosen = blocks[min(int(depth * len(blocks)), len(blocks) - 1)]
        return next(site.path for site in sites if chosen in (site.block, site.path))

    @property
    def image_alone(self) -> bool:
        """Whether at its sites, as far as is known, the tokens of the image attend to one another and to nothing else.

        Sites that keep keys for later calls do not count: they cannot be run twice if it turns out otherwise.
        """
        return self.image is every_token and not (self.stores or self.paired_arguments or self.packed or self.guess)

    def carries_rows(self, name: str) -> bool:
        """Whether an argument of a module inside the network may carry rows, by its name."""
        return name in self.row_tables or not (name in self.tables or _TABLE.search(name))
