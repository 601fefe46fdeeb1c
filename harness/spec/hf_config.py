"""A Hugging Face config, as `config.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HFConfig = Mapping[str, Any]
