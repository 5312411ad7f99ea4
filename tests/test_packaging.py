"""The three ways to have it: a wheel, an editable install, a checkout. twistd must list the services in each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("kv-controller", "kv-group", "kv-node")
TWISTD_HELP = "from twisted.scripts.twistd import run; import sys; sys.argv = ['twistd', '--help']; run()"

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh clone holds, as far as an install needs it."""
    target = tmp_path_factory.mktemp("clone")
    for name in ("twisted_kv", "twisted"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has pip and nothing of ours, whatever this one has installed."""
    target = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    return target / "bin" / "python"


def listed(python: Path, *path: Path) -> str:
    """What twistd --help prints; our dependencies are borrowed from here, without what .pth files would add."""
    paths = [*map(str, path), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    # From elsewhere, or the working directory would be found as a checkout.
    ended = subprocess.run(
        [str(python), "-c", TWISTD_HELP],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stdout


def test_nothing_is_listed_without_us(bare_python: Path) -> None:
    """Or the tests below would prove nothing."""
    assert "kv-" not in listed(bare_python)


def test_a_wheel(clone: Path, bare_python: Path, tmp_path: Path) -> None:
    command = [str(bare_python), "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(clone)]
    subprocess.run(command, check=True, timeout=300)
    [wheel] = tmp_path.glob("twisted_kv-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    ours = [name for name in names if name.startswith("twisted/")]
    assert ours == ["twisted/plugins/twisted_kv_plugin.py"], "the rest of twisted/ belongs to Twisted"
    assert "twisted_kv/py.typed" in names
    assert not [name for name in names if name.startswith("tests")]
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    help_text = listed(bare_python, tmp_path / "site")
    assert all(service in help_text for service in SERVICES)


def test_an_editable_install(clone: Path, bare_python: Path) -> None:
    """ecosystem §2.2: a plain .pth, or twistd would not find the plugin in the checkout."""
    command = [str(bare_python), "-m", "pip", "install", "-q", "--no-deps", "-e", str(clone)]
    subprocess.run(command, check=True, timeout=300)
    try:
        help_text = listed(bare_python)
        assert all(service in help_text for service in SERVICES)
    finally:
        subprocess.run([str(bare_python), "-m", "pip", "uninstall", "-q", "-y", "twisted-kv"], check=True)


def test_a_checkout(clone: Path, bare_python: Path) -> None:
    help_text = listed(bare_python, clone)
    assert all(service in help_text for service in SERVICES)


def test_the_plugin_imports_nothing_heavy() -> None:
    """Every start of twistd imports it, whatever is started."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from twisted.plugin import getPlugins; from twisted.application.service import IServiceMaker;"
        "list(getPlugins(IServiceMaker));"
        "print([name for name in sys.modules if name.startswith('twisted_kv')])"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
