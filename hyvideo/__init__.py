"""Hunyuan Video: text and images to video, in its three architectures.

https://arxiv.org/abs/2412.03603
"""

from hyvideo.family import HunyuanVideoFamily

FAMILY = HunyuanVideoFamily()
