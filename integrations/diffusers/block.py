"""What `ModularPipelineBlocks.from_pretrained(..., trust_remote_code=True)` loads of this repository."""

from undistill.integrations.modular import EnhanceStep

__all__ = ["EnhanceStep"]
