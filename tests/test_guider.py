"""The guider on whole runs of modular pipelines: each gives what separate calls and the formula give."""

import copy
import gc
import json
import pickle
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.guiders.ltx2_guidance import LTX2Guidance
from diffusers.modular_pipelines import ComponentSpec
from torch import Tensor

import pag
from pag import PerturbedAttentionGuider, _guider
from pag.families._generic import generic_family
from tests import zoo
from tests.modular import RUNS, Formula, ModularRun
from tests.runs import RUNS as STANDARD_RUNS

G, S = 4.0, 3.0
SDXL, SD3, WAN = RUNS["StableDiffusionXLAutoBlocks"], RUNS["StableDiffusion3AutoBlocks"], RUNS["WanBlocks"]


@pytest.mark.parametrize(
    ("name", "g"),
    [
        pytest.param(name, g, id=f"{name}-{'alone' if g is None else 'cfg'}")
        for name, run in RUNS.items()
        for g in (None, G)
        if g is None or not run.distilled
    ],
)
def test_a_run_gives_the_formula(name: str, g: float | None):
    run = RUNS[name]
    pipe = run.make()
    plain = run.sample(pipe, Formula(run, g))
    expected = run.sample(pipe, Formula(run, g, S))
    assert zoo.difference(expected, plain) > 1e-3, "guidance cannot be seen here"
    scale = 1.0 if g is None else g
    assert zoo.difference(run.sample(pipe, PerturbedAttentionGuider(scale, S, run.path)), expected) <= 1e-4
    assert run.sample(pipe, PerturbedAttentionGuider(scale, 0.0, run.path)).equal(plain)


def has_guider(name: str) -> bool:
    keys, _ = DiffusionPipeline._get_signature_keys(getattr(diffusers, name.split(":")[0]))  # pyright: ignore
    return "guider" in keys


@pytest.mark.parametrize("name", [name for name in STANDARD_RUNS if has_guider(name)])
@pytest.mark.parametrize("g", [None, G], ids=["alone", "cfg"])
def test_a_run_of_a_standard_pipeline_that_has_a_guider(name: str, g: float | None):
    run = STANDARD_RUNS[name]
    pipe, results = run.make(), list[Tensor]()
    for guider in (Formula(run, g), Formula(run, g, S), PerturbedAttentionGuider(1.0 if g is None else g, S, run.path)):
        pipe.register_modules(guider=guider)
        results.append(run.sample(pipe))
    plain, expected, result = results
    assert zoo.difference(expected, plain) > 1e-3, "guidance cannot be seen here"
    assert zoo.difference(result, expected) <= 1e-4


def check(guider: Any, formula: Formula, run: ModularRun = SD3) -> None:
    pipe = run.make()
    assert zoo.difference(run.sample(pipe, guider), run.sample(pipe, formula)) <= 1e-4


@contextmanager
def rows(model: torch.nn.Module) -> Generator[list[int]]:
    """The number of rows of each forward of the network itself."""
    counts: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: counts.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    with handle:
        yield counts


@pytest.mark.parametrize("g", [1.0, G])
def test_without_pag_it_is_classifier_free_guidance(g: float):
    pipe = SD3.make()
    expected = SD3.sample(pipe, ClassifierFreeGuidance(g, guidance_rescale=0.5))
    result = SD3.sample(pipe, PerturbedAttentionGuider(g, 0.0, guidance_rescale=0.5))
    assert zoo.difference(result, expected) <= 1e-6


class TestScale:
    def test_guidance_scale_0_is_no_cfg_as_in_the_paper(self):
        check(PerturbedAttentionGuider(0.0, S, SD3.path), Formula(SD3, None, S))

    def test_the_original_formulation_is_shifted_by_1(self):
        original = PerturbedAttentionGuider(G - 1, S, SD3.path, use_original_formulation=True)
        check(original, Formula(SD3, G, S))
        check(PerturbedAttentionGuider(0.0, S, SD3.path, use_original_formulation=True), Formula(SD3, None, S))

    @pytest.mark.parametrize("g", [None, G])
    def test_rescaling_is_towards_the_prompt_s_own_prediction(self, g: float | None):
        guider = PerturbedAttentionGuider(1.0 if g is None else g, S, SD3.path, guidance_rescale=0.7)
        check(guider, Formula(SD3, g, S, rescale=0.7))

    def test_the_adaptive_scale_falls_with_the_timestep(self):
        guider = PerturbedAttentionGuider(G, S, SD3.path, pag_adaptive_scale=0.004)
        check(guider, Formula(SD3, G, lambda _, t: max(0.0, S - 0.004 * (1000 - t))))

    @pytest.mark.parametrize(
        ("start", "stop", "steps"), [(0.0, 0.3, {0, 1}), (0.3, 0.7, {2}), (0.75, 1.0, {3}), (0.0, 0.01, {0})]
    )
    def test_an_interval_of_steps(self, start: float, stop: float, steps: set[int]):
        guider = PerturbedAttentionGuider(G, S, SD3.path, pag_start=start, pag_stop=stop)
        formula, pipe = Formula(SD3, G, lambda step, _: S if step in steps else 0.0), SD3.make()
        expected = SD3.sample(pipe, formula, num_inference_steps=4)
        with rows(pipe.transformer) as counts:
            result = SD3.sample(pipe, guider, num_inference_steps=4)
        assert zoo.difference(result, expected) <= 1e-4
        assert counts == [count for step in range(4) for count in ((2, 1) if step in steps else (1, 1))]

    def test_cfg_has_an_interval_of_its_own(self):
        guider, pipe = PerturbedAttentionGuider(G, S, SD3.path, start=0.5), SD3.make()
        with rows(pipe.transformer) as counts:
            SD3.sample(pipe, guider, num_inference_steps=4)
        assert counts == [2, 2, 2, 1, 2, 1]

    def test_disabled_it_does_nothing(self):
        pipe, guider = SD3.make(), PerturbedAttentionGuider(G, S, SD3.path, enabled=False)
        expected = SD3.sample(pipe, ClassifierFreeGuidance(enabled=False))
        assert SD3.sample(pipe, guider).equal(expected)
        guider.enable()
        assert not SD3.sample(pipe, guider).equal(expected)
        guider.disable()
        assert SD3.sample(pipe, guider).equal(expected)


class TestLayers:
    @pytest.mark.parametrize("layers", [1, "1", "blocks.1", [1], ["transformer_blocks.1.attn"]])
    def test_names_and_indices_of_blocks(self, layers: Any):
        pipe = SD3.make()
        expected = SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path))
        assert SD3.sample(pipe, PerturbedAttentionGuider(G, S, layers)).equal(expected)

    @pytest.mark.parametrize("layers", [None, "auto"])
    def test_the_default_is_the_recommended_layer(self, layers: str | None):
        pipe = SDXL.make()
        recommended = "mid_block.attentions.0.transformer_blocks"
        result = SDXL.sample(pipe, PerturbedAttentionGuider(G, S, layers))
        assert result.equal(SDXL.sample(pipe, PerturbedAttentionGuider(G, S, recommended)))

    def test_a_layer_that_does_not_exist(self):
        pipe = SD3.make()
        with pytest.raises(ValueError, match=r"'blocks.7' matches nothing.*transformer_blocks.0.attn"):
            SD3.sample(pipe, PerturbedAttentionGuider(G, S, "blocks.7"))

    @pytest.mark.parametrize("layers", [[], 1.5, [None], True, {"mid"}])
    def test_what_is_no_layer(self, layers: Any):
        with pytest.raises(TypeError, match="pag_applied_layers must be"):
            PerturbedAttentionGuider(pag_applied_layers=layers)

    @pytest.mark.parametrize("name", ["pag_scale", "pag_adaptive_scale", "pag_start", "pag_stop"])
    def test_a_number_out_of_range_is_told_by_its_own_name(self, name: str):
        with pytest.raises(ValueError, match=f"^{name} must be a.*number.*-1"):
            PerturbedAttentionGuider(**{name: -1.0})  # pyright: ignore

    @pytest.mark.parametrize(
        "wrong", [{"pag_scale": -1.0}, {"pag_adaptive_scale": -1.0}, {"pag_start": 0.5, "pag_stop": 0.5}]
    )
    def test_numbers_out_of_range(self, wrong: dict[str, Any]):
        with pytest.raises(ValueError, match="must be"):
            PerturbedAttentionGuider(**wrong)


def test_rows_are_shared_ahead_of_the_perturbed_layer():
    pipe, counts = SD3.make(), list[int]()
    pipe.transformer.transformer_blocks[0].attn.to_q.register_forward_pre_hook(
        lambda _, args: counts.append(len(args[0]))
    )
    SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path))
    assert counts == [1] * 6


def test_several_images():
    """Each row of the batch is guided by itself."""
    pipe = SD3.make()
    given = {"num_images_per_prompt": 2}
    expected = SD3.sample(pipe, Formula(SD3, G, S), **given)
    assert expected.shape[0] == 2
    assert zoo.difference(SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path), **given), expected) <= 1e-4


def test_half_precision_is_as_close_as_the_network_itself():
    pipe, half = SD3.make(), SD3.make()
    half.transformer.to(torch.bfloat16)
    given = {name: value.bfloat16() if isinstance(value, Tensor) else value for name, value in SD3.arguments().items()}
    latents = torch.randn(1, 4, 8, 8)
    plain = [
        SD3.sample(one, ClassifierFreeGuidance(1.0), **more, latents=latents.to(dtype))
        for one, more, dtype in ((pipe, {}, torch.float32), (half, given, torch.bfloat16))
    ]
    guided = [
        SD3.sample(one, PerturbedAttentionGuider(1.0, S, SD3.path), **more, latents=latents.to(dtype))
        for one, more, dtype in ((pipe, {}, torch.float32), (half, given, torch.bfloat16))
    ]
    # The formula takes 4 times the error of one prediction and 3 times that of another one.
    assert zoo.difference(guided[1].float(), guided[0]) <= 7 * zoo.difference(plain[1].float(), plain[0])


class TestConfig:
    SETTINGS: dict[str, Any] = {  # noqa: RUF012
        "guidance_scale": 4.0,
        "pag_scale": 2.5,
        "pag_applied_layers": ["blocks.1", 2],
        "pag_adaptive_scale": 0.001,
        "pag_start": 0.1,
        "pag_stop": 0.9,
        "guidance_rescale": 0.5,
        "use_original_formulation": True,
        "start": 0.2,
        "stop": 0.8,
        "enabled": False,
        "reuse": {"pag": 4, "cfg": 3, "repay": 0.5, "gate": 0.99},
        "low_memory": True,
    }

    def test_every_setting_is_saved(self, tmp_path: Path):
        PerturbedAttentionGuider(**self.SETTINGS).save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "guider_config.json").read_text())
        assert saved.pop("_class_name") == "PerturbedAttentionGuider"
        saved.pop("_diffusers_version")
        assert saved == self.SETTINGS
        loaded: Any = PerturbedAttentionGuider.from_pretrained(tmp_path)
        assert {name: loaded.config[name] for name in self.SETTINGS} == self.SETTINGS
        assert (loaded.pag_scale, loaded.pag_applied_layers) == (2.5, ["blocks.1", "2"])

    def test_new_keeps_what_was_given_by_position(self):
        guider: Any = PerturbedAttentionGuider(4.0, 2.5).new(pag_stop=0.5)
        assert (guider.guidance_scale, guider.pag_scale, guider.config.pag_stop) == (4.0, 2.5, 0.5)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_a_copy(self, copied: Callable[[Any], Any]):
        pipe, guider = SD3.make(), PerturbedAttentionGuider(G, S, SD3.path)
        expected = SD3.sample(pipe, guider)
        assert SD3.sample(pipe, copied(guider)).equal(expected)

    def test_it_is_loaded_as_a_component(self, tmp_path: Path):
        """diffusers saves no guider along with a modular pipeline, but loads one into it."""
        PerturbedAttentionGuider(G, S, SD3.path).save_pretrained(tmp_path / "guider")
        spec = ComponentSpec(
            name="guider",
            type_hint=PerturbedAttentionGuider,
            pretrained_model_name_or_path=str(tmp_path),
            subfolder="guider",
        )
        pipe = SD3.make()
        expected = SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path))
        assert SD3.sample(pipe, spec.load()).equal(expected)

    def test_a_standard_pipeline_is_saved_with_it(self, tmp_path: Path):
        pipe = STANDARD_RUNS["HunyuanVideo15Pipeline"].make()
        pipe.register_modules(guider=PerturbedAttentionGuider(G, S, 1))
        pipe.save_pretrained(tmp_path)
        absent = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        loaded = type(pipe).from_pretrained(tmp_path, **absent)
        assert isinstance(loaded.guider, PerturbedAttentionGuider)
        assert (loaded.guider.guidance_scale, loaded.guider.pag_applied_layers) == (G, ["1"])


class TestAnInterruptedRun:
    """Nothing that is left over can be seen, by the guider itself or by anybody else."""

    @pytest.fixture
    def run(self) -> ModularRun:
        return SD3

    def break_at(self, pipe: Any, where: str, call: int) -> Any:
        """Make one call of the network, or of what runs ahead of it, raise."""
        guider, seen = PerturbedAttentionGuider(G, S, SD3.path), [0]
        target: Any = guider if where == "prepare_models" else pipe.transformer.transformer_blocks[2]
        name = "prepare_models" if target is guider else "forward"
        plain = getattr(target, name)

        def raising(*args: Any, **kwargs: Any) -> Any:
            seen[0] += 1
            result = plain(*args, **kwargs)
            if seen[0] == call:
                raise KeyboardInterrupt
            return result

        setattr(target, name, raising)
        with pytest.raises(KeyboardInterrupt):
            SD3.sample(pipe, guider)
        delattr(target, name)
        return guider

    @pytest.mark.parametrize("call", [1, 2, 3, 4])
    @pytest.mark.parametrize("where", ["prepare_models", "block"])
    def test_the_next_run_is_as_ever(self, where: str, call: int):
        pipe = SD3.make()
        plain = SD3.sample(pipe, ClassifierFreeGuidance(G))
        guided = SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path))
        for again in (lambda guider: guider, lambda _: PerturbedAttentionGuider(G, S, SD3.path)):
            guider = self.break_at(pipe, where, call)
            assert SD3.sample(pipe, again(guider)).equal(guided)
            self.break_at(pipe, where, call)
            assert SD3.sample(pipe, ClassifierFreeGuidance(G)).equal(plain)


def test_a_run_leaves_the_network_as_it_was():
    pipe = SD3.make()
    before = {name: set(vars(module)) for name, module in pipe.transformer.named_modules()}
    SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path))
    assert {name: set(vars(module)) for name, module in pipe.transformer.named_modules()} == before


def test_low_memory_gives_the_same_in_another_pass():
    pipe = SD3.make()
    expected = SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path))
    with rows(pipe.transformer) as counts:
        result = SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path, low_memory=True))
    assert zoo.difference(result, expected) <= 1e-5
    assert counts == [1] * 9  # for each of three steps: prompt, perturbed, negative prompt


def test_a_guider_does_not_keep_the_network_alive():
    pipe, guider = SD3.make(), PerturbedAttentionGuider(G, S, SD3.path)
    SD3.sample(pipe, guider)
    network = weakref.ref(pipe.transformer)
    del pipe
    gc.collect()
    assert network() is None


def test_an_unknown_network_is_checked_once_in_a_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_guider, "family_of", generic_family)
    pipe = WAN.make()
    expected = WAN.sample(pipe, Formula(WAN, G, S))
    with rows(pipe.transformer) as counts:
        result = WAN.sample(pipe, PerturbedAttentionGuider(G, S, WAN.path))
    assert zoo.difference(result, expected) <= 1e-4
    assert counts == [2, 1, 1, 2, 1, 2, 1]  # the second is the check


def test_a_modular_pipeline_is_not_guided_from_outside():
    with pytest.raises(TypeError, match=r"leaves guidance to its guider.*PerturbedAttentionGuider"):
        pag.guide(SD3.make(), S)


def test_a_denoiser_is_not_guided_twice():
    pipe = SD3.make()
    other = zoo.pipeline()
    other.unet, other.transformer = None, pipe.transformer
    with pag.guide(other, S), pytest.raises(RuntimeError, match="guided already"):
        SD3.sample(pipe, PerturbedAttentionGuider(G, S, SD3.path))


class TestVideoWithSound:
    """LTX-2 has a guider for each, of which only that of the video is told of the denoiser's calls."""

    run = RUNS["LTX2AutoBlocks"]

    def test_each_has_its_own_settings(self):
        pipe = self.run.make()
        guiders = PerturbedAttentionGuider(G, S, self.run.path), PerturbedAttentionGuider(1.0, 1.5)
        formulas = Formula(self.run, G, S), Formula(self.run, None, 1.5)
        assert zoo.difference(self.run.sample(pipe, *guiders), self.run.sample(pipe, *formulas)) <= 1e-4

    def test_the_sound_alone_cannot_be_guided(self):
        with pytest.raises(RuntimeError, match="was not perturbed"):
            self.run.sample(self.run.make(), LTX2Guidance(), PerturbedAttentionGuider(1.0, S, self.run.path))


def test_a_loop_that_cannot_be_followed_is_an_error():
    pipe, guider = SD3.make(), PerturbedAttentionGuider(G, S, SD3.path)
    guider.set_state(0, 1, torch.tensor(1000.0))
    batches = guider.prepare_inputs({"encoder_hidden_states": (torch.zeros(1), torch.zeros(1))})
    for index in range(len(batches)):
        guider.prepare_models(pipe.transformer)
        batches[index].noise_pred = torch.zeros(1)
        guider.cleanup_models(pipe.transformer)
    with pytest.raises(RuntimeError, match="was not perturbed"):
        guider(batches)
