"""A tiny random model in a folder, standing in for the embedded one, and a way to run the commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pag import StableDiffusionPAGPipeline
from pag.cli import app
from tests import zoo

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in diffusers' format: 32x32 pixels, self-attention at two resolutions."""
    folder = tmp_path_factory.mktemp("model")
    pipeline: Any = StableDiffusionPAGPipeline
    pipe = pipeline(
        vae=zoo.vae(),
        text_encoder=zoo.text_encoder(),
        tokenizer=zoo.tokenizer(),
        unet=zoo.unet(),
        scheduler=zoo.ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `pag ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke
