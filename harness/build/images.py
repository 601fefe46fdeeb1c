"""What a checkpoint's own image processor makes of pictures: patches as the model was trained to see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import WeightsError
from harness.spec.hf_config import HFConfig
from harness.spec.model_inputs import Grid

FILES = ("preprocessor_config.json", "processor_config.json")
"""A directory that holds one of them has an image processor."""


class Pictures:
    """An image processor of Hugging Face, read from a local directory; no code of the directory is run."""

    def __init__(self, directory: Path) -> None:
        """Raises WeightsError where the processor cannot be read, or Pillow, which it needs, is not installed."""
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False, backend="pil"
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise WeightsError(f"the image processor of '{directory}' cannot be read: {error}") from None
        self.directory = directory

    @classmethod
    def of(cls, directory: Path, config: HFConfig) -> Pictures | None:
        """The image processor of a checkpoint whose config this is; None where the model sees nothing, or the directory
        has none."""
        if "vision_config" not in config or not any((directory / name).is_file() for name in FILES):
            return None
        return cls(directory)

    def patches(self, grids: Sequence[Grid], generator: torch.Generator) -> Tensor:
        """Patch rows [patches, values] float32 of one picture for each grid (1, rows, columns) of patches, drawn at the
        size at which the processor leaves it. WeightsError where the processor cuts it otherwise."""
        side = int(self.processor.patch_size)
        drawn = [picture(rows * side, columns * side, generator).numpy() for _, rows, columns in grids]
        made = self.processor(images=drawn, do_resize=False, input_data_format="channels_last", return_tensors="pt")
        cut = [tuple(grid) for grid in made["image_grid_thw"].tolist()]
        if cut != [tuple(grid) for grid in grids]:
            raise WeightsError(f"the image processor of '{self.directory}' cuts pictures of {grids} patches into {cut}")
        rows: Tensor = made["pixel_values"]
        return rows.float()


def picture(height: int, width: int, generator: torch.Generator) -> Tensor:
    """[height, width, 3] uint8: a slope of color with a rectangle and grain on it, as a photograph has."""
    corner, slope, tone = torch.rand(3, 3, generator=generator)
    down = torch.linspace(0, 1, height).view(-1, 1, 1)
    across = torch.linspace(0, 1, width).view(1, -1, 1)
    image = (corner + (slope - corner) * (down + across) / 2).clone()
    top, left = (int(torch.randint(size // 2, (1,), generator=generator)) for size in (height, width))
    image[top : top + height // 2, left : left + width // 2] = tone
    grain = 0.05 * torch.randn(height, width, 3, generator=generator)
    drawn: Tensor = ((image + grain).clamp(0, 1) * 255).round().to(torch.uint8)
    return drawn
