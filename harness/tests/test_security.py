"""What an attacker could put into a record, a name, a checkpoint or the environment, and what becomes of it."""

import ast
import hashlib
import json
import shlex
from pathlib import Path

import pytest

from harness.analysis.compare.revisions import records as named_records
from harness.errors import RecordError, UserError
from harness.machine.environment import capture
from harness.records import run_file
from harness.records.case import Plan
from harness.records.checks import Check, NotJudged, Parity
from harness.records.gate_evidence import GateRecords
from harness.records.record import Failure, ReceiptNote, Record
from harness.records.redaction import hide, withheld
from harness.records.run_file import RunWriter, read_file, run_path
from harness.report import case_view
from harness.signoff.commands import command

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hf_ThisIsNobodysToken"
ENVIRONMENT = {"HUB_TOKEN": SECRET, "PAGER": "less", "AWS_SECRET_ACCESS_KEY": "longer/than/most", "API_KEY": "abc"}
READS_PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLED = {"eval", "exec", "compile", "__import__"}
BUILDS_OBJECTS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}
LOADS = {"torch.load", "np.load", "numpy.load"}
SOURCES = sorted(
    path for top in ("harness", "models") for path in (ROOT / top).rglob("*.py") if "tests" not in path.parts
)


@pytest.fixture
def crashed(make_case, environment):
    case = make_case()
    plan = Plan(cases=(case,), skipped=())
    check = Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0)
    return Record(
        run="r", plan=plan.hash, case=case, key=case.key, status="crashed", started_at="2025-01-01T00:00:00+00:00",
        wall_s=1.0, environment=environment, timing_notes=(f"asked with {SECRET}",),
        receipts=(ReceiptNote(optimization="rotary", touched=(), notes=(SECRET,)),),
        parity=Parity(checks=(check,), not_judged=(NotJudged(level="op", subject="k", reason=SECRET),)),
        error=Failure(kind="HTTPError", message=f"401 for token {SECRET}", traceback=f"get(https://me:{SECRET}@hub/x)"),
    )  # fmt: skip


@pytest.fixture
def line():
    """A function: content of a header or a record to the line that would hold it, its hash right."""

    def made(kind, content):
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f'{{"hash":"{hashlib.sha256(canonical.encode()).hexdigest()}","{kind}":{canonical}}}\n'

    return made


def test_no_text_of_a_record_quotes_a_secret_of_the_environment(crashed):
    told = withheld(crashed, ENVIRONMENT)
    assert SECRET in crashed.model_dump_json()
    assert SECRET not in told.model_dump_json()
    assert told.error.message == "401 for token <HUB_TOKEN>"
    assert told.error.traceback == "get(https://...@hub/x)"
    assert told.key == crashed.key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("less is more", "less is more"),
        ("abc of names", "abc of names"),
        ("longer/than/most of them", "<AWS_SECRET_ACCESS_KEY> of them"),
        ("ssh://git:pass@host/x", "ssh://...@host/x"),
        ("https://host/page@2", "https://host/page@2"),
    ],
)
def test_only_secrets_are_hidden(text, said):
    assert hide(text, ENVIRONMENT) == said


def test_a_command_with_a_secret_is_recorded_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", SECRET)
    environment = capture(tmp_path, ["python", "-m", "harness", f"+note={SECRET}"])
    assert SECRET not in environment.model_dump_json()
    assert environment.command[-1] == "+note=<HUB_TOKEN>"


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def called(tree):
    """Every call as its dotted name with the names of its keywords, and what each keyword is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def dangers(tree):
    yield from READS_PICKLES & set(imported(tree))
    for name, keywords in called(tree):
        if name in CALLED or name in BUILDS_OBJECTS:
            yield name
        if name in LOADS and keywords.get("weights_only") != "True":
            yield f"{name} without weights_only=True"
        yield from (f"{word}=True" for word in ("trust_remote_code", "shell") if keywords.get(word, "False") != "False")


def test_no_source_reads_a_pickle_or_runs_a_text():
    found = {path.relative_to(ROOT).as_posix(): sorted(dangers(ast.parse(path.read_text()))) for path in SOURCES}
    assert len(found) > 150
    assert {path: names for path, names in found.items() if names} == {}


def test_that_check_sees_what_it_looks_for():
    text = "import pickle\ntorch.load(x)\nyaml.load(x)\neval(x)\nrun(x, shell=True)\nload(x, trust_remote_code=asked)"
    assert len(set(dangers(ast.parse(text)))) == 6
    assert not list(dangers(ast.parse("torch.load(x, weights_only=True)\nrun(x, shell=False)\nmodel.eval()")))


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc", "", ".hidden", "a" * 65, "a\nb", "a b", "-rf"])
def test_a_name_that_could_leave_its_folder_is_no_name(tmp_path, name):
    for hardware, run in ((name, "run"), ("cpu", name)):
        with pytest.raises(UserError, match="not letters, digits, dot, dash"):
            run_path(tmp_path, hardware, run)
    with pytest.raises(ValueError, match="run"):
        Record.model_validate({"run": name})


def test_a_run_file_whose_header_names_another_place_is_refused(tmp_path, line):
    plan = Plan(cases=(), skipped=())
    header = {"schema_version": 3, "run": "../../elsewhere", "plan": plan.model_dump(mode="json")}
    path = tmp_path / "r.jsonl"
    path.write_text(line("header", header))
    with pytest.raises(RecordError, match=r"line 1: run name '\.\./\.\./elsewhere'"):
        read_file(path)


def test_a_comparison_follows_no_symlink_to_another_run(tmp_path, crashed):
    plan = Plan(cases=(crashed.case,), skipped=())
    with RunWriter(run_path(tmp_path / "away", "cpu", "r"), "r", plan) as writer:
        writer.append(crashed)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "r.jsonl").symlink_to(tmp_path / "away" / "cpu" / "r.jsonl")
    with pytest.raises(RecordError, match="symlink"):
        named_records("r", tmp_path / "cpu")


def test_a_record_that_is_too_large_is_neither_written_nor_read(tmp_path, crashed, monkeypatch):
    plan = Plan(cases=(crashed.case,), skipped=())
    with RunWriter(run_path(tmp_path, "cpu", "r"), "r", plan) as writer:
        writer.append(crashed)
    monkeypatch.setattr(run_file, "MOST_BYTES", 1500)
    with pytest.raises(RecordError, match=r"r\.jsonl line 2: larger than"):
        read_file(tmp_path / "cpu" / "r.jsonl")
    writer = RunWriter(run_path(tmp_path, "cpu", "s"), "s", plan)
    with pytest.raises(RecordError, match="is the most that is read again"), writer:
        writer.append(crashed)


def test_a_record_nested_without_end_is_refused_by_its_line(tmp_path, line):
    plan = Plan(cases=(), skipped=())
    header = {"schema_version": 3, "run": "r", "plan": plan.model_dump(mode="json")}
    path = tmp_path / "r.jsonl"
    path.write_text(line("header", header) + '{"hash":"x","record":' + "[" * 200_000 + "\n")
    with pytest.raises(RecordError, match="line 2: truncated or not JSON"):
        read_file(path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused_even_with_a_right_hash(tmp_path, crashed, line, value):
    plan = Plan(cases=(crashed.case,), skipped=())
    header = line("header", {"schema_version": 3, "run": "r", "plan": plan.model_dump(mode="json")})
    good = json.dumps(crashed.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    bad = good.replace('"wall_s":1.0', f'"wall_s":{value}')
    path = tmp_path / "r.jsonl"
    path.write_text(f'{header}{{"hash":"{hashlib.sha256(bad.encode()).hexdigest()}","record":{bad}}}\n')
    with pytest.raises(RecordError, match=r"r\.jsonl line 2"):
        read_file(path)


def test_a_command_to_copy_holds_no_second_one(crashed):
    evil = "x; rm -rf ~ #"
    case = crashed.case.model_copy(update={"model": evil, "optimizations": (f"a'{evil}",), "hardware": evil})
    assert shlex.split(command(case))[3] == f"+model={evil}"
    assert ";" not in shlex.split(command(case))
    parity = crashed.parity.model_copy(
        update={"reproducer": evil, "checks": (crashed.parity.checks[0].model_copy(update={"error": 9.0}),)}
    )
    failed = crashed.model_copy(update={"status": "failed", "parity": parity})
    assert shlex.split(case_view.build(failed, (), GateRecords()).reproducer)[-1] == f"cpu/{evil}"
