"""What a user installs is whole: the files that the code opens, one version everywhere, a typed package."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from itertools import chain
from pathlib import Path

import pytest

import pag

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited
    assert version("pag") == pag.__version__ == PROJECT["version"] == cited[1]
    assert f"## [{pag.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_pinned():
    pins = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    required = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in required}
    assert names - {"pag"} <= pins


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="pag")
    assert callable(command.load())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


def test_the_wheel_holds_every_file_of_the_package(wheel: list[str]):
    source = ROOT / "src"
    files = [file for file in (source / "pag").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert {str(file.relative_to(source)) for file in files} <= set(wheel)
    assert "pag/py.typed" in wheel


def test_the_wheel_holds_the_licences(wheel: list[str]):
    assert {Path(name).name for name in wheel if "/licenses/" in name} >= {"LICENSE", "NOTICE"}
