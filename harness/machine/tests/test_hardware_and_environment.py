"""What a run says of its machine and its source."""

import getpass
import os
import platform
import subprocess
import sys

import pytest

from harness.errors import UserError
from harness.machine.environment import capture, holds, source_state, without_folders
from harness.machine.hardware import probe, visible

UUIDS = ("GPU-aa11", "GPU-aa22", "GPU-bb33")


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / ".gitignore").write_text("cache/\n")
    (tmp_path / "code.py").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path


@pytest.mark.parametrize(
    ("entries", "indices"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("-1", ()),
        ("2,0", (2, 0)),
        ("1,-1,2", (1,)),
        ("0,7,1", (0,)),
        ("1,1", (1,)),
        ("GPU-bb33,0", (2, 0)),
        ("GPU-bb", (2,)),
        ("GPU-aa", ()),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(entries, indices):
    assert visible(entries, UUIDS) == indices


def test_a_mig_slice_is_refused():
    with pytest.raises(UserError, match="MIG"):
        visible("MIG-1234", UUIDS)


def test_probe_fits_together():
    machine = probe()
    assert (machine.kind == "cuda") == bool(machine.gpu_count) == bool(machine.capability)
    assert machine.gpu_count == len(machine.gpu_names) == len(machine.gpu_uuids)
    assert 1 <= machine.cores <= os.cpu_count()
    assert machine.memory_bytes > 2**28
    assert machine.cpu


def test_probing_does_not_import_torch():
    script = "import sys; from harness.machine import environment, hardware; hardware.probe()"
    script += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_clean_checkout_has_a_commit_and_no_hash(repository):
    commit, diff_hash = source_state(repository)
    assert len(commit) == 40
    assert diff_hash is None


def test_every_change_of_the_source_changes_its_hash(repository):
    seen = [source_state(repository)[1]]

    def change(name, text):
        (repository / name).write_text(text)
        seen.append(source_state(repository)[1])

    change("code.py", "two\n")
    change("new.py", "a")
    change("new.py", "b")
    change("other.py", "b")
    assert len(set(seen)) == 5
    (repository / "new.py").unlink(), (repository / "other.py").unlink()
    assert source_state(repository)[1] == seen[1]


def test_git_is_asked_about_this_checkout_whatever_it_told_its_own_children(repository, monkeypatch, tmp_path_factory):
    clean = source_state(repository)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(["git", "init", "-q", str(elsewhere)], check=True)
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere))
    assert source_state(repository) == clean


@pytest.mark.parametrize("name", ["benchmark_results/x.jsonl", "reports/r.html", "cache/x"])
def test_results_and_ignored_files_leave_the_tree_clean(repository, name):
    (repository / name).parent.mkdir()
    (repository / name).write_text("result")
    assert source_state(repository)[1] is None


def test_a_commit_is_held_where_a_clone_would_bring_it(repository):
    commit, _ = source_state(repository)
    assert holds(repository, commit)
    assert not holds(repository, "HEAD"), "a name that moves is no commit"
    assert not holds(repository, "0" * 40)
    words = ["git", "-C", str(repository), "-c", "user.name=n", "-c", "user.email=e", "commit-tree", "HEAD^{tree}"]
    loose = subprocess.run([*words, "-m", "x"], capture_output=True, text=True, check=True).stdout.strip()
    assert not holds(repository, loose), "in the object store, and in nobody's past"
    assert holds(repository.parent, commit) is None


def test_no_checkout_is_unknown_and_dirty(tmp_path):
    environment = capture(tmp_path, ["python"])
    assert (environment.commit, environment.dirty, environment.diff_hash) == ("unknown", True, None)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("weights=/home/me/models/x", "weights=.../x"),
        ("/usr/bin/python3.11", ".../python3.11"),
        ("~/runs/a", ".../a"),
        ("a=[/x/y,/z/w]", "a=[.../y,.../w]"),
        ("--out=sub/folder", "--out=sub/folder"),
        ("+model=glm_4_7", "+model=glm_4_7"),
        ("shard=2/8", "shard=2/8"),
        ("https://host/page", "https://host/page"),
    ],
)
def test_commands_lose_their_folders(argument, told):
    assert without_folders(argument) == told


def test_a_captured_environment_names_no_person_and_no_place(repository):
    environment = capture(repository, [sys.executable, f"weights={repository}/w"])
    told = environment.model_dump_json(exclude={"commit"})
    assert str(repository) not in told
    assert os.path.dirname(sys.executable) not in told
    assert platform.node() not in told or len(platform.node()) < 4
    assert getpass.getuser() not in told or len(getpass.getuser()) < 5
    assert environment.packages.keys() >= {"torch", "pydantic"}
    assert not environment.dirty
