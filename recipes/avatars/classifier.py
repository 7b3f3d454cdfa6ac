"""A small network that reads every attribute off an image, trained on the generator's own images."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import ATTRIBUTES, WORK, Avatar, load, visible
from torch import Tensor, nn


class Classifier(nn.Module):
    """Images (B, 3, 64, 64) in [-1, 1] to a dictionary of logits by attribute."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for a, b in ((12, 24), (24, 48), (48, 96)):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        self.trunk = nn.Sequential(*layers, nn.Conv2d(96, 48, 1), nn.Flatten(), nn.Linear(768, 192), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(192, len(values)) for name, values in ATTRIBUTES.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x)
        return {name: head(features) for name, head in self.heads.items()}


def targets(avatars: list[Avatar], name: str) -> Tensor:
    """Class index of each avatar, -100 where the attribute is out of sight."""
    values = ATTRIBUTES[name]
    return torch.tensor([values.index(a[name]) if name in visible(a) else -100 for a in avatars])


def floats(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def predict(model: Classifier, images: np.ndarray) -> dict[str, Tensor]:
    parts = [model(floats(images[i : i + 250])) for i in range(0, len(images), 250)]
    return {name: torch.cat([p[name].argmax(1) for p in parts]) for name in ATTRIBUTES}


def load_classifier(path: Path = WORK / "classifier.pt") -> Classifier:
    model = Classifier()
    model.load_state_dict(torch.load(path))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2500)
    args = parser.parse_args()
    torch.manual_seed(0)
    images, avatars = load("train")
    labels = {name: targets(avatars, name) for name in ATTRIBUTES}
    model, start = Classifier(), time.time()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, args.steps)
    for step in range(args.steps):
        rows = np.sort(np.random.default_rng(step).integers(len(images), size=64))
        x = floats(images[rows])
        x = x + 0.1 * torch.rand(64, 1, 1, 1) * torch.randn_like(x)  # forgiving of a decoder's small errors
        loss = sum(F.cross_entropy(logits, labels[n][rows]) for n, logits in model(x).items())
        optimizer.zero_grad()
        loss.backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {float(loss):.3f} {time.time() - start:.0f} s", flush=True)
    torch.save(model.state_dict(), WORK / "classifier.pt")
    images, avatars = load("val")
    found = predict(model.eval(), images)
    accuracy = {}
    for name in ATTRIBUTES:
        truth = targets(avatars, name)
        accuracy[name] = (found[name] == truth)[truth >= 0].float().mean().item()
    (WORK / "classifier.json").write_text(json.dumps(accuracy, indent=1))
    print({k: round(v, 4) for k, v in accuracy.items()})


if __name__ == "__main__":
    main()
