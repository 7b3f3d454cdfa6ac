"""`pag convert`: checkpoints of other code as folders that diffusers loads."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pag.cli import console

__all__ = ["convert"]

UNTOLD = "What only unpublished weights need"

convert = typer.Typer(help="Make a folder in diffusers' format of a checkpoint of other code.")


@convert.command()
def adm(
    file: Annotated[
        Path,
        typer.Argument(help="Such as 256x256_diffusion_uncond.pt, or .safetensors.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Appears when it is complete.")],
    classifier: Annotated[
        Path | None,
        typer.Option("--classifier", metavar="FILE", help="Add a classifier of noisy images, for classifier guidance."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", show_default="the checkpoint's", help="Precision: float32, float16 or bfloat16."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model that --out holds.")] = False,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, metavar="PIXELS", rich_help_panel=UNTOLD, help="Height and width."),
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option(
            "--heads", min=1, metavar="N", rich_help_panel=UNTOLD, help="Heads of every attention layer (num_heads)."
        ),
    ] = None,
    head_channels: Annotated[
        int | None,
        typer.Option(
            "--head-channels",
            min=1,
            metavar="N",
            rich_help_panel=UNTOLD,
            help="Or the width of each head (num_head_channels).",
        ),
    ] = None,
    attention_order: Annotated[
        Literal["legacy", "new"] | None,
        typer.Option(
            "--attention-order", rich_help_panel=UNTOLD, help="Whether it was trained with use_new_attention_order."
        ),
    ] = None,
    noise_schedule: Annotated[
        Literal["linear", "cosine"] | None,
        typer.Option("--noise-schedule", rich_help_panel=UNTOLD, help="How noise grows with time."),
    ] = None,
    classifier_head_channels: Annotated[
        int,
        typer.Option(
            "--classifier-head-channels",
            min=1,
            metavar="N",
            rich_help_panel=UNTOLD,
            help="Width of the classifier's heads.",
        ),
    ] = 64,
) -> None:
    """Convert an ADM model (guided-diffusion) of any size.

    All that the weights tell is read from them. What they do not tell is
    known of the published checkpoints, and asked for otherwise. Only tensors
    are loaded: a file that holds code is refused.
    """
    with console.quiet(), console.waiting(f"reading {file}") as status:
        from pag.adm import convert as converting
        from pag.adm.published import Settings
        from pag.generate.models import DTYPES, choose_dtype

        unet: Any = converting.convert(
            file,
            out,
            Settings(image_size, heads, head_channels, attention_order, noise_schedule),
            classifier=classifier,
            classifier_head_channels=classifier_head_channels,
            dtype=DTYPES[choose_dtype(dtype, "cpu")] if dtype else None,
            force=force,
            on_stage=status,
        )
    console.stdout().print(f"{out}: {_summary(unet, classifier)}", markup=False)


def _summary(unet: Any, classifier: Path | None) -> str:
    config = unet.config
    size = f"{config.sample_size}x{config.sample_size}"
    classes = f"{config.num_class_embeds} classes" if config.num_class_embeds else "no classes"
    millions = sum(weight.numel() for weight in unet.parameters()) / 1e6
    kind = f"{type(unet).__name__} of {millions:.1f} M parameters, {size}, {classes}"
    if config.get("learned_variance") is not None:
        return f"an upsampler's {kind}; no pipeline here runs it"
    return kind + (", with a classifier" if classifier else "")
