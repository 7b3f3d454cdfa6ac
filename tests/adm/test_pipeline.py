"""`pag.ADMPipeline`: what it takes, what it gives, and how it is saved and loaded."""

import inspect
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import accelerate
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DiffusionPipeline,
    HeunDiscreteScheduler,
    UNet2DModel,
)
from torch import Tensor

import pag
from pag.adm.pipeline import AblatedDiffusionPipeline
from tests.adm import tiny
from tests.adm.tiny import ddim, ddpm, made, run, seeds

LAYER = "mid_block.attentions.0"


class TestImages:
    @pytest.mark.parametrize(
        ("output_type", "kind", "shape"), [("np", np.ndarray, (2, 8, 8, 3)), ("pt", Tensor, (2, 3, 8, 8))]
    )
    def test_arrays_are_from_0_to_1(self, output_type: str, kind: type, shape: tuple[int, ...]):
        images: Any = run(made(), num_images=2, output_type=output_type, generator=None)
        assert isinstance(images, kind)
        assert images.shape == shape
        assert images.min() >= 0
        assert images.max() <= 1

    @pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
    def test_pictures_are_grey_or_coloured(self, channels: int, mode: str):
        pipe = made(channels=channels)
        pictures: Any = pipe(num_images=2, num_inference_steps=2).images
        assert [(picture.mode, picture.size) for picture in pictures] == [(mode, (8, 8))] * 2

    def test_a_tuple(self):
        (images,) = made()(num_inference_steps=1, return_dict=False)
        assert len(images) == 1

    def test_a_size_of_two_numbers(self):
        pipe = made()
        pipe.unet.register_to_config(sample_size=(8, 16))
        assert run(pipe).shape == (1, 3, 8, 16)

    def test_noise_that_is_given(self):
        noise = torch.randn(2, 3, 8, 8, generator=seeds(0)[0])
        pipe = made()
        drawn = run(pipe, num_images=2, generator=seeds(0)[0])
        assert torch.equal(run(pipe, num_images=2, latents=noise, generator=None), drawn)
        with pytest.raises(ValueError, match=r"latents must be of shape \(1, 3, 8, 8\), but are of \(2, 3, 8, 8\)"):
            run(pipe, latents=noise)


class TestGenerators:
    @pytest.mark.parametrize("classes", [None, tiny.CLASSES])
    @pytest.mark.parametrize("scheduler", [ddim(), ddpm()])
    @pytest.mark.parametrize("eta", [0.0, 1.0])
    def test_an_image_depends_on_its_own_alone(self, classes: int | None, scheduler: Any, eta: float):
        eta = eta if isinstance(scheduler, DDIMScheduler) else 0.0
        pipe = made(classes, scheduler)
        together = run(pipe, num_images=3, generator=seeds(0, 1, 2), eta=eta)
        alone = run(pipe, generator=seeds(1), eta=eta)
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0.0)
        turned = run(pipe, num_images=3, generator=seeds(2, 1, 0), eta=eta)
        torch.testing.assert_close(turned.flip(0), together, atol=1e-5, rtol=0.0)
        assert (together[0] - together[1]).abs().max() > 0.1

    def test_one_for_each_image(self):
        with pytest.raises(ValueError, match="2 generators were given for 1 images: pass one for each"):
            run(made(), generator=seeds(0, 1))

    def test_without_any(self):
        torch.manual_seed(0)
        first = run(made(tiny.CLASSES), num_images=2, generator=None)
        torch.manual_seed(0)
        assert torch.equal(run(made(tiny.CLASSES), num_images=2, generator=None), first)


class TestSettings:
    @pytest.mark.parametrize("name", ["num_images", "num_inference_steps"])
    @pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
    def test_numbers_of_things(self, name: str, value: Any):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, but is {value}"):
            run(made(), **{name: value})

    @pytest.mark.parametrize("name", ["eta", "classifier_scale"])
    def test_strengths(self, name: str):
        with pytest.raises(ValueError, match=name):
            run(made(), **{name: -1.0})

    def test_an_argument_that_does_not_exist(self):
        with pytest.raises(TypeError, match=r"no argument 'class_label'\. Nearest: class_labels"):
            run(made(), class_label=1)

    def test_every_argument_is_documented(self):
        text = inspect.getdoc(pag.ADMPipeline.__call__) or ""
        for name in [*inspect.signature(pag.ADMPipeline.__call__).parameters][1:]:
            assert re.search(rf"^ +{name} \(.+\):", text, re.MULTILINE), name
        for name in ("unet", "scheduler", "classifier", "id2label", "pag_applied_layers"):
            assert f"    {name} (" in (pag.ADMPipeline.__doc__ or "")


class TestGuidance:
    def test_off_is_exact(self):
        pipe = made(tiny.CLASSES)
        plain: Any = AblatedDiffusionPipeline.from_pipe(pipe)
        plain.set_progress_bar_config(disable=True)
        assert torch.equal(run(pipe, pag_scale=0.0), run(plain))
        assert torch.equal(run(pipe, pag_applied_layers=[]), run(plain))

    def test_the_plain_pipeline_can_be_guided(self):
        pipe = made(tiny.CLASSES)
        plain: Any = AblatedDiffusionPipeline.from_pipe(pipe)
        plain.set_progress_bar_config(disable=True)
        guided = run(pipe, pag_scale=2.0, pag_applied_layers=LAYER)
        with pag.guide(plain, 2.0, layers=LAYER):
            assert torch.equal(run(plain), guided)
        assert (run(plain) - guided).abs().max() > 1e-2

    def test_rows_are_shared(self):
        pipe = made()
        rows: dict[str, list[int]] = {"down_blocks.0.resnets.0.conv1": [], "conv_out": []}
        for name, seen in rows.items():
            module = pipe.unet.get_submodule(name)
            module.register_forward_hook(lambda _module, inputs, _output, seen=seen: seen.append(len(inputs[0])))
        run(pipe, num_images=2, generator=seeds(0, 1), pag_applied_layers=LAYER)
        assert rows == {"down_blocks.0.resnets.0.conv1": [2, 2], "conv_out": [4, 4]}

    @pytest.mark.parametrize("way", [{"pag_low_memory": True}, {"pag_start": 0.5}, {"pag_speed": "fast"}])
    def test_the_ways_to_guide(self, way: dict[str, Any]):
        pipe = made(scheduler=ddpm())
        settings: dict[str, Any] = {"num_inference_steps": 30, "pag_applied_layers": LAYER}
        exact, other = run(pipe, **settings), run(pipe, **settings, **way)
        if "pag_low_memory" in way:
            torch.testing.assert_close(other, exact, atol=1e-4, rtol=0.0)
        else:
            assert not torch.equal(other, exact)
            assert not torch.equal(other, run(pipe, **settings, pag_scale=0.0))


class TestCallback:
    def test_it_sees_and_changes_every_step(self):
        seen: list[Any] = []

        def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            seen.append((step, int(timestep), {name: tuple(tensor.shape) for name, tensor in tensors.items()}))
            return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

        pipe = made()
        names = ["latents", "noise_pred"]
        call: dict[str, Any] = {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": names}
        images = run(pipe, num_inference_steps=3, **call)
        shapes = {"latents": (1, 3, 8, 8), "noise_pred": (1, 6, 8, 8)}
        assert seen == [(0, 666, shapes), (1, 333, shapes), (2, 0, shapes)]
        assert not images.any()
        assert pipe.num_timesteps == 3

    def test_it_may_return_nothing(self):
        pipe = made()
        assert torch.equal(run(pipe, callback_on_step_end=lambda *_: None), run(pipe))

    def test_it_can_stop_the_run(self):
        calls: list[int] = []

        def stop(pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            calls.append(step)
            pipe._interrupt = step == 1
            return tensors

        pipe = made()
        run(pipe, num_inference_steps=5, callback_on_step_end=stop)
        assert calls == [0, 1]
        assert pipe.interrupt
        run(pipe)
        assert not pipe.interrupt

    def test_a_tensor_that_does_not_exist(self):
        with pytest.raises(ValueError, match=r"A callback can get \['latents', 'noise_pred'\], but not \['x'\]"):
            run(made(), callback_on_step_end=lambda *_: {}, callback_on_step_end_tensor_inputs=["x"])

    @pytest.mark.parametrize("scheduler", [ddim(), HeunDiscreteScheduler()])
    def test_the_bar_counts_the_denoisers_calls(self, scheduler: Any, capsys: pytest.CaptureFixture[str]):
        pipe = made(scheduler=scheduler)
        pipe.set_progress_bar_config(disable=False)
        run(pipe, num_inference_steps=3)
        count = len(pipe.scheduler.timesteps)
        assert f"{count}/{count}" in capsys.readouterr().err


class TestSaving:
    def test_saved_and_loaded(self, tmp_path: Path):
        pipe = made(tiny.CLASSES, id2label=tiny.NAMES)
        pipe.set_pag_applied_layers(LAYER)
        pipe.save_pretrained(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text())
        assert index["_class_name"] == "AblatedDiffusionPipeline"
        file = Path(pag.__file__).parent / "custom_pipeline" / "adm.py"
        loaders: list[Any] = [
            pag.ADMPipeline.from_pretrained(tmp_path),
            DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(file), trust_remote_code=True),
        ]
        for loaded in loaders:
            assert type(loaded) is pag.ADMPipeline
            loaded.set_progress_bar_config(disable=True)
            assert loaded.id2label == tiny.NAMES
            assert loaded.pag_applied_layers == [LAYER]
            assert loaded.classifier is None
            assert torch.equal(run(loaded, class_labels="goldfish"), run(pipe, class_labels="goldfish"))

    def test_components_given_while_loading(self, tmp_path: Path):
        made(tiny.CLASSES).save_pretrained(tmp_path)
        classifier = tiny.Classifier()
        loaded: Any = pag.ADMPipeline.from_pretrained(tmp_path, classifier=classifier, id2label=tiny.NAMES)
        assert loaded.classifier is classifier
        assert loaded.id2label == tiny.NAMES

    def test_from_another_pipeline(self):
        pipe = made(tiny.CLASSES, id2label=tiny.NAMES, classifier=tiny.Classifier(), pag_applied_layers="mid")
        plain: Any = AblatedDiffusionPipeline.from_pipe(pipe)
        assert type(plain) is AblatedDiffusionPipeline
        again: Any = pag.ADMPipeline.from_pipe(plain, pag_applied_layers=LAYER)
        assert again.components == pipe.components
        assert (again.id2label, again.pag_applied_layers) == (tiny.NAMES, [LAYER])

    def test_from_diffusers_pipeline_of_the_same_network(self):
        ours: Any = pag.ADMPipeline.from_pipe(DDPMPipeline(tiny.unet(), ddpm()))
        ours.set_progress_bar_config(disable=True)
        assert run(ours).shape == (1, 3, 8, 8)

    def test_of_a_subclass_of_the_network(self):
        class Own(UNet2DModel):
            pass

        pipe = made()
        pipe.unet.__class__ = Own
        assert pag.ADMPipeline.from_pipe(pipe).unet is pipe.unet

    def test_it_is_the_sister_of_the_plain_class(self):
        assert pag.pag_pipeline(AblatedDiffusionPipeline) is pag.ADMPipeline


class TestDtypes:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("scale", [0.0, 10.0])
    def test_half_and_double(self, dtype: torch.dtype, scale: float):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier())
        call: dict[str, Any] = {"class_labels": 1, "classifier_scale": scale, "pag_scale": 1.0}
        noise = torch.randn(1, 3, 8, 8, generator=seeds(0)[0])
        expected = run(pipe, **call, latents=noise)
        pipe.unet.to(dtype)
        pipe.classifier.to(dtype)
        images = run(pipe, **call, latents=noise)
        # The sample itself is never rounded to half precision.
        assert images.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        close = {torch.float16: 1e-2, torch.bfloat16: 0.1, torch.float64: 1e-4}[dtype]
        assert (images - expected).abs().max() < close


class TestOffload:
    CALL: ClassVar[dict[str, Any]] = {"class_labels": 1, "classifier_scale": 10.0, "pag_scale": 1.0}

    def test_model_offload(self):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier())
        expected = run(pipe, **self.CALL)
        pipe.enable_model_cpu_offload(device="cpu")
        for _ in range(2):
            assert torch.equal(run(pipe, **self.CALL), expected)

    def test_sequential_offload(self):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier())
        expected = run(pipe, **self.CALL)
        for model in (pipe.classifier, pipe.unet):
            state: Any = model.state_dict()
            weights: dict[str, Tensor] = {
                name: torch.nn.Parameter(value, requires_grad=False) for name, value in state.items()
            }
            accelerate.cpu_offload(model, torch.device("cpu"), state_dict=weights)
        assert torch.equal(run(pipe, **self.CALL), expected)

    def test_group_offload(self):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier())
        expected = run(pipe, **self.CALL)
        for model in (pipe.classifier, pipe.unet):
            model.enable_group_offload(torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level")
        torch.testing.assert_close(run(pipe, **self.CALL), expected, atol=1e-5, rtol=0.0)
