"""`python -m harness report`: a run file in, paths out, one clear line when it cannot."""

import io
import subprocess
import sys

from harness.commands.main import main
from harness.errors import RecordError
from harness.records.run_file import RunFile


def test_writes_what_was_asked_for_and_prints_where(ends, tmp_path, monkeypatch):
    _, plan, records = ends
    path = tmp_path / "some.jsonl"
    path.touch()
    content = RunFile(path, records["timed"].run, plan, plan.hash, None, (), tuple(records.values()), ())
    monkeypatch.setattr("harness.records.run_file.read_file", lambda found: content if found == path else None)
    asked = [f"reports={tmp_path / 'reports'}", "format=markdown", f"out={tmp_path / 'records'}"]
    out = io.StringIO()
    assert main(["report", str(path), *asked], out) == 0
    written = tmp_path / "reports" / records["timed"].run / "report.md"
    assert out.getvalue().split() == [str(written)]
    assert "REFUSED" in written.read_text()


def test_a_file_that_cannot_be_trusted_is_one_line_and_exit_2(tmp_path, monkeypatch):
    def refuse(path):
        raise RecordError("line 3: edited")

    monkeypatch.setattr("harness.records.run_file.read_file", refuse)
    path = tmp_path / "some.jsonl"
    path.touch()
    err = io.StringIO()
    assert main(["report", str(path)], io.StringIO(), err) == 2
    assert main(["report", str(tmp_path / "absent.jsonl")], io.StringIO(), err) == 2
    lines = err.getvalue().splitlines()
    assert lines[0] == "error: line 3: edited"
    assert lines[1].startswith("error: no run file")
    assert len(lines) == 2


def test_charts_are_not_loaded_before_a_page_is_drawn():
    heavy = "{'altair', 'vl_convert', 'torch'}"
    code = f"import sys, harness.commands.report, harness.report.render; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
