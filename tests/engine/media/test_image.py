import base64
import io

import numpy as np
from PIL import Image

from engine.media.image import strip_data_url


def test_frames_stand_side_by_side_in_a_jpeg():
    frames = np.zeros((3, 16, 24, 3), np.uint8)
    frames[1, ..., 0] = 255
    head, data = strip_data_url(frames).split(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (image.format, image.size) == ("JPEG", (72, 16))
    assert image.getpixel((36, 8))[0] > 240
    assert image.getpixel((4, 8))[0] < 15
