"""Classes of `pag.ADMPipeline`: by number and by name, and guided to by a classifier."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
)

from tests.adm import tiny
from tests.adm.tiny import made, run, seeds


class TestClasses:
    def test_numbers_and_names(self):
        pipe = made(tiny.CLASSES, id2label=tiny.NAMES)
        expected = run(pipe, class_labels=[1, 0], generator=seeds(0, 1))
        given: list[Any] = [
            ["GoldFish", "Tinca  tinca"],
            ("goldfish", 0),
            [1, "tench, Tinca tinca"],
            torch.tensor([1, 0]),
            np.array([1, 0]),
            [np.int64(1), torch.tensor(0)],
        ]
        for labels in given:
            assert torch.equal(run(pipe, class_labels=labels, generator=seeds(0, 1)), expected)
        other = run(pipe, class_labels=[2, 0], generator=seeds(0, 1))
        assert not torch.equal(other[0], expected[0])
        assert torch.equal(other[1], expected[1])

    def test_several_images_of_each(self):
        pipe = made(tiny.CLASSES, id2label=tiny.NAMES)
        expected = run(pipe, class_labels=[1, 1, 3, 3], generator=seeds(0, 1, 2, 3))
        assert torch.equal(run(pipe, class_labels=[1, 3], num_images=2, generator=seeds(0, 1, 2, 3)), expected)
        assert len(run(pipe, class_labels="goldfish", num_images=2, generator=None)) == 2

    def test_drawn_from_each_images_generator_ahead_of_its_noise(self):
        pipe = made(tiny.CLASSES)
        drawn = run(pipe, num_images=3, generator=seeds(0, 1, 2))
        generators = seeds(0, 1, 2)
        labels = [int(torch.randint(tiny.CLASSES, (1,), generator=one)) for one in generators]
        assert torch.equal(run(pipe, class_labels=labels, generator=generators), drawn)
        assert len(set(labels)) > 1

    def test_a_class_matters_to_the_perturbed_rows_too(self):
        pipe = made(tiny.CLASSES)
        seen: list[Any] = []
        pipe.unet.class_embedding.register_forward_hook(
            lambda _module, inputs, _output: seen.append(inputs[0].tolist())
        )
        run(pipe, class_labels=[1, 3], generator=seeds(0, 1))
        assert seen[0] == [1, 3, 1, 3]

    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (5, ValueError, "There is no class 5: the model knows 5, from 0 to 4"),
            ([0, -1], ValueError, "There is no class -1"),
            ("gold fish", ValueError, r"There is no class 'gold fish'. Nearest: 'goldfish' \(1\)"),
            ("zzz", ValueError, "There is no class 'zzz'. See `pipe.id2label`"),
            (True, TypeError, "A class label is a number or a name, but got bool True"),
            ([1.0], TypeError, "but got float 1.0"),
            ([], ValueError, "class_labels is an empty list"),
        ],
    )
    def test_wrong_ones(self, labels: Any, error: type[Exception], message: str):
        with pytest.raises(error, match=message):
            run(made(tiny.CLASSES, id2label=tiny.NAMES), class_labels=labels)

    def test_a_name_of_several_classes(self):
        pipe = made(tiny.CLASSES, id2label={0: "crane", 1: "crane, tower"})
        with pytest.raises(
            ValueError, match=r"'crane' is the name of several classes: 0 \(crane\), 1 \(crane, tower\)"
        ):
            run(pipe, class_labels="crane")

    def test_classes_without_names(self):
        with pytest.raises(ValueError, match="this model's classes have no names"):
            run(made(tiny.CLASSES), class_labels="goldfish")

    def test_an_unconditional_model_has_none(self):
        with pytest.raises(ValueError, match="This model is unconditional: it knows no classes"):
            run(made(), class_labels=1)

    @pytest.mark.parametrize("names", [["a", "b"], {"a": "b"}, {0: 1}, {True: "b"}])
    def test_wrong_names(self, names: Any):
        with pytest.raises((TypeError, AttributeError)):
            made(tiny.CLASSES, id2label=names)


class TestImageNet:
    def test_its_names_come_with_the_package(self):
        pipe = made(1000)
        assert len(pipe.id2label) == 1000
        assert pipe.id2label[207] == "golden retriever"
        expected = run(pipe, class_labels=[207, 2], generator=seeds(0, 1))
        named = run(pipe, class_labels=["golden retriever", "great_white_shark"], generator=seeds(0, 1))
        assert torch.equal(named, expected)

    def test_what_several_classes_are_called_is_no_name(self):
        with pytest.raises(ValueError, match=r"'crane' is the name of several classes: 134 \(crane\), 517 \(crane\)"):
            run(made(1000), class_labels="crane")

    def test_names_of_ones_own_take_their_place(self):
        assert made(1000, id2label={0: "zero"}).id2label == {0: "zero"}
        assert made(1000, id2label={}).id2label == {}
        assert made(5).id2label == {}


class TestClassifier:
    def test_it_is_needed(self):
        with pytest.raises(ValueError, match=r"classifier_scale=1\.0 needs a classifier"):
            run(made(tiny.CLASSES), classifier_scale=1.0, class_labels=1)

    def test_it_needs_classes(self):
        pipe = made(classifier=tiny.Classifier())
        with pytest.raises(ValueError, match="Classifier guidance needs class_labels"):
            run(pipe, classifier_scale=1.0)
        with pytest.raises(ValueError, match="Its classifier does, with a classifier_scale above 0"):
            run(pipe, class_labels=1)
        with pytest.raises(ValueError, match="There is no class 5: the model knows 5"):
            run(pipe, class_labels=5, classifier_scale=1.0)

    def test_a_classifier_of_fewer_classes_than_the_model(self):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier(num_classes=3))
        with pytest.raises(ValueError, match=r"logits of shape \(1, 3\), which have no entry for class 4"):
            run(pipe, class_labels=4, classifier_scale=1.0)

    def test_scale_0_does_not_call_it(self):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier())
        plain = run(pipe, class_labels=1)
        pipe.classifier.register_forward_hook(lambda *_: pytest.fail("called"))
        assert torch.equal(run(pipe, class_labels=1, classifier_scale=0.0), plain)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_it_works_where_gradients_are_off(self, mode: Any):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier())
        expected = run(pipe, class_labels=1, classifier_scale=10.0)
        with mode():
            assert torch.equal(run(pipe, class_labels=1, classifier_scale=10.0), expected)
        assert not torch.equal(run(pipe, class_labels=1), expected)

    def test_it_leaves_no_gradients_behind(self):
        pipe = made(tiny.CLASSES, classifier=tiny.Classifier())
        images = run(pipe, class_labels=1, classifier_scale=10.0)
        assert not images.requires_grad
        assert all(weight.grad is None for weight in [*pipe.classifier.parameters(), *pipe.unet.parameters()])

    def test_a_model_that_does_not_predict_noise(self):
        pipe = made(tiny.CLASSES, DDIMScheduler(prediction_type="v_prediction"), classifier=tiny.Classifier())
        with pytest.raises(ValueError, match="prediction_type='epsilon'"):
            run(pipe, class_labels=1, classifier_scale=1.0)
