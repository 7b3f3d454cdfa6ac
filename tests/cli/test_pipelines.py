import json

import pytest

from tests.cli.conftest import Run


def test_pipelines_are_found_by_part_of_their_name(run: Run):
    result = run("pipelines", "fluxprior")
    assert "FluxPriorReduxPipeline" in result.stdout
    assert "denoises nothing" in result.stdout
    assert "WanPipeline" not in result.stdout


def test_json_has_every_field(run: Run):
    (entry,) = json.loads(run("pipelines", "WanPipeline", "--json").stdout)
    assert entry["verdict"] == "works"
    assert entry["drop_in"] == "WanPAGPipeline"
    assert "WanPipeline" in entry["because"]


@pytest.mark.parametrize("name", ["WanPipelin3", "zzz"])
def test_a_name_that_is_nowhere_is_answered_with_the_nearest(run: Run, name: str):
    result = run("pipelines", name)
    assert result.exit_code != 0
    assert "Nearest: " in result.stderr
