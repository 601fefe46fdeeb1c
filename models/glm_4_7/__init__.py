"""GLM-4.7: 92 layers, three dense and the others of 160 experts, 8 of them and a shared one to a token."""

from models.glm_4_7.spec import SPEC

__all__ = ["SPEC"]
