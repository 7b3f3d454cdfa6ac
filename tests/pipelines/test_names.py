"""For each pipeline class of diffusers there is a PAG class, under a name that is formed from its own."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.import_utils import DummyObject

import pag
from pag.pipelines import PAGMixin, pipeline_class, pipeline_names
from pag.pipelines._arguments import CALL_ARGUMENTS
from tests import zoo

NAMES = pipeline_names()


def made(plain: str = "StableDiffusionUpscalePipeline", kind: str = "upscaler", **settings: Any) -> Any:
    """The PAG sister on a tiny network; diffusers has no PAG class of this name."""
    sister: Any = pipeline_class(plain.replace("Pipeline", "PAGPipeline"))
    words = {"tokenizer": zoo.tokenizer(), "text_encoder": zoo.text_encoder()}
    pipe = sister(**zoo.pipeline(plain, kind, vae=zoo.vae(scaling_factor=0.08333), **words).components, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_every_current_pipeline_with_a_denoiser_has_a_name() -> None:
    plain = [getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Pipeline") and "PAG" not in name]
    pipelines = [cls for cls in plain if isinstance(cls, type) and issubclass(cls, DiffusionPipeline)]
    without = {cls.__name__ for cls in pipelines if ".deprecated." not in cls.__module__} - {
        pipeline_class(name).__mro__[2].__name__ for name in NAMES
    }
    # Priors, upsamplers, decoders and language models: nothing in them is a `unet` or a `transformer`.
    assert without == {
        "DiffusionGemmaPipeline",
        "DiffusionPipeline",
        "FluxPriorReduxPipeline",
        "KandinskyPriorPipeline",
        "KandinskyV22PriorEmb2EmbPipeline",
        "KandinskyV22PriorPipeline",
        "LLaDA2Pipeline",
        "LTX2LatentUpsamplePipeline",
        "LTX2VideoDiffusionDecodePipeline",
        "LTXLatentUpsamplePipeline",
        "ShapEImg2ImgPipeline",
        "ShapEPipeline",
        "StableCascadeCombinedPipeline",
        "StableCascadeDecoderPipeline",
        "StableCascadePriorPipeline",
    }
    assert len(NAMES) >= 200
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_class(name: str) -> None:
    cls: Any = getattr(pag, name)
    plain = cls.__mro__[2]
    assert (cls.__name__, issubclass(cls, PAGMixin)) == (name, True)
    assert cls is getattr(pag, name)
    assert cls is pag.pag_pipeline(plain)
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert plain is getattr(diffusers, plain.__name__)

    call = inspect.signature(cls.__call__).parameters
    assert list(inspect.signature(plain.__call__).parameters) == [
        argument for argument in call if argument not in pag_arguments(cls)
    ]
    assert list(inspect.signature(plain.__init__).parameters) == [
        argument for argument in inspect.signature(cls.__init__).parameters if argument != "pag_applied_layers"
    ]
    text = inspect.getdoc(cls.__call__) or ""
    for argument in pag_arguments(cls):
        assert len(re.findall(rf"^ +{argument} \(.+\):", text, re.MULTILINE)) == 1, argument
    assert re.search(rf"^ +{'pag_applied_layers'} \(.+\):", inspect.getdoc(cls) or "", re.MULTILINE)
    assert (cls.__doc__ or "").startswith(plain.__name__) or name == "StableDiffusionPAGPipeline"


def pag_arguments(cls: Any) -> list[str]:
    rescale = ["guidance_rescale"] if cls.__name__ == "StableDiffusionPAGInpaintPipeline" else []
    return [argument.name for argument in CALL_ARGUMENTS] + rescale


@pytest.mark.parametrize("name", NAMES)
def test_example_names_the_class(name: str) -> None:
    text = getattr(pag, name).__call__.__doc__
    sections = re.findall(r"^ *Examples?:\n(.*?)(?=^ *Returns:|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(sections) == 1
    example = sections[0]
    assert re.search(rf"\b{name}(\.from_pretrained|\.from_pipe)?\(", example)
    assert re.search(rf"from pag import {name}$|^ *>>> import pag$", example, re.MULTILINE)
    plain = getattr(pag, name).__mro__[2].__name__
    assert not re.search(rf"\b{plain}\b|AutoPipelineFor|enable_pag", example)


def test_diffusers_names_and_regular_names_are_one_class() -> None:
    assert pag.StableDiffusionPAGImg2ImgPipeline is pag.StableDiffusionImg2ImgPAGPipeline
    assert pag.StableDiffusionXLControlNetPAGImg2ImgPipeline.__name__ == "StableDiffusionXLControlNetPAGImg2ImgPipeline"
    assert pag.FluxPAGImg2ImgPipeline is pag.FluxImg2ImgPAGPipeline
    assert pag.FluxPAGImg2ImgPipeline.__name__ == "FluxImg2ImgPAGPipeline"


def test_names_are_listed_and_each_can_be_had() -> None:
    assert {"FluxPAGPipeline", "WanPAGPipeline", "StableDiffusion3PAGPipeline", "guide"} <= set(dir(pag))
    assert all(hasattr(pag, name) for name in dir(pag))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FluxPAGPipelin", "There is: .*"),
        ("FluksPAGPipeline", "For diffusers' XPipeline there is XPAGPipeline. Nearest: .*FluxPAGPipeline"),
        ("FluxPipeline", "Nearest: .*FluxPAGPipeline"),
        ("PAGFluxPipeline", "Nearest: .*FluxPAGPipeline"),
        ("FluxPAGPAGPipeline", "Nearest: .*FluxPAGPipeline"),
        ("FluxPriorReduxPAGPipeline", "FluxPriorReduxPipeline has no denoiser to guide"),
        ("giude", "There is: guide"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'pag' has no attribute '{name}'.*{message}"):
        getattr(pag, name)


def test_a_missing_package_is_told() -> None:
    names = [name for name in dir(diffusers) if name.endswith("Pipeline") and "PAG" not in name]
    absent = [name for name in names if isinstance(getattr(diffusers, name), DummyObject) and "Modular" not in name]
    assert absent, "diffusers has pipelines for packages that nobody has all of"
    for name in absent:
        with pytest.raises(ImportError, match=f"{name} requires the .* library but it was not found"):
            getattr(pag, name.replace("Pipeline", "PAGPipeline"))
    assert not {name.replace("Pipeline", "PAGPipeline") for name in absent} & set(dir(pag))


def test_a_broken_package_breaks_no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Partly:
        FluxPipeline = diffusers.FluxPipeline

        @property
        def SanaPipeline(self) -> Any:  # noqa: N802
            raise RuntimeError("Failed to import")

    monkeypatch.setattr("pag.pipelines._names.diffusers", Partly())
    assert pipeline_names() == ("FluxPAGPipeline",)


def test_names_need_no_diffusers_until_they_are_asked_for() -> None:
    code = "import sys, pag; hasattr(pag, 'nothing'); assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_objects_pickle_and_copy() -> None:
    pipe = made(pag_applied_layers=["m0"])
    again = pickle.loads(pickle.dumps(pipe))
    assert type(again) is type(pipe) is type(copy.deepcopy(pipe))
    assert again.pag_applied_layers == ["m0"]


def test_a_saved_pipeline_loads_in_both_ways(tmp_path: Path) -> None:
    pipe = made(pag_applied_layers=["m0", "u1"])
    pipe.save_pretrained(tmp_path)
    assert type(pipe).from_pretrained(tmp_path).pag_applied_layers == ["m0", "u1"]
    # diffusers has no class of ours to load, so the folder names the plain one.
    plain: Any = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(plain) is diffusers.StableDiffusionUpscalePipeline
    assert not hasattr(plain, "pag_applied_layers")


def test_default_layers_are_those_of_the_family(tmp_path: Path) -> None:
    pipe = made()
    assert pipe.pag_applied_layers == ["auto"]
    pipe.save_pretrained(tmp_path)
    assert type(pipe).from_pretrained(tmp_path).pag_applied_layers == ["auto"]
    recommended = [site.path for site in pag.guide(pipe, 1.0).sites]
    assert [f"{path}.processor" for path in recommended] == list(pipe.pag_attn_processors)
    for layers in (None, "auto", ["auto"]):
        pipe.set_pag_applied_layers(["d0"])
        pipe.set_pag_applied_layers(layers)
        assert [f"{path}.processor" for path in recommended] == list(pipe.pag_attn_processors)


def test_a_pipeline_without_its_denoiser_can_be_made() -> None:
    """To encode prompts only, say."""
    parts = made().components | {"unet": None}
    assert pag.StableDiffusionUpscalePAGPipeline(**parts).pag_applied_layers == ["auto"]


def test_from_pipe_shares_components_and_casts_none() -> None:
    plain: Any = zoo.pipeline("StableDiffusionUpscalePipeline", "upscaler", vae=zoo.vae(scaling_factor=0.08333))
    plain.unet.to(torch.bfloat16)
    pipe = pag.StableDiffusionUpscalePAGPipeline.from_pipe(plain)
    assert all(part is plain.components[name] for name, part in pipe.components.items())
    assert (pipe.unet.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.float32)
    assert pag.StableDiffusionUpscalePAGPipeline.from_pipe(plain, dtype=torch.float32).unet.dtype == torch.float32
    assert pipe.to(torch.bfloat16).vae.dtype == torch.bfloat16


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_a_run_is_that_of_guide(scale: float) -> None:
    pipe = made()
    plain = diffusers.StableDiffusionUpscalePipeline(**pipe.components, max_noise_level=350)
    plain.set_progress_bar_config(disable=True)
    run: dict[str, Any] = {"prompt": "a b", "image": zoo.picture(size=zoo.SIZE), "noise_level": 20}
    with pag.guide(plain, scale):
        expected = zoo.sample(plain, **run)
    assert torch.equal(zoo.sample(pipe, pag_scale=scale, **run), expected)
    assert (zoo.difference(zoo.sample(plain, **run), expected) > 1e-3) == (scale > 0)
