"""Video files and pictures: reading, writing, and what they say about themselves."""
