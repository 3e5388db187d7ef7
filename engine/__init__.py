"""What a generation is: from a request to a video file."""

__version__ = "0.1.0"
