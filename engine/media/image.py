"""Small pictures for the page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def strip_data_url(frames: np.ndarray) -> str:
    """A JPEG with ``frames``, uint8 (frames, height, width, 3), side by side, as a
    data URL."""
    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    strip = Image.fromarray(np.concatenate(list(frames), axis=1))
    strip.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
