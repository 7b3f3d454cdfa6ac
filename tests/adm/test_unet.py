"""ADMUNet is one of diffusers' models: it is saved, loaded, copied and cast as they are."""

import copy
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.utils import logging as diffusers_logging

import pag
from tests.denoisers import adm


def noisy(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What diffusers logs."""
    diffusers_logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    return caplog


def test_it_is_saved_and_loaded_with_all_that_it_was_built_of(tmp_path: Path, warned: pytest.LogCaptureFixture):
    torch.manual_seed(0)
    unet = adm.own().eval()
    unet.save_pretrained(tmp_path)
    cls: Any = pag.ADMUNet
    again = cls.from_pretrained(tmp_path)
    again.save_config(tmp_path / "again")
    saved, resaved = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, tmp_path / "again"))
    assert resaved == saved | {"_name_or_path": str(tmp_path)}
    assert [site.heads for site in pag.sites(again)] == [2] * 7
    assert torch.equal(again(noisy(), 3).sample, unet(noisy(), 3).sample)
    assert not warned.records


def test_a_classifier_is_too(tmp_path: Path, warned: pytest.LogCaptureFixture):
    cls: Any = pag.ADMClassifier
    torch.manual_seed(0)
    small: dict[str, Any] = {"block_out_channels": (32, 64), "down_block_types": ("AttnDownBlock2D",) * 2}
    classifier = cls(sample_size=16, attention_head_dim=16, num_classes=7, **small).eval()
    classifier.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert torch.equal(again(noisy(), 3), classifier(noisy(), 3))
    assert again.half().dtype == torch.float16
    assert not warned.records


def test_it_is_copied_and_pickled():
    torch.manual_seed(0)
    unet = adm.own().eval()
    wanted = unet(noisy(), 3).sample
    for twin in (copy.deepcopy(unet), pickle.loads(pickle.dumps(unet))):
        assert torch.equal(twin(noisy(), 3).sample, wanted)


def test_without_settings_of_its_own_it_is_the_u_net_of_diffusers():
    torch.manual_seed(0)
    plain = adm.adm().eval()
    own: Any = pag.ADMUNet.from_config(plain.config)
    own.eval().load_state_dict(plain.state_dict())
    assert isinstance(own, UNet2DModel)
    assert torch.equal(own(noisy(), 3).sample, plain(noisy(), 3).sample)


def test_heads_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(ValueError, match="16 channels cannot be divided into 3 attention heads"):
        adm.own(num_attention_heads=3)
