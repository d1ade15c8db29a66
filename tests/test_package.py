"""What is handed out: the sdist builds a wheel, and the wheel works where nothing of ours is.

Both are really built, the wheel from the unpacked sdist, and installed into a virtual environment of
their own. That environment borrows the libraries of the running one by a `.pth` file, so no network
is needed: what is proved is that the package is whole (modules, templates, the model that ships, the
command), not that the libraries named in `pyproject.toml` suffice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


def done(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed; nothing of this checkout is on its path."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(words, cwd=cwd, env=env, text=True, capture_output=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    done(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel that the sdist gives."""
    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist", cwd=sdist)
    (found,) = (sdist / "dist").glob("*.whl")
    return found


def test_the_sdist_has_what_its_documents_speak_of(sdist: Path) -> None:
    for name in (
        *("README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", ".ci/run"),
        *("constraints.txt", "docs", "mkdocs.yml", "website", "examples", "benchmarks"),
        *("tests/conftest.py", "tests/golden"),
    ):
        assert (sdist / name).exists(), name


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    own = {name for name in names if ".dist-info/" not in name}
    files = (ROOT / "tis_ray").rglob("*")
    expected = {str(p.relative_to(ROOT)) for p in files if p.is_file() and p.suffix != ".pyc"}
    assert own == expected
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_is_installed_and_its_doctor_finds_nothing(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    done(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    where = "import site; print(site.getsitepackages()[0])"
    site = Path(done(python, "-c", where, cwd=tmp_path).stdout.strip())
    # Borrowed paths come last, and their own `.pth` files (an editable tis_ray) are not followed.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    done(*pip, "--quiet", "--ignore-installed", wheel, cwd=tmp_path)

    where = "import tis_ray; print(tis_ray.__file__)"
    assert done(python, "-c", where, cwd=tmp_path).stdout.startswith(str(site))
    loads = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "from tis_ray.models.builtin import PATH\n"
        "AutoTokenizer.from_pretrained(PATH)\n"
        "print(AutoModelForCausalLM.from_pretrained(PATH).num_parameters())"
    )
    assert int(done(python, "-c", loads, cwd=tmp_path).stdout) > 800_000
    told = done(venv / "bin" / "tis-ray", "doctor", cwd=tmp_path)
    assert "ray task" in told.stdout + told.stderr
