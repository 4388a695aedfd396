"""Sizes are checked before memory is allocated; see also tests/commands/test_export.py."""

from dataclasses import replace

import pytest
import torch

from headcount.errors import ConfigError
from headcount.model.build import build_model
from headcount.model.trained_weights import check_weights
from tests.model.builds import ARCHITECTURES

VOCABULARY_SIZE = 300


def weights_of(config) -> dict[str, torch.Tensor]:
    model = build_model(
        config.model, vocabulary_size=VOCABULARY_SIZE, max_positions=config.max_positions
    )
    return model.state_dict()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_of_the_same_config_fit(architecture: str, small) -> None:
    config = small(*ARCHITECTURES[architecture])
    check_weights(weights_of(config), config, VOCABULARY_SIZE)
    check_weights({n: w.double() for n, w in weights_of(config).items()}, config, VOCABULARY_SIZE)


def test_what_does_not_fit_is_named(small) -> None:
    config = small()
    weights = weights_of(config)
    name = next(iter(weights))
    for changed, message in (
        ({**weights, "more": weights[name]}, "it has no more"),
        ({n: w for n, w in weights.items() if n != name}, f"{name} is missing"),
        (
            {**weights, name: weights[name][1:]},
            rf"{name} has the shape \(299, 32\), not \(300, 32\)",
        ),
        ({**weights, name: weights[name].long()}, f"{name} holds torch.int64"),
        ({}, "model.encoder_layers=1, with 0 tensors"),
    ):
        with pytest.raises(
            ConfigError, match=f"^these weights are not of the model .*: {message}$"
        ):
            check_weights(changed, config, VOCABULARY_SIZE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generation_that_does_not_fit_is_named(architecture: str, small) -> None:
    config = small(*ARCHITECTURES[architecture], "generation.strategy=beam")
    wide = replace(config.generation, num_beams=10**9)
    message = "^generation.num_beams=1000000000 and generation.max_tokens=32 need [0-9,]+ GB of memory; legal: "
    with pytest.raises(ConfigError, match=message):
        check_weights(weights_of(config), replace(config, generation=wide), VOCABULARY_SIZE)
