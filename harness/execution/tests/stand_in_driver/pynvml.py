"""The bindings of a driver with two GPUs, for the nodes of a Slurm whose GPUs are none; only its jobs see it."""

from types import SimpleNamespace

UUIDS = ("GPU-stand-in-0", "GPU-stand-in-1")


class NVMLError_NotSupported(Exception): ...


class NVMLError_LibraryNotFound(Exception): ...


class NVMLError_DriverNotLoaded(Exception): ...


class NVMLError_NoPermission(Exception): ...


def _always(answer):
    return lambda *asked: answer


def _not_supported(gpu):
    raise NVMLError_NotSupported


nvmlInit = nvmlShutdown = _always(None)
nvmlDeviceGetCount = _always(len(UUIDS))
nvmlDeviceGetHandleByIndex = int
nvmlDeviceGetUUID = UUIDS.__getitem__
nvmlDeviceGetName = _always("NVIDIA H200")
nvmlDeviceGetMemoryInfo = _always(SimpleNamespace(total=2**37))
nvmlDeviceGetCudaComputeCapability = _always((9, 0))
nvmlSystemGetDriverVersion = _always("stand-in")
nvmlSystemGetCudaDriverVersion_v2 = _always(12000)
nvmlDeviceGetEnforcedPowerLimit = nvmlDeviceGetEccMode = nvmlDeviceGetMigMode = _not_supported
