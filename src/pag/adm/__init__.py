"""ADM: the pixel-space diffusion models of guided-diffusion."""
