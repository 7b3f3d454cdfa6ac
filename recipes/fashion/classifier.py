"""A small network that tells the ten classes, trained on real images: are samples of a class of that class?"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F
from data import CLASSES, WORK, floats, load
from numpy.typing import NDArray
from torch import Tensor, nn


class Classifier(nn.Module):
    """Images (B, 1, 32, 32) in [-1, 1] to logits (B, 10) and the 128 features that they are made of."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((1, 24), (24, 48), (48, 96)):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 16, 128), nn.ReLU())
        self.head = nn.Linear(128, len(CLASSES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        return self.head(features), features


@torch.inference_mode()
def look(model: Classifier, images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The class and the features (N, 128) of grey images (N, 32, 32)."""
    parts = [model(floats(images[start : start + 500])) for start in range(0, len(images), 500)]
    return torch.cat([p[0].argmax(1) for p in parts]).numpy(), torch.cat([p[1] for p in parts]).numpy()


def load_classifier() -> Classifier:
    model = Classifier()
    model.load_state_dict(torch.load(WORK / "classifier.pt"))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    torch.manual_seed(0)
    images, labels = load("train")
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, args.steps)
    for step in range(args.steps):
        rows = np.random.default_rng(step).integers(len(images), size=128)
        x = floats(images[rows])
        x = x + 0.1 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)
        loss = F.cross_entropy(model(x)[0], torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.save(model.state_dict(), WORK / "classifier.pt")
    images, labels = load("t10k")
    accuracy = float((look(model.eval(), images)[0] == labels).mean())
    (WORK / "classifier.json").write_text(json.dumps({"accuracy": accuracy}))
    print(f"{accuracy:.2%} of the test images")


if __name__ == "__main__":
    main()
