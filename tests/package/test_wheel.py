"""What is built is what is in the repository, and it works far away from it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SALE = """
from pathlib import Path
import flashsale
from flashsale import FlashSale, Outcome, Sale, Sku
from flashsale.scripts import lua_folder

here = Path(flashsale.__file__).parent
assert lua_folder() == here / "lua", lua_folder()
with FlashSale.embedded() as shop:
    sale = shop.open(Sale("wheel", [Sku("lipstick", stock=1)]))
    assert sale.hold("b1", {"lipstick": 1}, hold_id="o1").outcome is Outcome.HELD
    assert sale.hold("b2", {"lipstick": 1}, hold_id="o2").outcome is Outcome.SOLD_OUT
    assert sale.confirm("b1", "o1").outcome is Outcome.CONFIRMED
    assert sale.audit().ok
print("sold")
"""


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FLASHSALE"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


def tracked(*patterns: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_every_lua_file_and_every_module_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert all(
            archive.read(f"flashsale/{lua}") == (ROOT / lua).read_bytes()
            for lua in tracked("lua/**/*")
        )
    lua = {f"flashsale/{name}" for name in tracked("lua/**/*")}
    modules = {name.removeprefix("src/") for name in tracked("src/flashsale/**/*")}
    assert names == lua | modules


def test_the_sdist_has_what_a_distributor_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert tracked("lua/**/*", "src/**/*.py", "tests/**/*.py", "loadtests/**/*") <= names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "pyproject.toml"} <= names


@pytest.mark.timeout(300)
def test_the_wheel_sells_in_an_empty_environment_outside_the_checkout(
    built: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", f"{wheel}[embedded]", cwd=tmp_path)
    assert run(python, "-c", SALE, cwd=tmp_path).strip() == "sold"
