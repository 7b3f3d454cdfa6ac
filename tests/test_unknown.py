"""Denoisers that nobody knows: read by their structure and checked, or refused with a word on what to write."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

import pag
from pag import _guide
from pag.families import Convention, Family, after_text, family_of, register, transformer_sites, unregister
from pag.families._generic import generic_family
from tests import masked, test_denoisers, zoo
from tests.denoisers import NETWORKS

G, S = 4.0, 3.0
WIDTH, TEXT = 16, 5
PATH = "layers.1.attn1"


class Block(nn.Module):
    """Self-attention, then attention to the text."""

    def __init__(self, cross: bool = True) -> None:
        super().__init__()
        self.attn1 = Attention(WIDTH, heads=2, dim_head=8)
        self.attn2 = Attention(WIDTH, cross_attention_dim=WIDTH, heads=2, dim_head=8) if cross else None

    def forward(self, tokens: Tensor, text: Tensor) -> Tensor:
        tokens = tokens + self.attn1(tokens)
        return tokens if self.attn2 is None else tokens + self.attn2(tokens, text)


class TinyDiT(nn.Module):
    """A transformer of one's own: patches of one pixel, no class of diffusers."""

    def __init__(self, cross: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.layers = nn.ModuleList([Block(cross) for _ in range(3)])
        self.eval().requires_grad_(False)

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor]:
        rows, _, height, width = hidden_states.shape
        tokens = self.enter(hidden_states.flatten(2).transpose(1, 2)) + timestep.reshape(-1, 1, 1) / 1000
        for layer in self.layers:
            tokens = layer(tokens, encoder_hidden_states)
        return (self.leave(tokens).transpose(1, 2).reshape(rows, 4, height, width),)


class InOneSequence(TinyDiT):
    """The text goes ahead of the image, into the same sequence."""

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor]:
        rows, _, height, width = hidden_states.shape
        tokens = self.enter(hidden_states.flatten(2).transpose(1, 2)) + timestep.reshape(-1, 1, 1) / 1000
        tokens = torch.cat([encoder_hidden_states, tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, encoder_hidden_states)
        return (self.leave(tokens[:, TEXT:]).transpose(1, 2).reshape(rows, 4, height, width),)


def windowed(attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An attention processor with a mask of (queries, keys), by which tokens see none that is far ahead."""
    q, k, v = (
        project(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        for project in (attn.to_q, attn.to_k, attn.to_v)
    )
    mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(8)
    answers = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return attn.to_out[0](answers.transpose(1, 2).flatten(2))


class OnePipeline(DiffusionPipeline):
    """The least that a pipeline is: CFG with both rows in one call."""

    def __init__(self, transformer: nn.Module, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(scheduler=scheduler)
        self.transformer = transformer

    @torch.no_grad()
    def __call__(self, guidance_scale: float = G, rows: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        sample, u, c = (torch.randn(rows, *shape, generator=generator) for shape in ((4, 4, 4), *[(TEXT, WIDTH)] * 2))
        do_classifier_free_guidance = guidance_scale > 1
        self.scheduler.set_timesteps(3)
        timesteps = self.scheduler.timesteps
        for t in timesteps:
            if do_classifier_free_guidance:
                pred = self.guided(sample, t, u, c, guidance_scale)
            else:
                pred = self.transformer(sample, t.expand(rows), c)[0]
            sample = self.scheduler.step(pred, t, sample)[0]
        return sample

    def guided(self, sample: Tensor, t: Tensor, u: Tensor, c: Tensor, guidance_scale: float) -> Tensor:
        both = self.transformer(torch.cat([sample] * 2), timestep=t, encoder_hidden_states=torch.cat([u, c]))[0]
        uncond, cond = both.chunk(2)
        return uncond + guidance_scale * (cond - uncond)


class TwoCalls(OnePipeline):
    def guided(self, sample: Tensor, t: Tensor, u: Tensor, c: Tensor, guidance_scale: float) -> Tensor:
        cond, uncond = (self.transformer(sample, timestep=t, encoder_hidden_states=text)[0] for text in (c, u))
        return uncond + guidance_scale * (cond - uncond)


def pipeline(model: nn.Module | None = None, cls: type[OnePipeline] = OnePipeline) -> Any:
    return cls(TinyDiT() if model is None else model, DDIMScheduler())


class ByHand(nn.Module):
    """The network with ``δ`` in all rows, from separate calls."""

    def __init__(self, model: nn.Module, image: slice | None = None, rows: int = 2) -> None:
        super().__init__()
        self.model, self.image, self.rows = model, image, rows
        self.delta = torch.zeros(())

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor]:
        given = (hidden_states, timestep, encoder_hidden_states)
        plain = self.model(*given)[0]
        with masked.perturbed(self.model, PATH, self.image):
            worse = self.model(*given)[0]
        cond = (plain - worse)[-self.rows :]
        return (plain + S * torch.cat([cond] * (len(plain) // self.rows)),)


READABLE = ("dit", "pixart", "sana", "wan", "cosmos")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_known_network_taken_for_unknown_is_guided_right_or_not_at_all(name: str, monkeypatch: pytest.MonkeyPatch):
    network = NETWORKS[name]
    step, path = test_denoisers.Step(network.model(), G), network.paths[-1]
    monkeypatch.setattr(_guide, "family_of", generic_family)
    given = test_denoisers.step_arguments(network, G, test_denoisers.rows_of(network, path))
    try:
        with pag.guide(step, S, layers=path):
            result = step(network, given)
    except (TypeError, ValueError, RuntimeError):
        assert name not in READABLE
    else:
        parts = test_denoisers.separate(network, network.model(), G, path, given)
        assert test_denoisers.difference(result, test_denoisers.by_hand(network, G, parts)) <= 1e-5


@pytest.mark.parametrize("guidance_scale", [0.0, G], ids=["alone", "cfg"])
def test_an_unknown_transformer_is_guided(guidance_scale: float):
    model = TinyDiT()
    plain = pipeline(model)(guidance_scale)
    expected = pipeline(ByHand(model))(guidance_scale)
    pipe = pipeline(model)
    with pag.guide(pipe, S, layers=PATH):
        result = pipe(guidance_scale)
    assert zoo.difference(expected, plain) > 1e-3
    assert zoo.difference(result, expected) <= 1e-4
    assert pipe(guidance_scale).equal(plain)


def test_its_layers_have_names():
    sites = pag.sites(TinyDiT())
    assert [(site.path, site.block, site.heads, site.channels) for site in sites] == [
        (f"layers.{index}.attn1", str(index), 2, WIDTH) for index in range(3)
    ]
    assert [site.path for site in pag.guide(pipeline()).sites] == [PATH]
    assert "at layers.1.attn1" in repr(pag.guide(pipeline()))


def test_attention_over_time_is_left_out():
    model: Any = TinyDiT()
    model.temporal_layers, model.layers[1].motion = nn.ModuleList([Block()]), Block()
    assert pag.sites(model) == pag.sites(TinyDiT())


def test_what_it_costs_is_not_known():
    with pytest.raises(TypeError, match="What TinyDiT costs is not known without an example"):
        pag.cost(TinyDiT())


class TestWhatIsRefused:
    """Each with the reason, and an entry that can be copied."""

    def refused(self, model: nn.Module) -> str:
        with pytest.raises(TypeError, match=f"{type(model).__name__} cannot be guided: its family is not known") as no:
            pag.guide(pipeline(model), S)
        return str(no.value)

    def test_text_without_cross_attention(self):
        assert "it takes 'encoder_hidden_states' but has no cross-attention" in self.refused(TinyDiT(cross=False))

    def test_joint_attention(self):
        model: Any = TinyDiT()
        model.layers[2].attn1.add_k_proj = nn.Linear(WIDTH, WIDTH)
        assert "layers.2.attn1 is joint attention" in self.refused(model)

    def test_no_attention(self):
        class Convolutions(nn.Module):
            def forward(self, sample: Tensor, timestep: Tensor) -> None: ...

        assert "no self-attention of diffusers' kind" in self.refused(Convolutions())

    def test_other_arguments(self):
        assert "no arguments 'hidden_states' or 'sample' and 'timestep'" in self.refused(nn.Linear(1, 1))

    def test_the_entry_of_the_message_is_python_that_works(self):
        entry = re.search(r"\n( +from pag.*?\n)\n+Other", self.refused(TinyDiT(cross=False)), re.DOTALL)
        assert entry
        exec(textwrap.dedent(entry[1]), {})
        added = family_of(TinyDiT(cross=False))
        unregister(added)
        assert (added.models, added.image) == (("TinyDiT",), after_text)


class TestWhatIsFoundOutAtRunTime:
    def error(self, kind: type[Exception], match: str, pipe: Any, **arguments: Any) -> None:
        plain = pipe(**arguments)
        with pag.guide(pipe, S, layers=PATH), pytest.raises(kind, match=match):
            pipe(**arguments)
        assert pipe(**arguments).equal(plain)

    def test_text_among_the_image_s_tokens(self):
        pipe = pipeline(InOneSequence())
        self.error(
            ValueError, r"layers.1.attn1 attends with 21 tokens to 21, which are no grid over hidden_states", pipe
        )

    def test_rows_that_depend_on_one_another(self):
        model: Any = TinyDiT()
        model.leave = nn.Sequential(model.leave, nn.BatchNorm1d(16).train())
        self.error(RuntimeError, "rows of TinyDiT depend on one another", pipeline(model))

    def test_an_argument_that_carries_rows_under_another_name(self):
        class Named(TinyDiT):
            def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
                self, hidden_states: Tensor, timestep: Tensor, prompt: Tensor
            ) -> tuple[Tensor]:
                return super().forward(hidden_states, timestep, prompt)

        class Naming(OnePipeline):
            def guided(self, sample: Tensor, t: Tensor, u: Tensor, c: Tensor, guidance_scale: float) -> Tensor:
                uncond, cond = self.transformer(torch.cat([sample] * 2), t, torch.cat([u, c]))[0].chunk(2)
                return uncond + guidance_scale * (cond - uncond)

        self.error(RuntimeError, "say with `row_arguments`", pipeline(Named(), Naming))

    def test_several_outputs(self):
        class Two(TinyDiT):
            def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
                (one,) = super().forward(hidden_states, timestep, encoder_hidden_states)
                return one, one

        self.error(TypeError, "Two returns 2 tensors", pipeline(Two()))

    @pytest.mark.parametrize("rows", [1, 2])
    def test_two_calls_a_step(self, rows: int):
        pipe = pipeline(cls=TwoCalls)
        self.error(ValueError, "TwoCalls (passed 1 rows|does not pass each sample once more)", pipe, rows=rows)

    def test_two_calls_a_step_where_nothing_tells_of_cfg(self):
        class Silent(TwoCalls):
            def guided(self, sample: Tensor, t: Tensor, u: Tensor, c: Tensor, guidance_scale: float) -> Tensor:
                return super().guided(sample, t, u, c, guidance_scale)

            def __call__(self, guidance_scale: float = G, rows: int = 2) -> Tensor:
                self.scheduler.set_timesteps(3)
                timesteps, sample = self.scheduler.timesteps, torch.ones(rows, 4, 4, 4)
                sample[0] = 0
                for t in timesteps:
                    u, c = torch.zeros(rows, TEXT, WIDTH), torch.ones(rows, TEXT, WIDTH)
                    sample = self.scheduler.step(self.guided(sample, t, u, c, guidance_scale), t, sample)[0]
                return sample

        self.error(ValueError, "Silent calls its denoiser several times a step", pipeline(cls=Silent))

    def test_the_check_is_made_once(self):
        pipe, calls = pipeline(), [0]
        pipe.transformer.enter.register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
        with pag.guide(pipe, S):
            pipe()
            pipe()
        assert calls[0] == 6 + 1

    def test_the_check_is_made_of_the_rows_that_are_run(self):
        """Where the first step that is guided reuses the delta of an earlier one."""
        pipe, rows = pipeline(), list[int]()
        pipe.transformer.enter.register_forward_pre_hook(lambda _module, args: rows.append(len(args[0])))
        with pag.guide(pipe, S, layers=PATH, start=0.5, share_rows=False, reuse=pag.Reuse(cfg=3)):
            pipe()
        assert rows == [4, 4, 2, 4]


def test_a_pipeline_tells_its_convention():
    model = TinyDiT()
    pipe, reference = pipeline(model, TwoCalls), pipeline(model)
    pipe.pag_convention = Convention(calls=("cond", "uncond"))
    with pag.guide(reference, S, layers=PATH):
        expected = reference()
    with pag.guide(pipe, S, layers=PATH):
        assert zoo.difference(pipe(), expected) <= 1e-4


class TestAnEntry:
    @pytest.fixture(autouse=True)
    def entry(self) -> Iterator[Family]:
        family = register(
            Family(
                models=("InOneSequence",),
                sites=transformer_sites("layers"),
                image=after_text,
                conventions={"TwoCalls": Convention(calls=("cond", "uncond"))},
            )
        )
        yield family
        unregister(family)

    @pytest.mark.parametrize("cls", [OnePipeline, TwoCalls])
    def test_it_is_all_that_is_needed(self, cls: type[OnePipeline]):
        model = InOneSequence()
        expected = pipeline(ByHand(model, slice(TEXT, TEXT + 16)))()
        pipe = pipeline(model, cls)
        with pag.guide(pipe, S, layers="1"):
            assert zoo.difference(pipe(), expected) <= 1e-4

    def test_a_mask_may_be_one_for_all_rows(self):
        """Of 21 tokens by 21: in a call of three rows it must not be taken for seven entries of each."""
        model: Any = InOneSequence()
        for layer in model.layers:
            layer.attn1.processor = windowed
        expected = pipeline(ByHand(model, slice(TEXT, TEXT + 16), rows=1))(rows=1)
        pipe = pipeline(model)
        with pag.guide(pipe, S, layers="1"):
            assert zoo.difference(pipe(rows=1), expected) <= 1e-4

    def test_it_ends(self, entry: Family):
        unregister(entry)
        with pytest.raises(ValueError, match="not registered"):
            unregister(entry)
        assert family_of(InOneSequence()).guess
        register(entry)

    def test_it_comes_ahead_of_what_is_known(self):
        mine = register(Family(models=("UNet2DConditionModel",), sites=family_of(zoo.unet()).sites))
        assert family_of(zoo.unet()) is mine
        unregister(mine)
        assert family_of(zoo.unet()) is not mine

    def test_it_serves_classes_derived_from_it(self, entry: Family):
        class Mine(InOneSequence):
            pass

        assert family_of(Mine()) is entry


def test_families_are_at_hand():
    code = "import pag; print(pag.families.Convention.__name__)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        == "Convention\n"
    )


def test_what_is_no_entry():
    with pytest.raises(TypeError, match=r"Expected a pag.families.Family"):
        register(TinyDiT)  # pyright: ignore
    with pytest.raises(TypeError, match="models must be a tuple"):
        register(Family(models="TinyDiT", sites=transformer_sites("layers")))  # pyright: ignore
