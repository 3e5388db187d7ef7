"""LTX Video: text, images and videos to video, in one pass or two.

https://arxiv.org/abs/2501.00103
"""

from ltx_video.family import LtxVideoFamily

FAMILY = LtxVideoFamily()
