"""Vidur's upstream: what its checkout is in, and the environment that is made of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from extern import upstream
from extern.upstream import UPSTREAM_CHECKOUT, examine_upstream, upstream_state
from pytest_gpusim import doctor
from pytest_gpusim.registry import builtin_registry

PROJECT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(where: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(where), *who, "-c", "protocol.file.allow=always", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, str, str]:
    """A repository in upstream's layout, and its two commits."""
    repository = tmp_path / "upstream"
    (repository / "vidur").mkdir(parents=True)
    (repository / "data").mkdir()
    (repository / "requirements.txt").write_text("")
    (repository / "data" / "table.csv").write_text("a\n1\n")
    (repository / "vidur" / "main.py").write_text("print('the first')\n")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    first = git(repository, "rev-parse", "HEAD")
    (repository / "vidur" / "main.py").write_text("print('the second')\n")
    git(repository, "commit", "-qam", "second")
    return repository, first, git(repository, "rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path, source: tuple[Path, str, str]) -> Path:
    """A clone of this project that pins the first commit and has not checked it out."""
    project = tmp_path / "project"
    (project / UPSTREAM_CHECKOUT).mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", ".gitmodules", "extern/upstream.py"):
        shutil.copy(PROJECT / name, project / name)
    shutil.copy(PROJECT / "extern" / "install_upstream.sh", project / "extern")
    git(project, "init", "-q")
    git(project, "add", "Makefile", ".gitmodules")
    pin(project, source[1])
    git(project, "commit", "-qm", "project")
    return project


def pin(project: Path, commit: str) -> None:
    git(project, "update-index", "--add", "--cacheinfo", f"160000,{commit},{UPSTREAM_CHECKOUT}")


def check_out(project: Path, repository: Path) -> Path:
    url = f"submodule.{UPSTREAM_CHECKOUT}.url={repository}"
    git(project, "-c", url, "submodule", "update", "--init", "--", str(UPSTREAM_CHECKOUT))
    return project / UPSTREAM_CHECKOUT


def test_the_submodule_of_this_project_names_upstream():
    modules = (PROJECT / ".gitmodules").read_text()
    assert f"path = {UPSTREAM_CHECKOUT.as_posix()}" in modules
    assert "microsoft/vidur" in modules


def test_a_clone_without_the_submodule_is_not_checked_out(clone: Path):
    assert upstream_state(clone / UPSTREAM_CHECKOUT) == "not checked out"
    (clone / UPSTREAM_CHECKOUT).rmdir()
    assert upstream_state(clone / UPSTREAM_CHECKOUT) == "absent"


def test_files_without_git_are_not_absent(clone: Path):
    (clone / UPSTREAM_CHECKOUT / "vidur").mkdir()
    assert upstream_state(clone / UPSTREAM_CHECKOUT).startswith("not a git checkout")
    (clone / UPSTREAM_CHECKOUT / ".git").write_text("gitdir: nowhere\n")
    assert upstream_state(clone / UPSTREAM_CHECKOUT).startswith("not a git checkout")


def test_clean_changed_and_other_commits(clone: Path, source: tuple[Path, str, str]):
    repository, first, second = source
    checkout = check_out(clone, repository)
    assert upstream_state(checkout) == f"clean at {first[:12]}, as pinned"
    git(checkout, "checkout", "-q", second)
    other = f"another commit than the pinned {first[:12]}"
    assert upstream_state(checkout) == f"clean at {second[:12]}, {other}"
    (checkout / "vidur" / "main.py").write_text("print('mine')\n")
    assert upstream_state(checkout) == f"changed at {second[:12]}: vidur/main.py"
    (checkout / "new file.txt").write_text("")
    assert upstream_state(checkout).startswith(
        f"changed at {second[:12]}: vidur/main.py and 1 more"
    )


def test_the_clone_of_the_package_is_examined(clone: Path, source: tuple[Path, str, str]):
    check_out(clone, source[0])
    found = examine_upstream(clone)
    assert found["checkout"] == str(clone / UPSTREAM_CHECKOUT)
    assert found["state"].endswith("as pinned")
    assert found["pinned"] == source[1]
    assert found["environment"] is None
    assert examine_upstream()["checkout"] == str(PROJECT / UPSTREAM_CHECKOUT)


def test_an_installed_package_has_no_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    installed = tmp_path / "site-packages" / "pytest_gpusim" / "doctor.py"
    monkeypatch.setattr(doctor, "__file__", str(installed))
    findings = doctor.examine(builtin_registry())
    assert findings["vidur"]["upstream"]["state"].startswith("absent: not in a clone")
    assert "upstream: absent: not in a clone of pytest-gpusim" in doctor.report_lines(findings)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_puts_the_pinned_commit_into_its_own_environment(
    clone: Path, source: tuple[Path, str, str]
):
    repository, first, second = source

    def make() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("make", "vidur-upstream", f"VENV={sys.prefix}"),
                f"VIDUR_UPSTREAM_URL={repository}",
            ],
            cwd=clone,
            capture_output=True,
            text=True,
            check=False,
        )

    done = make()
    assert done.returncode == 0, done.stderr
    environment = clone / ".venv-upstream"

    def runs() -> str:
        return subprocess.run(
            [environment / "bin" / "python", "-m", "vidur.main"],
            cwd=environment / "vidur-data",
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert runs() == "the first"
    assert (environment / "vidur-data" / "data" / "table.csv").is_file()
    assert upstream_state(clone / UPSTREAM_CHECKOUT) == f"clean at {first[:12]}, as pinned"
    found = examine_upstream(clone)
    assert found["commit"] == first
    assert f".venv-upstream: Vidur {first[:12]}, as pinned" in upstream.upstream_lines(found)
    # Another pin, another environment.
    pin(clone, second)
    assert f"another commit than the pinned {second[:12]}" in "\n".join(
        upstream.upstream_lines(examine_upstream(clone))
    )
    assert make().returncode == 0
    assert runs() == "the second"
    # What somebody changed in the checkout is neither installed nor lost.
    (clone / UPSTREAM_CHECKOUT / "vidur" / "main.py").write_text("print('mine')\n")
    refused = make()
    assert refused.returncode != 0
    assert "has local changes" in refused.stderr
    assert runs() == "the second"


def test_a_config_json_makes_a_model_known(tmp_path: Path):
    pytest.importorskip("vidur", reason="vidur is not installed")
    (tmp_path / "tiny").mkdir()
    config = tmp_path / "tiny" / "config.json"
    config.write_text(
        json.dumps(
            {
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 512,
                "num_hidden_layers": 3,
                "hidden_size": 64,
                "intermediate_size": 128,
                "vocab_size": 1000,
            }
        )
    )
    script = (
        "import sys, upstream_main as m; from pathlib import Path; "
        "name = m.register(Path(sys.argv[1])); "
        "from vidur.config.model_config import BaseModelConfig as B; "
        "c = B.create_from_name(name); print(name, c.num_layers, c.num_kv_heads, c.vocab_size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(config)],
        cwd=PROJECT / "extern",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["tiny", "3", "2", "1000"], done.stderr
