"""What ran on GPUs stands before what ran on a CPU, on every page about many runs."""

import random
import re
from datetime import timedelta

import pytest

from harness.records.case_identity import CaseIdentity
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


def test_a_trend_on_a_gpu_is_of_the_candidates_own_speed_and_marks_a_protocol(tmp_path, cases, machine, today):
    case, rng = cases["stepped"].model_copy(update={"hardware": "h200"}), random.Random(5)
    signoff = case.model_copy(update={"timing": case.timing.model_copy(update={"name": "signoff"})})
    for number, asked in enumerate((case, case, signoff, case.model_copy(update={"seed": 7}))):
        fields = {"only": timed(rng, 2.0) | {"environment": machine}}
        write_run(tmp_path, f"night-{number}", {"only": asked}, START + timedelta(days=number), fields)
    made = dict(site.pages(site.gather(tmp_path, today), today))
    page = made[f"cases/{CaseIdentity.of_case(case).key}.html"]
    assert "Calls per second of the candidate with 99 % intervals" in page
    assert page.count('class="machine"') == 2
    assert re.findall(r">(signoff, same inputs|standard, same inputs)</text>", page) == [
        "signoff, same inputs",
        "standard, same inputs",
    ]
    assert page.count('class="interval"') == 4
    assert re.search(r">[0-9.]+/s</text>", page)


@pytest.mark.parametrize("page", ["index.html", "cases.html", "runs.html", "compare.html"])
def test_rows_of_a_table(made, page):
    rows = re.findall(r'<tr(?: data-w="[^"]*")? data-h="(.*?)"', made[page])
    assert set(rows) == set(ORDER)
    assert [where.startswith("cpu") for where in rows] == sorted(where.startswith("cpu") for where in rows)
