"""Liger's published Triton kernels patched into a copy of the Hugging Face model."""

from __future__ import annotations

import copy
import importlib.util

from harness.spec.runtime import HuggingFaceLM, module_of
from harness.timing.arms.arm import ArmAbsent, Shape
from harness.timing.arms.hf_reference import Reference


class Liger(Reference):
    """The patched instance shares the reference's weights; the reference itself stays as it was."""

    name = "liger"
    label = "Hugging Face with Liger kernels, dynamic cache"

    def __init__(self, model: HuggingFaceLM) -> None:
        super().__init__(model)
        self.original = model

    def open(self, shape: Shape) -> None:
        if shape.prompt.device.type != "cuda":
            raise ArmAbsent("its Triton kernels need a GPU")
        if importlib.util.find_spec("liger_kernel") is None:
            raise ArmAbsent("liger-kernel is not installed (extra `liger`)")
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

        patch = MODEL_TYPE_TO_APPLY_LIGER_FN.get(self.original.config.model_type)
        if patch is None:
            raise ArmAbsent(f"liger-kernel knows no model of type {self.original.config.model_type}")
        module = module_of(self.original)
        shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
        self.model = copy.deepcopy(self.original, shared)
        patch(rope=False, rms_norm=True, swiglu=True, model=self.model)
        super().open(shape)
