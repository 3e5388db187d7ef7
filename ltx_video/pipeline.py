"""diffusers' pipeline for LTX with everything that this family uses in one object."""

from __future__ import annotations

from typing import Any

from diffusers import LTXConditionPipeline


class LtxPipeline(LTXConditionPipeline):
    """``LTXConditionPipeline`` with the latent upsampler of a second pass, so that
    memory profiles see it."""

    _optional_components = ["latent_upsampler"]  # noqa: RUF012 - as diffusers has it
    model_cpu_offload_seq = "text_encoder->transformer->latent_upsampler->vae"

    def __init__(
        self,
        scheduler: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        transformer: Any,
        latent_upsampler: Any = None,
    ) -> None:
        super().__init__(
            scheduler=scheduler,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=transformer,
        )
        self.register_modules(latent_upsampler=latent_upsampler)
