from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.conftest import KNOWN, PAGE_TOKENS, optimization
from harness.errors import ConfigError, UnknownName, UserError
from harness.planning import cost, plan
from harness.planning.settings import Settings, from_config
from harness.spec.optimization import Menu

GIB = 2**30
SMOKE = {"name": "smoke", "batch": 2, "prompt_tokens": 24, "new_tokens": 64, "shared_prefix_tokens": 0, "images": 0}


def job(**changes: Any) -> Settings:
    smoke = SMOKE | {"dtype": "auto"}
    config = {
        "model": {"name": "toy"},
        "size": {"name": "auto"},
        "optimization": {"full": {}},
        "hardware": {"name": "auto"},
        "workload": {"name": "auto", "cpu": smoke, "cuda": smoke | {"name": "standard", "batch": 1}},
        "arm": {"auto": {"cpu": ["hf_static"], "cuda": ["hf_reduce_overhead"]}},
        "timing": {
            "name": "quick",
            "processes": 1,
            "min_blocks": 5,
            "max_blocks": 10,
            "half_width": {"cpu": 0.01, "cuda": 0.005},
            "margin": {"cpu": 0.03, "cuda": 0.01},
            "limit_s": 30,
        },
        "seed": 0,
        "deadline_s": 600,
        "weights": None,
        "recipe": "trained_like",
        "engine": {"name": "local", "workers": "auto"},
        "shard": None,
        "resume": "auto",
        "proof": None,
        "verdicts": "reuse",
        "plan": "run",
        "out": "benchmark_results",
        "reports": "reports",
        "report": [],
    }
    return from_config(config | changes)


def stacked(*names: str) -> Settings:
    return job(optimization={name: {} for name in names})


def named(hardware: str, known: Any) -> Settings:
    return job(hardware=known[hardware].model_dump())


def expand(jobs: Any, specs: Any, site: Any, weights: int = GIB, sweep: bool = False) -> Any:
    return plan.expand(jobs, specs, site, lambda model, size, dtype, directory: weights, even, sweep)


def even(shares: plan.Shares) -> None:
    """Any ranks can share any model."""


def test_auto_on_a_cpu_is_tiny_float16_and_leaves_out_what_needs_cuda_with_a_note(model, cpu_site):
    result = expand([job()], {"toy": model}, cpu_site)
    (case,) = result.cases
    assert (case.size, case.hardware, case.workload.name, case.workload.dtype) == ("tiny", "cpu", "smoke", "float16")
    assert case.optimizations == ("rotary", "attention", "kv_cache")
    assert case.arms == ("reference", "hf_static")
    assert case.timing.margin == 0.03
    assert result.notes == ("toy on cpu: `full` leaves out cuda_graph (needs cuda)",)


def test_auto_on_a_gpu_is_one_gpu_bfloat16_and_the_whole_stack(model, gpu_site):
    result = expand([job()], {"toy": model}, gpu_site)
    (case,) = result.cases
    assert (case.hardware, case.workload.name, case.workload.dtype) == ("h200", "standard", "bfloat16")
    assert case.optimizations == ("rotary", "attention", "kv_cache", "cuda_graph")
    assert case.timing.half_width == 0.005
    assert result.notes == ()


@pytest.mark.parametrize(("weights_gib", "size"), [(60, "full"), (65, "slice")])
def test_auto_size_on_a_gpu_is_full_only_where_two_copies_fit(model, gpu_site, weights_gib, size):
    (case,) = expand([job()], {"toy": model}, gpu_site, weights_gib * GIB).cases
    assert case.size == size


def test_a_checkpoint_weighs_what_it_weighs_not_what_was_published(model, gpu_site):
    weighed = {None: 200 * GIB, "small": GIB}
    asked = [job(size={"name": "full"}), job(weights="small")]
    result = plan.expand(
        asked, {"toy": model}, gpu_site, lambda _, __, ___, weights: weighed[weights], even, sweep=False
    )
    assert [case.weights for case in result.cases] == ["small"]
    assert ["200 GiB of weights" in skip.reason for skip in result.skipped] == [True]


@pytest.mark.parametrize(("bytes_in_bfloat16", "size"), [(40 * GIB, "full"), (50 * GIB, "slice")])
def test_auto_size_leaves_room_for_a_whole_reference_beside_each_ranks_share(model, gpu_site, bytes_in_bfloat16, size):
    cut = optimization("tensor_parallel", needs=("ranks",), shard=lambda module, target: None)
    cutting = dataclasses.replace(model, menu=Menu((cut, *model.menu.items), model.menu.full))
    weighed = {"bfloat16": bytes_in_bfloat16, "float32": 2 * bytes_in_bfloat16}
    jobs = [
        job(hardware=KNOWN["h200_x2"].model_dump(), optimization={name: {}}) for name in ("tensor_parallel", "rotary")
    ]
    result = plan.expand(jobs, {"toy": cutting}, gpu_site, lambda _, __, dtype, ___: weighed[dtype], even, sweep=False)
    assert [case.size for case in result.cases] == [size, "full"]


@pytest.mark.parametrize(("hardware", "ranks"), [("cpu", 2), ("cpu_x4", 4), ("h200_x2", 2)])
def test_ranks_that_cannot_share_a_model_are_refused_before_anything_runs(model, gpu_site, hardware, ranks):
    cut = optimization("tensor_parallel", needs=("ranks",), shard=lambda module, target: None)
    cutting = dataclasses.replace(model, menu=Menu((cut, *model.menu.items), model.menu.full))
    place = KNOWN[hardware].model_dump()
    jobs = [job(hardware=place, optimization={name: {}}) for name in ("tensor_parallel", "rotary")]

    def planned(jobs):
        return plan.expand(jobs, {"toy": cutting}, gpu_site, lambda *what: GIB, indivisible, sweep=True)

    def indivisible(shares):
        assert shares.cuts == ("tensor_parallel",)
        return f"{shares.model}: 3 heads among {shares.ranks} ranks"

    result = planned(jobs)
    assert [case.stack() for case in result.cases] == ["rotary"]
    assert [skip.reason for skip in result.skipped] == [f"toy: 3 heads among {ranks} ranks"]
    with pytest.raises(UserError, match=f"nothing would run: toy: 3 heads among {ranks} ranks"):
        planned(jobs[:1])


def test_an_unlisted_gpu_runs_under_its_own_name_with_a_note(model, gpu_site):
    machine = dataclasses.replace(gpu_site.machine, gpu_names=("Some GPU 3000",) * 2)
    result = expand([job()], {"toy": model}, dataclasses.replace(gpu_site, machine=machine))
    assert result.cases[0].hardware == "some_gpu_3000"
    assert "Some GPU 3000" in result.notes[0]


def test_a_stack_is_ordered_by_the_menu_and_duplicates_are_merged(model, cpu_site):
    result = expand([stacked("kv_cache", "rotary"), stacked("rotary", "kv_cache")], {"toy": model}, cpu_site)
    assert [case.optimizations for case in result.cases] == [("rotary", "kv_cache")]


def test_none_is_an_empty_stack(model, cpu_site):
    (case,) = expand([job(optimization={})], {"toy": model}, cpu_site).cases
    assert case.stack() == "none"


def test_a_conflict_names_both_optimizations(model, cpu_site):
    with pytest.raises(UserError, match="'kv_cache' and 'kv_cache_paged' conflict"):
        expand([stacked("attention", "kv_cache_paged", "kv_cache")], {"toy": model}, cpu_site)


def test_a_missing_requirement_says_what_to_ask_for(model, cpu_site):
    with pytest.raises(UserError, match=r"requires attention.*\[attention,kv_cache_paged\]"):
        expand([stacked("kv_cache_paged")], {"toy": model}, cpu_site)


def test_unknown_names_come_with_the_nearest_one(model, cpu_site):
    with pytest.raises(UnknownName, match="unknown optimization of toy 'rotery': did you mean 'rotary'"):
        expand([stacked("rotery")], {"toy": model}, cpu_site)
    with pytest.raises(UnknownName, match="unknown size of toy 'ful': did you mean 'full'"):
        expand([job(size={"name": "ful"})], {"toy": model}, cpu_site)
    with pytest.raises(UnknownName, match="unknown model 'toi': did you mean 'toy'"):
        expand([job(model={"name": "toi"})], {"toy": model}, cpu_site)


def test_what_the_machine_lacks_is_skipped_with_its_reason_and_the_rest_runs(model, cpu_site):
    jobs = [job(), stacked("kv_cache", "cuda_graph"), named("h200", cpu_site.known)]
    result = expand(jobs, {"toy": model}, cpu_site)
    reasons = [skip.reason for skip in result.skipped]
    assert len(result.cases) == 1
    assert reasons[0] == "optimization 'cuda_graph' needs cuda, which this hardware does not offer"
    assert reasons[1].startswith("hardware 'h200' needs 1 GPU(s) of its kind, 0 found (here: no GPU)")


def test_ranks_need_several_devices_and_a_cpu_offers_processes(model, gpu_site):
    split = dataclasses.replace(model.menu["rotary"], name="split", needs=("ranks",))
    menu = dataclasses.replace(model.menu, items=(split, *model.menu.items))
    places = [gpu_site.known[name].model_dump() for name in ("cpu", "h200", "h200_x2")]
    jobs = [job(optimization={"split": {}}, hardware=place) for place in places]
    result = expand(jobs, {"toy": dataclasses.replace(model, menu=menu)}, gpu_site)
    assert [case.hardware for case in result.cases] == ["cpu", "h200_x2"]
    assert result.skipped[0].reason == "optimization 'split' needs ranks, which this hardware does not offer"


@pytest.mark.parametrize(
    ("capability", "nvcc", "lacking"), [((9, 0), True, ""), ((9, 0), False, "nvcc"), ((8, 0), True, "clusters")]
)
def test_a_stack_leaves_out_what_the_gpu_or_its_compiler_cannot_do(model, gpu_site, capability, nvcc, lacking):
    item = dataclasses.replace(model.menu["rotary"], name="cuda_kernels", needs=("clusters", "cuda", "nvcc"))
    menu = dataclasses.replace(model.menu, items=(item, *model.menu.items), full=("cuda_kernels", "kv_cache"))
    site = dataclasses.replace(
        gpu_site, machine=dataclasses.replace(gpu_site.machine, capability=capability), nvcc=nvcc
    )
    result = expand([job()], {"toy": dataclasses.replace(model, menu=menu)}, site)
    notes = (f"toy on h200: `full` leaves out cuda_kernels (needs {lacking})",) if lacking else ()
    assert result.cases[0].optimizations == (("kv_cache",) if lacking else ("cuda_kernels", "kv_cache"))
    assert result.notes == notes


def test_an_optimization_that_only_another_model_offers_is_skipped(model, cpu_site):
    poorer = dataclasses.replace(model, menu=dataclasses.replace(model.menu, items=model.menu.items[1:], full=()))
    jobs = [stacked("rotary"), job(model={"name": "poor"}, optimization={"rotary": {}})]
    result = expand(jobs, {"toy": model, "poor": poorer}, cpu_site)
    assert [skip.reason for skip in result.skipped] == ["poor does not offer the optimization 'rotary'"]


def test_images_for_a_text_model_are_skipped_and_for_a_seeing_one_run(model, cpu_site):
    seeing = dataclasses.replace(model, sizes={"tiny": {"vision_config": {}}})
    shown = SMOKE | {"name": "images", "images": 2, "dtype": "auto"}
    jobs = [job(workload=shown), job(workload=shown, model={"name": "seer"})]
    result = expand(jobs, {"toy": model, "seer": seeing}, cpu_site)
    assert [case.model for case in result.cases] == ["seer"]
    assert "reads text only" in result.skipped[0].reason


def test_weights_larger_than_the_device_are_skipped(model, gpu_site):
    jobs = [job(size={"name": "full"}), job(size={"name": "tiny"})]
    result = expand(jobs, {"toy": model}, gpu_site, 657 * GIB)
    assert [case.size for case in result.cases] == ["tiny"]
    assert "657 GiB" in result.skipped[0].reason


def test_a_plan_that_would_run_nothing_is_refused_with_the_first_reason(model, cpu_site):
    with pytest.raises(UserError, match="nothing would run: hardware 'h200_x2' needs 2"):
        expand([named("h200_x2", cpu_site.known)], {"toy": model}, cpu_site)


def test_a_recipe_is_part_of_the_case_unless_it_is_the_usual_one(model, cpu_site):
    usual, random = (
        expand([job(recipe=name)], {"toy": model}, cpu_site).cases[0] for name in ("trained_like", "random")
    )
    assert "recipe" not in usual.model_dump()
    assert random.model_dump()["recipe"] == "random"
    assert usual.key != random.key
    with pytest.raises(ConfigError, match="setting 'recipe': input should be 'random' or 'trained_like', not 'flat'"):
        job(recipe="flat")
    with pytest.raises(UserError, match="recipe=random with weights="):
        expand([job(recipe="random", weights="somewhere")], {"toy": model}, cpu_site)


def test_real_weights_are_the_full_model(model, cpu_site):
    (case,) = expand([job(weights="somewhere")], {"toy": model}, cpu_site).cases
    assert (case.size, case.weights) == ("full", "somewhere")


def test_a_recorded_duration_replaces_the_estimate_which_never_passes_the_deadline(make_case):
    case = make_case(deadline_s=15.0)
    assert cost.estimate_s(case, {}) == 15.0
    assert cost.estimate_s(case, {cost.name(case): 3.5}) == 3.5
    assert cost.estimate_s(make_case(deadline_s=1e4), {}) < cost.estimate_s(make_case(deadline_s=1e4, size="full"), {})


def test_a_sweep_skips_a_stack_that_contradicts_itself_and_runs_the_rest(model, cpu_site):
    jobs = [stacked("rotary"), stacked("kv_cache_paged"), stacked("attention", "kv_cache", "kv_cache_paged")]
    result = expand(jobs, {"toy": model}, cpu_site, sweep=True)
    assert [case.optimizations for case in result.cases] == [("rotary",)]
    lacking, clashing = (skip.reason for skip in result.skipped)
    assert "'kv_cache_paged' requires attention" in lacking
    assert "'kv_cache' and 'kv_cache_paged' conflict" in clashing


@pytest.mark.parametrize(
    ("family", "stacks"),
    [
        ("one_at_a_time", ["rotary", "attention", "kv_cache", "attention+kv_cache_paged", "kv_cache+cuda_graph"]),
        (
            "cumulative",
            ["rotary", "rotary+attention", "rotary+attention+kv_cache", "rotary+attention+kv_cache+cuda_graph"],
        ),
        (
            "leave_one_out",
            [
                "attention+kv_cache+cuda_graph",
                "rotary+kv_cache+cuda_graph",
                "rotary+attention",
                "rotary+attention+kv_cache",
            ],
        ),
    ],
)
def test_a_family_of_stacks_is_computed_from_the_menu(model, gpu_site, family, stacks):
    result = expand([stacked(family)], {"toy": model}, gpu_site, sweep=True)
    assert [case.stack() for case in result.cases] == stacks


def test_a_family_leaves_out_what_the_machine_cannot_run(model, cpu_site):
    result = expand([stacked("cumulative")], {"toy": model}, cpu_site, sweep=True)
    assert [case.stack() for case in result.cases] == ["rotary", "rotary+attention", "rotary+attention+kv_cache"]


def test_a_family_cannot_be_a_part_of_a_stack(model, cpu_site):
    with pytest.raises(UserError, match="'one_at_a_time' stands for several stacks"):
        expand([stacked("one_at_a_time", "rotary")], {"toy": model}, cpu_site, sweep=True)


def test_the_weights_of_a_model_are_counted_once_however_many_cases_there_are(model, gpu_site):
    counted = []
    jobs = [job(seed=seed) for seed in range(5)]
    plan.expand(jobs, {"toy": model}, gpu_site, lambda *what: counted.append(what) or GIB, even, True)
    assert len(counted) == len(set(counted))


def paged(page_tokens: int, **changes: Any) -> Settings:
    stack = {"attention": {}, "kv_cache_paged": {}, "kv_cache_paged.page_tokens": page_tokens}
    return job(optimization=stack, **changes)


def test_a_parameter_at_its_default_is_the_case_without_it(model, cpu_site):
    jobs = [stacked("attention", "kv_cache_paged"), paged(64), paged(16)]
    plain, told = expand(jobs, {"toy": model}, cpu_site, sweep=True).cases
    assert (plain.parameters, told.parameters) == ({}, {"kv_cache_paged.page_tokens": 16})
    assert plain.key != told.key


def test_a_parameter_of_what_full_leaves_out_is_refused_with_the_reason(model, cpu_site):
    told = dataclasses.replace(model.menu["cuda_graph"], parameters=(PAGE_TOKENS,))
    menu = Menu((*model.menu.items[:-1], told), model.menu.full)
    asked = job(optimization={"full": {}, "cuda_graph.page_tokens": 16})
    with pytest.raises(UserError, match=r"is not in the stack .*: `full` leaves out cuda_graph \(needs cuda\) here"):
        expand([asked], {"toy": dataclasses.replace(model, menu=menu)}, cpu_site)


def test_a_parameter_that_only_another_model_of_the_sweep_takes_is_noted(model, cpu_site):
    poorer = dataclasses.replace(model, menu=Menu(model.menu.items[:1], ()))
    told = {"rotary": {}, "kv_cache_paged.page_tokens": 16}
    jobs = [paged(16), job(model={"name": "poor"}, optimization=told)]
    result = expand(jobs, {"toy": model, "poor": poorer}, cpu_site, sweep=True)
    assert [case.parameters for case in result.cases] == [{"kv_cache_paged.page_tokens": 16}, {}]
    assert result.notes == ("optimization.kv_cache_paged.page_tokens has no part in 1 of 2 stacks",)
    with pytest.raises(UnknownName, match="unknown optimization of poor 'kv_cache_paged'"):
        expand(jobs[1:], {"poor": poorer}, cpu_site)
