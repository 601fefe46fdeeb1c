"""Named intermediates inside one layer, read from either implementation through forward hooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from harness.parity.reference.reference_model import Trace

PATH = re.compile(r"^(?P<module>[\w.]+?)(\[(?P<item>\d+)\])?(?P<input>:input)?$")


@contextmanager
def traced(layer: nn.Module, paths: Sequence[str], trace: Trace) -> Iterator[None]:
    """While open, a forward pass of `layer` fills `trace` with the values at `paths`, each flattened to [B, T, C].
    A path whose module is not there (an optimization fused it away) leaves no entry; `@` paths belong to others."""
    hooks = []
    for path in paths:
        match = PATH.match(path)
        if match is None:
            continue
        module = _find(layer, match["module"])
        if module is not None:
            hooks.append(_hook(module, path, match, trace))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _find(layer: nn.Module, path: str) -> nn.Module | None:
    return dict(layer.named_modules()).get(path)


def _hook(module: nn.Module, path: str, match: re.Match[str], trace: Trace) -> Any:
    if match["input"]:
        return module.register_forward_pre_hook(lambda _, args: trace.__setitem__(path, flat(args[0])))
    pick: Callable[[Any], Tensor] = (lambda out: out[int(match["item"])]) if match["item"] else (lambda out: out)
    return module.register_forward_hook(lambda _, __, out: trace.__setitem__(path, flat(pick(out))))


def flat(x: Tensor) -> Tensor:
    """[B, T, ...] -> [B, T, C], a copy: a later kernel may reuse the memory."""
    return x.flatten(2).clone()
