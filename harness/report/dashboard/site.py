"""The pages as files. Whatever is about one run is the report of that run, written once."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from harness.records.case import gpus_first
from harness.records.gate_evidence import GateRecords, read_gate
from harness.records.run_file import read_file
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report import formats, mutants, render
from harness.report.cells import GLYPHS
from harness.report.dashboard import case_page, changes, drawing, overview, roofline_page
from harness.report.dashboard.gather import BACK, GatheredColumn, gather
from harness.report.view import NOTHING, build

TEMPLATES = Path(__file__).with_name("templates")
HOME = "../../index.html"
"""The first page, from the index of a run."""


def write(results: Path, out: Path, today: date, names: StackNames = BY_MEMBERS) -> list[Path]:
    """The whole site of a folder of run files, under `out`; gives the paths of the pages that were written.

    UserError when there is no folder or no run in it, or `out` cannot be written; RecordError for a file that cannot be
    trusted.
    """
    gathered = gather(results, today, names)
    written = [render.save(out, path, text) for path, text in pages(gathered, today)]
    on_record = read_gate(results)
    for file in gathered.files:
        written += run_pages(file, out, on_record, names)
    return written


def pages(gathered: GatheredColumn, today: date) -> Iterator[tuple[str, str]]:
    """(path, text) of every page about many records, the first page first."""
    environment = templates()
    page = environment.get_template
    yield "index.html", page("overview.html.j2").render(view=overview.build(gathered), **shared("index"))
    cases = case_page.pages(gathered, today)
    yield "cases.html", page("cases.html.j2").render(cases=cases, **shared("cases"))
    for case in cases:
        yield f"cases/{case.key}.html", page("case_history.html.j2").render(case=case, **shared("cases", "../"))
    spans = (
        ("Since the record before", changes.rows(gathered.differences.values())),
        (f"Over the last {BACK} records", changes.rows(gathered.drifts.values())),
    )
    yield "compare.html", page("compare.html.j2").render(spans=spans, **shared("compare"))
    falls = sorted(gathered.waterfalls.values(), key=lambda fall: (gpus_first(fall.hardware), fall.view.title))
    yield "ablations.html", page("ablations.html.j2").render(waterfalls=falls, **shared("ablations"))
    latest = [line.timed for line in overview.latest(gathered.entries) if line.timed]
    yield "roofline.html", page("rooflines.html.j2").render(roofs=roofline_page.roofs(latest), **shared("roofline"))
    planted = sorted(gathered.faults.items(), key=lambda item: (gpus_first(item[0][2]), item[0]))
    faults = [(entry, mutants.view(matrix)) for _, (entry, matrix) in planted]
    yield "faults.html", page("faults.html.j2").render(faults=faults, **shared("faults"))
    runs = overview.gpu_runs_first(overview.run_lines(gathered.entries))
    yield "runs.html", page("runs.html.j2").render(runs=runs, **shared("runs"))


def run_pages(file: Path, out: Path, on_record: GateRecords = NOTHING, names: StackNames = BY_MEMBERS) -> list[Path]:
    """The report of one run under `out/runs`, unless it is there, newer than the run file and the code, and names
    stacks alike: what it says of the gate is what was on record when it was written."""
    folder = out / "runs" / file.stem
    index = folder / "index.html"
    source = render.TEMPLATES.parent
    code = max(path.stat().st_mtime for path in (*source.glob("*.py"), *source.glob("templates/*")))
    mark = f"<!-- stacks are named by {names.digest()} -->\n"
    newer = index.is_file() and index.stat().st_mtime > max(file.stat().st_mtime, code)
    if newer and index.read_text(encoding="utf-8").endswith(mark):
        return []
    found = read_file(file)
    view = build(found.records, found.plan, found.run, on_record=on_record, names=names)
    every = render.html(view, HOME)
    first = every.pop("index.html") + mark
    # The index is written last: it stands for the others when the next call looks whether they are there.
    return [render.save(folder, path, text) for path, text in (*every.items(), ("index.html", first))]


def templates() -> Environment:
    """Those of the report and of the site, under the same rules: everything escaped, no name undefined."""
    from harness.report import charts

    environment = render.environment_for_html()
    environment.loader = FileSystemLoader([TEMPLATES, render.TEMPLATES])
    script = (TEMPLATES / "site.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "draw_trend": drawing.trend,
        "draw_spark": drawing.spark,
        "draw_roofline": drawing.roofline,
        "waterfall": charts.waterfall,
        "formats": formats,
        "glyphs": GLYPHS,
    }
    return environment


def shared(here: str, root: str = "") -> dict[str, str]:
    """What every page is given: which one it is, and the way to the root of the site."""
    return {"here": here, "root": root}
