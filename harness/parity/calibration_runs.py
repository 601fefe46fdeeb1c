"""How near right answers come to the gate's limits: the plain model against itself with another attention backend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.build import builder, inputs, registry
from harness.build.dtypes import wider
from harness.parity.kernels.kernel_checks import check_kernel, kernels_of
from harness.parity.levels.logits import Reference, judge_logits
from harness.parity.reference.attention_backends import attention, explicit_products, masked
from harness.parity.reference.reference_model import ReferenceModel
from harness.parity.reference.routing import RankedRoute, reference_choice
from harness.parity.tolerance.rules import judge
from harness.records.calibration import KernelAlarms, Quantiles
from harness.records.checks import Check, Level
from harness.spec.model import ModelSpec
from harness.spec.model_inputs import ModelInputs

SHAPES = ((1, 4, 2, 7), (2, 8, 2, 33), (1, 12, 1, 64), (3, 2, 2, 129))
"""(batch, heads, kv_heads, tokens) of attention alone, heads of 64."""
HEAD = 64


def quantiles(checks: dict[str, list[Check]]) -> tuple[Quantiles, ...]:
    """dtype -> checks of right answers; one entry per level, rule and dtype."""
    used: dict[tuple[Level, str, str], list[float]] = defaultdict(list)
    for dtype, found in checks.items():
        for check in found:
            used[check.level, check.rule, dtype].append(check.usage)
    made = []
    for (level, rule, dtype), shares in used.items():
        values = torch.tensor(shares, dtype=torch.float64)
        median, q99, q999 = (float(values.quantile(q)) for q in (0.5, 0.99, 0.999))
        made.append(
            Quantiles(
                level=level,
                rule=rule,
                dtype=dtype,
                n=len(shares),
                median=median,
                q99=q99,
                q999=q999,
                most=float(values.max()),
                false_alarms=int((values > 1).sum()),
            )
        )
    return tuple(made)


@dataclass(frozen=True)
class Share:
    """One kernel of a model on its menu in one type, as one seed draws it."""

    model: str
    kernel: str
    dtype: str
    device: str
    seed: int


def judged(share: Share) -> list[Check]:
    spec = registry.load(share.model)
    (kernel,) = (one for one in kernels_of(spec, [item.name for item in spec.menu.items]) if one.name == share.kernel)
    return check_kernel(kernel, getattr(torch, share.dtype), torch.device(share.device), share.seed)


def kernel_alarms(found: Iterable[tuple[Share, Sequence[Check]]]) -> Iterator[KernelAlarms]:
    """Of right kernels' checks: one entry a kernel and dtype."""
    checks: dict[tuple[str, str], list[tuple[int, Check]]] = defaultdict(list)
    for share, made in found:
        checks[share.kernel, share.dtype] += [(share.seed, check) for check in made]
    for (kernel, dtype), judged in checks.items():
        refused = [
            f"seed {seed}, {check.name}: {check.rule} {check.where}, {check.usage:.2f} of its limit"
            for seed, check in judged
            if not check.passed
        ]
        yield KernelAlarms(kernel=kernel, dtype=dtype, n=len(judged), refused=len(refused), where=tuple(refused))


@torch.no_grad()
def right_answers(
    spec: ModelSpec, size: str, seed: int, dtype: torch.dtype, device: torch.device, batch: int, tokens: int
) -> Iterator[Check]:
    """Every rule of the op, layer and logits levels on answers that are right by another way."""
    yield from _op(seed, dtype, device)
    source = builder.Source.of(spec, size, seed, None)
    plain = ReferenceModel(builder.reference(spec, source, dtype, device), spec.routing, spec.decoder, spec.vision)
    # A row shows an image where the model can see.
    prompt = inputs.draw(spec, source.config, tokens, [1] * batch, seed, "calibration").to(device, dtype)
    for index, hidden in enumerate(plain.layer_inputs(prompt)[: len(plain)]):
        yield from _layer(plain, index, prompt, hidden)
    upcast, routes = plain.wide_logits(prompt)
    theirs = plain.logits(prompt, routes)
    with explicit_products(plain.core):
        ours = plain.logits(prompt, routes)
    yield from judge_logits(
        ours.flatten(0, 1), Reference(upcast.flatten(0, 1), theirs.flatten(0, 1)), "logits", "logits"
    )


def _op(seed: int, dtype: torch.dtype, device: torch.device) -> Iterator[Check]:
    """torch's causal attention against that with the mask written out, in both roles, and against products in float32.
    Products in the half types round every score and are noisier than what kernels are held to."""
    draw = inputs.generator(seed, "attention")
    for batch, heads, kv_heads, tokens in SHAPES:
        q, k, v = (torch.randn(batch, h, tokens, HEAD, generator=draw) for h in (heads, kv_heads, kv_heads))
        q, k, v = (x.to(device, dtype) for x in (q, k, v))
        scale = HEAD**-0.5
        reference = attention(q.double(), k.double(), v.double(), scale)
        fused = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        products = attention(q.float(), k.float(), v.float(), scale).to(dtype)
        written = masked(q, k, v, scale)
        for ours, plain in ((written, fused), (fused, written), (products, fused)):
            yield from judge(ours, reference, plain, level="op", subject="attention", name=f"{tokens} tokens")


def _layer(plain: ReferenceModel, index: int, prompt: ModelInputs, hidden: Tensor) -> list[Check]:
    base = hidden.to(wider(hidden.dtype))
    chosen: dict[str, RankedRoute] = {}
    upcast, run, shape = plain.wide_layer(index, prompt), plain.layer(index, prompt), hidden.shape[:2]
    with reference_choice(upcast.layer, plain.routing, shape, None, partial(chosen.__setitem__, "wide")):
        reference = upcast(base) - base
    with reference_choice(run.layer, plain.routing, shape, chosen.get("wide"), partial(chosen.__setitem__, "plain")):
        theirs = (run(hidden).to(base.dtype) - base).to(hidden.dtype)
        with explicit_products(plain.core):
            ours = (run(hidden).to(base.dtype) - base).to(hidden.dtype)
    return judge(ours, reference, theirs, level="layer", subject=f"layer {index}", name="residual delta")
