"""What a user types and gets back: exit code, one line on stderr, tables, files."""

from __future__ import annotations

import dataclasses
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.analysis.compare.arms import ArmComparison, PhaseComparison
from harness.analysis.compare.estimate import Estimate
from harness.build.checkpoint import read_config
from harness.commands import run as command
from harness.commands.answers import answered
from harness.commands.main import main
from harness.execution.session import Services
from harness.planning import compose
from harness.records.run_file import read_run

STAND_INS = Path(__file__).parents[2] / "execution" / "tests"
PAGED = ("+model=glm_4_7", "optimization=[attention,kv_cache_paged]")


@pytest.fixture
def world(model, cpu_site, environment, monkeypatch, tmp_path):
    """The command line on a machine without a GPU, with one model `glm_4_7` and a stand-in for the worker."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    conf = tmp_path / "conf"
    shutil.copytree(compose.CONF, conf)
    for path in (conf / "model").glob("*.yaml"):
        path.unlink()
    for name in ("glm_4_7", "qwen3_vl_2b"):
        (conf / "model" / f"{name}.yaml").write_text(f"name: {name}\n")
    monkeypatch.setattr(compose, "CONF", conf)

    sizes = {path.stem for path in (conf / "size").glob("*.yaml")} - {"auto"}
    seeing = dataclasses.replace(model, sizes={size: {"vision_config": {}} for size in sorted(sizes)})

    def report(records, plan, run, out, formats, results):
        assert formats == ("html", "markdown")
        return [out / run / "index.html"]

    return Services(
        probe=lambda: cpu_site.machine,
        load={"glm_4_7": model, "qwen3_vl_2b": seeing}.__getitem__,
        weights_bytes=lambda model, size, dtype, weights: 2**30,
        indivisible=lambda shares: None,
        check_weights=lambda model, directory: read_config(directory),
        capture=lambda: environment,
        judge=lambda record: (),
        report=report,
        worker_module="stand_in_worker",
    )


@pytest.fixture
def ask(world):
    def ask(*argv, world=world):
        out, err = io.StringIO(), io.StringIO()
        code = answered(lambda: command.main(argv, out, err, lambda: world), err)
        return code, out.getvalue(), err.getvalue()

    return ask


def run_fine(ask, world, *more):
    return ask("+model=glm_4_7", "optimization=rotary", "timing=quick", *more, world=world)


def with_judge(world, verdict):
    estimate = Estimate(speedup=0.8, low=0.79, high=0.81, n=20, minimum_detectable_effect=0.01, verdict=verdict)
    phase = PhaseComparison(
        phase="decode",
        candidate_ms=1.0,
        against=(ArmComparison(arm="reference", label="HF", median_ms=0.8, estimate=estimate),),
        again=None,
        strongest="reference",
        floor_ms=None,
        roofline_fraction=None,
        bound=None,
        dropped_blocks=0,
        total_blocks=20,
        processes=1,
        sound_processes=1,
    )
    return Services(**(vars(world) | {"judge": lambda record: (phase,)}))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["+model=glm_4_8"], "unknown model 'glm_4_8': did you mean 'glm_4_7'?"),
        (["+modell=glm_4_7"], "unknown setting 'modell': did you mean 'model'?"),
        (["+model=glm_4_7", "size=fulll"], "unknown size 'fulll': did you mean 'full'?"),
        (["+model=glm_4_7", "optimization=rotery"], "unknown optimization of glm_4_7 'rotery': did you mean 'rotary'?"),
        (["+model=glm_4_7", "sead=3"], "unknown setting 'sead': did you mean 'seed'?"),
        (
            ["+model=glm_4_7", "workload=smoke", "+workload.batchh=3"],
            "unknown setting 'workload.batchh': did you mean 'workload.batch'?",
        ),
        (["+model=glm_4_7", "arm=[eeger]"], "unknown arm 'eeger': did you mean 'eager'?"),
        (["+model=glm_4_7", "timing.limit_s=-1"], "setting 'timing.limit_s': input should be greater than 0, not -1"),
        (["+model=glm_4_7", "timing=quick", "timing.max_blocks=3"], "'timing': max_blocks=3 is below min_blocks=10"),
        (["+model=glm_4_7", "timing.margin=3"], "'timing.margin': has settings of its own: write one of them"),
        (["+model=glm_4_7", "engine.workers=0"], "'engine.workers': input should be greater than or equal to 1, not 0"),
        (["+model=glm_4_7", "hardware=cpu", "hardware.gpu_count=2"], "setting 'hardware': cpu with 2 GPUs: what has"),
        (["+model=glm_4_7", "seed=much"], "setting 'seed': input should be a valid integer"),
        (["+model=glm_4_7", "hardware=h200"], "nothing would run: hardware 'h200' needs 1 GPU(s)"),
        (["+model=glm_4_7", "optimization=[kv_cache,attention,kv_cache_paged]"], "'kv_cache' and 'kv_cache_paged' con"),
        (
            ["+model=glm_4_7", "optimization=kv_cache_paged"],
            "'kv_cache_paged' requires attention, which",
        ),
        (["+model=glm_4_7", "optimization=cuda_graph"], "'cuda_graph' requires kv_cache, which the stack lacks"),
        (
            ["+model=glm_4_7", "optimization=[kv_cache,cuda_graph]"],
            "nothing would run: optimization 'cuda_graph' needs",
        ),
        (["+model=glm_4_7", "optimization=linear"], "unknown optimization of glm_4_7 'linear'"),
        (["+model=glm_4_7", "optimization=none,full"], "'optimization=none,full' is a sweep: add -m"),
        (["+model=glm_4_7", "+sweep=ablation"], "'+sweep=ablation' is a sweep: add -m"),
        (["+model=glm_4_7", "optimization=one_at_a_time"], "'optimization=one_at_a_time' is a sweep: add -m"),
        (["+model=glm_4_7", "size=[tiny,full]"], "one size per case"),
        (["+model=glm_4_7", "workload=images"], "shows images and glm_4_7 reads text only"),
        (["+model=glm_4_7", "+x._target_=os.system"], "'x._target_' would have code named by the configuration called"),
        (["+model=glm_4_7", "+workload._partial_=true"], "'workload._partial_' would have code"),
        (["+model=glm_4_7", "out=${oc.env:HOME}"], "'out' holds a resolver"),
        (["+model=glm_4_7", "out=${nope}"], "Interpolation key 'nope' not found"),
        (["+model=glm_4_7", "hydra.run.dir=x"], "Hydra's own settings have no effect here"),
        (
            [*PAGED, "optimization.kv_cache_paged.page_tokens=24"],
            "page_tokens=24: must be a whole number, 16, 32 or 64",
        ),
        ([*PAGED, "optimization.kv_cache_paged.page_tokens=16.0"], "page_tokens=16.0: must be a whole number"),
        ([*PAGED, "optimization.kv_cache_paged.page_tokens=true"], "page_tokens=True: must be a whole number"),
        ([*PAGED, "optimization.kv_cache_paged.page_tokens=null"], "page_tokens=None: must be a whole number"),
        ([*PAGED, "optimization.kv_cache_paged.page_tokens=[16]"], "one value per case; a comma under -m is a sweep"),
        ([*PAGED, "optimization.kv_cache_paged.page_tokens=16,32"], "is a sweep: add -m"),
        (
            [*PAGED, "optimization.kv_cache_paged.page_token=16"],
            "unknown parameter of 'kv_cache_paged' 'page_token': did you mean 'page_tokens'?",
        ),
        ([*PAGED, "optimization.attention.page_tokens=16"], "'attention' has no parameters"),
        ([*PAGED, "optimization.kv_cach.page_tokens=16"], "unknown optimization of glm_4_7 'kv_cach': did you mean"),
        ([*PAGED, "optimization.kv_cache_paged=16"], "told is optimization.NAME.PARAMETER=VALUE"),
        ([*PAGED, "optimization.kv_cache_paged._target_=os.system"], "_paged._target_' would have code named by"),
        ([*PAGED, "optimization.kv_cache_paged.page_tokens=${oc.env:HOME}"], "page_tokens' holds a resolver"),
        (
            ["+model=glm_4_7", "optimization=rotary", "optimization.kv_cache_paged.page_tokens=16"],
            "optimization.kv_cache_paged.page_tokens: 'kv_cache_paged' is not in the stack rotary",
        ),
        (
            ["-m", "+model=glm_4_7", "optimization=none,rotary", "optimization.kv_cache_paged.page_tokens=16,32"],
            "optimization.kv_cache_paged.page_tokens: 'kv_cache_paged' is not in the stack none",
        ),
        (["+model=glm_4_7", "optimization=[none,rotary]"], "'none' is the empty stack and cannot be a part of another"),
        (["+model=glm_4_7", "+optimization=rotary"], "'optimization' is there already, without a plus"),
        (["+model=glm_4_7", "~optimization"], "an empty stack is optimization=none"),
        (["+model=glm_4_7", "optimization/rotary=x"], "unknown setting 'optimization/rotary'"),
        (["-m", "+model=glm_4_7", "optimization=glob(linear*)"], "unknown optimization 'linear*'"),
        (["+model=glm_4_7", "weights=nowhere"], "'nowhere' holds no config.json"),
        (["+model=glm_4_7", "optimization=[rotary"], "no viable alternative"),
        (["model=glm_4_7"], "'model' is added with a plus: +model=..."),
        (["size=tiny"], "no model was named: add +model=NAME"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["-m", "+model=glm_4_7", "out=a,b"], "'out' is swept, but a run has one"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_exit_2(ask, tmp_path, argv, line):
    code, out, err = ask(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert line in err
    assert not list(tmp_path.rglob("*.jsonl*"))


def test_an_output_folder_that_cannot_be_written_stops_the_run_before_its_first_case(ask, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = ask("+model=glm_4_7", "out=file/results")
    assert code == 2
    assert "error: cannot write records under" in err
    assert "case 1/1" not in err


def test_a_plan_can_be_looked_at_without_running_it(ask, tmp_path):
    code, out, err = ask("-m", "+model=glm_4_7", "optimization=none,rotary,full", "hardware=cpu,h200", "plan=only")
    assert (code, err) == (0, "")
    assert "3 cases, 3 skipped" in out
    assert "skipped: glm_4_7/full none h200 standard: hardware 'h200' needs 1 GPU(s)" in out
    assert "note: glm_4_7 on cpu: `full` leaves out cuda_graph (needs cuda)" in out
    assert not list(tmp_path.rglob("*.jsonl*"))


def test_a_sweep_over_a_glob_reaches_every_model_and_merges_duplicates(ask):
    code, out, _ = ask("-m", "+model=choice(glm_4_7,qwen3_vl_2b)", "optimization=rotary,[rotary]", "plan=only")
    assert code == 0
    assert "2 cases, 0 skipped" in out


def test_a_run_records_reports_and_says_where(ask, tmp_path, world):
    code, out, err = run_fine(ask, world)
    (path,) = tmp_path.rglob("*.jsonl")
    plan, records = read_run(path)
    assert code == 0
    assert path.parent == tmp_path / "benchmark_results" / "cpu"
    assert [record.status for record in records] == ["passed"]
    assert records[0].plan == plan.hash
    assert f"records: {path}" in out
    assert "index.html" in out
    assert "1 planned = 1 passed + 0 failed + 0 lost + 0 skipped" in out
    assert "case 1/1" in err
    assert "half way" in err
    assert "\x1b" not in out + err


def test_report_empty_writes_none(ask, world):
    _, out, _ = run_fine(ask, world, "report=[]")
    assert "report:" not in out


def test_slower_than_the_reference_is_refused_with_exit_1(ask, world):
    code, out, _ = run_fine(ask, with_judge(world, "slower"))
    assert code == 1
    assert "refused: glm_4_7/tiny rotary cpu smoke: decode is slower than the reference, 0.8x [0.79, 0.81]" in out


def test_inconclusive_is_said_and_not_refused(ask, world):
    code, out, _ = run_fine(ask, with_judge(world, "inconclusive"))
    assert code == 0
    assert "inconclusive" in out


def test_a_wrong_case_is_refused_with_exit_1_and_what_broke(ask, tmp_path):
    code, out, _ = ask("+model=glm_4_7", "optimization=rotary", "timing=quick", "seed=7")
    assert code == 1
    assert "refused: glm_4_7/tiny rotary cpu smoke: failed: k (out): largest error 3, 2 allowed (rule max); 1 of" in out
    assert "0 passed + 1 failed" in out


def test_no_arguments_list_the_models_and_exit_2(ask, monkeypatch):
    monkeypatch.setattr(command.registry, "names", lambda: ("glm_4_7",))
    code, out, err = ask()
    assert code == 2
    assert "glm_4_7" in out
    assert "kv_cache_paged" in out
    assert err.count("\n") == 1


def test_cfg_job_prints_what_would_be_asked(ask):
    code, out, _ = ask("--cfg", "job", "+model=glm_4_7", "optimization=[rotary,attention]", "seed=5")
    assert code == 0
    assert "seed: 5" in out
    assert "optimization:\n  rotary: {}\n  attention: {}\n" in out


def test_a_named_sweep_multiplies_with_a_glob(ask):
    code, out, _ = ask("-m", "+model=choice(glm_4_7,qwen3_vl_2b)", "+sweep=ablation", "--cfg", "job")
    assert code == 0
    assert out.count("\nmodel:\n") == 8


def test_the_ablation_is_computed_for_each_model_and_states_what_it_skips(ask):
    code, out, err = ask("-m", "+model=glm_4_7", "+sweep=ablation", "plan=only")
    assert (code, err) == (0, "")
    assert "9 cases, 1 skipped" in out
    assert "skipped: glm_4_7/tiny kv_cache+cuda_graph cpu smoke: optimization 'cuda_graph' needs cuda" in out


def test_a_parameter_is_swept_and_stacks_without_its_optimization_stay_as_they_are(ask):
    sweep = ("optimization=[attention,kv_cache_paged],rotary", "optimization.kv_cache_paged.page_tokens=16,64")
    code, out, err = ask("-m", "+model=glm_4_7", *sweep, "plan=only")
    assert (code, err) == (0, "")
    assert "3 cases, 0 skipped" in out
    assert "attention+kv_cache_paged(page_tokens=16) cpu" in out
    assert "attention+kv_cache_paged cpu" in out
    assert "note: optimization.kv_cache_paged.page_tokens has no part in 1 of 2 stacks" in out


def test_a_parameter_is_printed_beside_the_stack(ask):
    _, out, _ = ask("--cfg", "job", "+model=glm_4_7", "optimization.kv_cache_paged.page_tokens=16")
    assert out.startswith("optimization:\n  full: {}\n  kv_cache_paged.page_tokens: 16\n")


def test_a_parameter_is_recorded(ask, tmp_path):
    told = "optimization.kv_cache_paged.page_tokens=16"
    code, out, _ = ask(*PAGED, told, "timing=quick")
    (path,) = tmp_path.rglob("*.jsonl")
    _, (record,) = read_run(path)
    assert code == 0
    assert record.case.parameters == {"kv_cache_paged.page_tokens": 16}
    assert record.case.asked() == (PAGED[1], told)
    assert record.case.label() in out


def test_a_glob_is_every_optimization_of_the_menu_that_it_matches(ask):
    code, out, _ = ask("-m", "+model=glm_4_7", "optimization=glob([kv_*,rot*],exclude=*_paged)", "plan=only")
    assert (code, "2 cases, 0 skipped" in out) == (0, True)
    assert "kv_cache cpu" in out
    assert "rotary cpu" in out


def test_help_of_a_model_lists_what_its_optimizations_can_be_told():
    out = io.StringIO()
    assert main(["--help", "+model=glm_4_7"], out) == 0
    (line,) = (line for line in out.getvalue().splitlines() if "kv_cache_paged.page_tokens" in line)
    assert [cell.strip() for cell in line.split("|")[1:5]] == [
        "optimization.kv_cache_paged.page_tokens",
        "64",
        "16, 32, 64, 128 or 256",
        "Tokens in a page of the cache.",
    ]


def test_a_crossed_sweep_gives_what_composing_every_job_gives():
    sweep = ["+model=qwen3_coder_30b", "workload=smoke,standard", "workload.batch=1,3", "seed=1,2", "size=tiny"]
    crossed = compose.texts(sweep, multirun=True)
    each = [
        text
        for w in ("smoke", "standard")
        for b in (1, 3)
        for s in (1, 2)
        for text in compose.texts(
            [sweep[0], f"workload={w}", f"workload.batch={b}", f"seed={s}", "size=tiny"], multirun=False
        )
    ]
    assert crossed == each


CHOICES = [path for group in ("size", "timing", "workload") for path in sorted((compose.CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_choice_is_known_to_the_settings_by_the_name_of_its_file(ask, path):
    code, out, err = ask("+model=qwen3_vl_2b", f"{path.parent.name}={path.stem}", "plan=only")
    assert (code, err) == (0, "")
    assert out.count("1 cases") == 1


@pytest.mark.parametrize("group", compose.STACKS)
def test_what_stacks_keeps_its_content_under_its_own_name(group):
    for path in (compose.CONF / group).glob("*.yaml"):
        assert set(OmegaConf.load(path)) == {path.stem} - {"none"}


def test_hardware_files_are_named_as_their_entries():
    known = compose.known_hardware()
    assert {path.stem for path in (compose.CONF / "hardware").glob("*.yaml")} - {"auto"} == set(known)
    assert known["h200_x8"].gpu_count == 8


def test_help_is_light():
    code = (
        "import sys\nfrom harness.commands.main import main\ncode = main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'triton', 'pandas', 'altair', 'scipy', 'hydra'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=compose.CONF.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "optimization=[rotary,attention]" in done.stdout


def test_what_a_worker_tells_of_a_secret_is_in_no_file_of_the_run(ask, world, tmp_path, monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", "hf_ThisIsNobodysToken")
    _, out, err = run_fine(ask, world)
    (path,) = tmp_path.rglob("*.jsonl")
    assert "HUB_TOKEN=<HUB_TOKEN>" in path.read_text()
    for told in (out, err, *(file.read_text() for file in tmp_path.rglob("*") if file.is_file())):
        assert "hf_ThisIsNobodysToken" not in told


def test_a_plan_for_hardware_that_is_not_here_is_that_of_its_own_machine(ask, world, gpu_site):
    asked = ("+model=glm_4_7", "optimization=full", "hardware=h200", "plan=only")
    code, out, err = ask(*asked)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == (
        "this machine would not run it: hardware 'h200' needs 1 GPU(s) of its kind, 0 found (here: no GPU)"
    )
    there = dataclasses.replace(world, probe=lambda: gpu_site.machine)
    assert ask(*asked, world=there)[1].splitlines() == lines[:-1], "the same plan and cost, less the warning"


def test_hardware_that_is_not_here_still_runs_nothing(ask):
    code, _, err = ask("+model=glm_4_7", "hardware=h200")
    assert code == 2
    assert "nothing would run: hardware 'h200' needs 1 GPU" in err


def test_a_plan_for_several_machines_that_are_not_here_warns_of_each(ask):
    code, out, _ = ask("-m", "+model=glm_4_7", "optimization=rotary", "hardware=h200,h200_x8", "plan=only")
    assert code == 0
    assert "2 cases, 0 skipped" in out
    assert out.count("this machine would not run it: ") == 2


def test_a_plan_says_what_its_case_took_the_last_time(ask, world, tmp_path):
    assert run_fine(ask, world, "timing=off")[0] == 0
    (path,) = (tmp_path / "benchmark_results").rglob("*.jsonl")
    _, (record,) = read_run(path)
    _, out, _ = ask("+model=glm_4_7", "optimization=rotary", "timing=off", "plan=only")
    (row,) = (line for line in out.splitlines() if " glm_4_7/" in line)
    assert row.split("|")[-2].strip() == f"{record.wall_s:.0f} s"


def test_what_one_machine_has_learned_moves_no_case_to_another_shard(ask, world, tmp_path):
    def cases_of_a_shard():
        _, out, _ = ask(
            "-m", "+model=glm_4_7", "optimization=none,rotary,attention", "timing=off", "shard=1/2", "plan=only"
        )
        return [line for line in out.splitlines() if line.startswith("shard 1/2: ") and "glm_4_7" in line]

    run_fine(ask, world, "timing=off")
    learned = cases_of_a_shard()
    (path,) = (tmp_path / "benchmark_results").rglob("*.jsonl")
    path.unlink()
    assert learned == cases_of_a_shard() != []


def test_records_that_cannot_be_trusted_are_told_and_the_estimate_stands(ask, world, tmp_path):
    run_fine(ask, world, "timing=off")
    (path,) = (tmp_path / "benchmark_results").rglob("*.jsonl")
    path.write_text(path.read_text().replace('"wall_s":', '"wall_s":1'))
    code, out, _ = ask("+model=glm_4_7", "optimization=rotary", "timing=off", "plan=only")
    assert code == 0
    assert "note: the estimates are not of this machine: " in out
    assert "edited" in out
