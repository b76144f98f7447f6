"""What pyproject.toml says is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_lua_file_is_listed_for_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    listed = wheel["force-include"]
    files = {str(p.relative_to(ROOT)) for p in (ROOT / "lua").rglob("*") if p.is_file()}
    assert set(listed) == files
    assert all(target == f"flashsale/{source}" for source, target in listed.items())


def test_the_core_depends_on_redis_and_msgspec_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {requirement.split("[")[0].split(">")[0] for requirement in project["dependencies"]}
    assert names == {"redis", "msgspec"}


def test_the_pythons_and_the_releases_of_redis_py_that_are_named_are_those_of_ci() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)'", str(project["classifiers"]))
    runs = re.findall(r"on_python (\S+) (\S+) ", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert sorted({python for python, _ in runs}) == sorted(named)
    (least,) = re.findall(r"redis\[hiredis\]>=(\S+),<9'", str(project["dependencies"]))
    assert {release for _, release in runs} == {least, "7", "8"}
