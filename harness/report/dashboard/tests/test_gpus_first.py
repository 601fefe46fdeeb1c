"""What ran on GPUs stands before what ran on a CPU, on every page about many runs."""

import random
import re
from datetime import timedelta

import pytest

from harness.report.dashboard import site
from harness.report.dashboard.tests.conftest import FAULTS, START, timed, write_run

ORDER = ["b200", "h200", "cpu", "cpu_x4"]
STACKS = ((), ("rotary",), ("rotary", "attention"))


@pytest.fixture(scope="module")
def made(tmp_path_factory, cases, machine, today):
    """Path -> text of the site of two runs on each of four machines."""
    folder, rng = tmp_path_factory.mktemp("machines"), random.Random(3)
    for hardware in ("cpu", "h200", "cpu_x4", "b200"):
        sweep = {
            stack: cases["stepped"].model_copy(update={"hardware": hardware, "optimizations": stack})
            for stack in STACKS
        }
        for number in range(2):
            fields = {stack: timed(rng, 2.0) | {"environment": machine, "kill_matrix": FAULTS} for stack in STACKS}
            write_run(folder, f"{hardware}-{number}", sweep, START + timedelta(days=number), fields)
    return dict(site.pages(site.gather(folder, today), today))


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("index.html", r'<section class="machine" data-h="(.*?)"'),
        ("roofline.html", r'<h2 id="roof-\d+">(.*?)</h2>'),
        ("faults.html", r'<h2 id="faults-\d+">.* on (.*?)</h2>'),
        ("ablations.html", r'<h2 id="fall-\d+">.* on (.*?), standard'),
    ],
)
def test_a_section_for_each_machine(made, page, heading):
    found = re.findall(heading, made[page])
    assert list(dict.fromkeys(where.replace("<wbr>", "") for where in found)) == ORDER


@pytest.mark.parametrize("page", ["index.html", "cases.html", "runs.html", "compare.html"])
def test_rows_of_a_table(made, page):
    rows = re.findall(r'<tr(?: data-w="[^"]*")? data-h="(.*?)"', made[page])
    assert set(rows) == set(ORDER)
    assert [where.startswith("cpu") for where in rows] == sorted(where.startswith("cpu") for where in rows)
