"""What counts as a kernel among the things that a profiler saw on a device."""

from types import SimpleNamespace

import pytest
import torch
from torch._C._autograd import DeviceType

from harness.timing.launched import counted, kernels_launched


def event(name, device=DeviceType.CUDA, named=False):
    return SimpleNamespace(name=name, device_type=device, is_user_annotation=named)


def test_copies_named_ranges_and_the_hosts_part_are_no_kernels():
    seen = [
        event("gemv_kernel"),
        event("gemv_kernel"),
        event("Memcpy DtoD (Device -> Device)"),
        event("Memset (Device)"),
        event("decode step", named=True),
        event("cudaGraphLaunch", DeviceType.CPU),
    ]
    assert counted(seen) == 2


def test_a_cpu_launches_none():
    assert kernels_launched(lambda: None, torch.device("cpu")) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels are counted on a GPU")
def test_a_replayed_graph_launches_what_it_captured():
    device = torch.device("cuda", 0)
    x = torch.zeros(16, device=device)
    x.add_(1).mul_(2)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x.add_(1).mul_(2)
    assert kernels_launched(graph.replay, device) == 2
