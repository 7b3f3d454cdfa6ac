"""`pag.pag_pipeline`: the PAG sister of a class that diffusers does not know."""

import inspect
import pickle
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel

import pag
from tests import zoo


class ElsewherePipeline(StableDiffusionPipeline):
    """From elsewhere.

    It has a call of its own.
    """

    def __call__(self, prompt: str, *, shout: bool = False, **kwargs: Any) -> Any:  # pyright: ignore
        """Draw.

        Args:
            prompt (`str`): what to draw.
            shout (`bool`): whether to shout.
            **kwargs: the rest.

        Returns:
            An image.
        """
        return super().__call__(prompt.upper() if shout else prompt, **kwargs)  # pyright: ignore


class Unusual(DiffusionPipeline):
    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__()
        self.register_modules(transformer=transformer)

    def __call__(self) -> None:
        pass


class Nothing(DiffusionPipeline):
    def __init__(self, vae: torch.nn.Module) -> None:
        super().__init__()

    def __call__(self) -> None:
        pass


class Silent(DiffusionPipeline):
    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()


class Taken(ElsewherePipeline):
    def __call__(self, prompt: str, pag_scale: float = 1.0) -> Any:  # pyright: ignore
        pass


class Peer(diffusers.StableDiffusionPAGPipeline):
    pass


def pipe_of(cls: Any, **settings: Any) -> Any:
    parts = zoo.pipeline(tokenizer=zoo.tokenizer(), text_encoder=zoo.text_encoder()).components
    pipe = cls(**parts, requires_safety_checker=False, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_class() -> None:
    cls: Any = pag.pag_pipeline(ElsewherePipeline)
    assert cls is pag.pag_pipeline(ElsewherePipeline) is pag.pag_pipeline(cls)
    assert issubclass(cls, ElsewherePipeline)
    assert (cls.__name__, cls.__qualname__, cls.__module__) == ("ElsewherePAGPipeline",) * 2 + (__name__,)
    parameters = inspect.signature(cls.__call__).parameters
    assert list(parameters)[:3] == ["self", "prompt", "shout"]
    assert list(parameters)[-1] == "kwargs"
    assert parameters["pag_scale"].default == 3.0
    text = inspect.getdoc(cls.__call__) or ""
    assert text.index("shout (") < text.index("pag_scale (") < text.index("Examples:") < text.index("Returns:")
    assert "pag_pipeline(ElsewherePipeline).from_pretrained(model)" in text
    assert "From elsewhere." in (inspect.getdoc(cls) or "")
    assert pag.pag_pipeline(Unusual).__name__ == "UnusualPAGPipeline"


def test_it_pickles_as_the_sister_of_its_base() -> None:
    cls: Any = pag.pag_pipeline(ElsewherePipeline)
    assert pickle.loads(pickle.dumps(cls)) is cls
    again = pickle.loads(pickle.dumps(pipe_of(cls, pag_applied_layers=["d0"])))
    assert (type(again), again.pag_applied_layers) == (cls, ["d0"])

    class Local(ElsewherePipeline):
        pass

    assert pag.pag_pipeline(Local).__qualname__ == f"{Local.__qualname__}PAGPipeline"
    with pytest.raises((pickle.PicklingError, AttributeError), match="Local"):
        pickle.dumps(pag.pag_pipeline(Local))


def test_a_run_is_that_of_guide() -> None:
    pipe, plain = pipe_of(pag.pag_pipeline(ElsewherePipeline)), pipe_of(ElsewherePipeline)
    with pag.guide(plain, 3.0):
        expected = zoo.sample(plain, prompt="a", shout=True)
    assert torch.equal(zoo.sample(pipe, prompt="a", shout=True), expected)
    assert torch.equal(zoo.sample(pipe, prompt="a", shout=True, pag_scale=0), zoo.sample(plain, prompt="a", shout=True))


def test_arguments_that_only_the_class_understands_reach_it() -> None:
    """Elsewhere, `**kwargs` may mean anything, but for names of ours that are misspelt."""
    pipe = pipe_of(pag.pag_pipeline(ElsewherePipeline))
    assert zoo.sample(pipe, prompt="a", eta=0.0).isfinite().all()
    with pytest.raises(TypeError, match=r"no argument 'pag_sclae'. Nearest: pag_scale"):
        zoo.sample(pipe, prompt="a", pag_sclae=2.0)


def test_it_saves_and_loads(tmp_path: Any) -> None:
    cls: Any = pag.pag_pipeline(ElsewherePipeline)
    pipe_of(cls, pag_applied_layers=["d0"]).save_pretrained(tmp_path)
    assert cls.from_pretrained(tmp_path).pag_applied_layers == ["d0"]
    assert type(ElsewherePipeline.from_pretrained(tmp_path)) is ElsewherePipeline
    assert type(cls.from_pipe(StableDiffusionPipeline.from_pretrained(tmp_path))) is cls


def test_classes_that_have_pag() -> None:
    assert pag.pag_pipeline(pag.StableDiffusionPAGPipeline) is pag.StableDiffusionPAGPipeline
    assert pag.pag_pipeline(StableDiffusionPipeline) is pag.StableDiffusionPAGPipeline
    assert pag.pag_pipeline(diffusers.StableDiffusionPAGPipeline) is pag.StableDiffusionPAGPipeline


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "Expected a class of diffusers pipelines, but got int 3"),
        (UNet2DConditionModel, "Expected a class of diffusers pipelines, but got UNet2DConditionModel"),
        (DiffusionPipeline, "DiffusionPipeline has no denoiser to guide"),
        (Nothing, "Nothing has no denoiser to guide: .*unet, transformer"),
        (Silent, "cannot be called"),
        (Taken, "Taken has arguments of its own that are named pag_scale.*pag.guide"),
        (Peer, "Peer adds perturbed rows itself"),
    ],
)
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pag.pag_pipeline(given)


def test_an_instance_is_refused_with_the_way_to_its_class() -> None:
    with pytest.raises(TypeError, match="but got an object of StableDiffusionPipeline: pass its class"):
        pag.pag_pipeline(zoo.pipeline())


def test_a_denoiser_that_cannot_be_guided_is_told_at_once() -> None:
    with pytest.raises(TypeError, match="Linear cannot be guided"):
        pag.pag_pipeline(Unusual)(torch.nn.Linear(1, 1))
