"""The view model as files: an index, a page for every case, one Markdown document."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.errors import UnknownName, UserError
from harness.records.case import Plan
from harness.records.gate_evidence import GateRecords
from harness.records.record import Record
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report.view import NOTHING, RunView, build

NAME = re.compile(r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")
TEMPLATES = Path(__file__).with_name("templates")

Pages = dict[str, str]
"""Path under the run's folder -> text."""


def write(
    records: Sequence[Record],
    plan: Plan,
    run: str,
    out: Path,
    formats: Sequence[str],
    on_record: GateRecords = NOTHING,
    names: StackNames = BY_MEMBERS,
) -> list[Path]:
    """Write the report of a run under `out/<run>`: `html` is index.html and cases/<key>.html, `markdown` report.md.

    UserError where a format is unknown, the run's name could leave `out`, or the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownName("report format", name, FORMATS)
    if not NAME.match(run):
        raise UserError(
            f"run name '{run}' is not letters, digits, dot, dash: its report could be written outside {out}"
        )
    view = build(records, plan, run, on_record=on_record, names=names)
    pages = {path: text for name in formats for path, text in FORMATS[name](view).items()}
    return [save(out / run, path, text) for path, text in pages.items()]


def html(view: RunView, home: str = "") -> Pages:
    """Pages that open from disk, without scripts and without a network. `home` is where the index leads up to."""
    from harness.report import charts

    environment = environment_for_html()
    environment.globals |= {"speedups": charts.speedups, "samples": charts.samples, "waterfall": charts.waterfall}
    index, case = environment.get_template("index.html.j2"), environment.get_template("case.html.j2")
    pages = {f"cases/{view_of.key}.html": case.render(run=view, case=view_of, home=home) for view_of in view.cases}
    return {"index.html": index.render(run=view, home=home)} | pages


def markdown(view: RunView) -> Pages:
    return {"report.md": environment_for_markdown().get_template("report.md.j2").render(run=view)}


FORMATS: dict[str, Callable[[RunView], Pages]] = {"html": html, "markdown": markdown}


def environment_for_html() -> Environment:
    """Escapes whatever comes from data and refuses a name that the view does not have.

    `breakable` lets a long name break where its parts join.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment


def environment_for_markdown() -> Environment:
    """The same; `md` escapes one line of text, `fenced` makes a code block that its text cannot leave."""
    environment = environment_for_html()
    environment.filters |= {"md": in_markdown, "fenced": fenced}
    return environment


def breakable(text: str) -> Markup:
    """Escaped text that may break after a slash, plus or underscore, and not inside a word."""
    return Markup(re.sub(r"([/+_])(?=\w{2})", r"\1<wbr>", str(escape(text))))


def in_markdown(text: str) -> Markup:
    """Text as one line that Markdown shows letter by letter, inside a table too."""
    line = re.sub(r"([\\`|*~\[\]]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z]))", r"\\\1", " ".join(text.split()))
    return Markup(str(escape(line)).replace("&#39;", "'").replace("&#34;", '"'))


def fenced(text: str) -> Markup:
    """A code block whose fence is longer than any row of backticks in it."""
    fence = "`" * (1 + max((len(found) for found in re.findall("`+", text)), default=2))
    return Markup(f"{fence}text\n{text}\n{fence}")


def save(folder: Path, path: str, text: str) -> Path:
    """Write `folder/path`; UserError where a symlink leads elsewhere or the disk refuses."""
    target = folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if any(part.is_symlink() for part in (folder, target.parent, target)):
            raise UserError(f"{target} lies behind a symlink: the report would be written somewhere else")
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report to {target}: {error.strerror}") from None
    return target
