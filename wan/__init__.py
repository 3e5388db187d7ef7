"""Wan: text to video on Wan 2.1's transformer, VAE and text encoder.

https://arxiv.org/abs/2503.20314
"""

from wan.family import WanFamily

FAMILY = WanFamily()
