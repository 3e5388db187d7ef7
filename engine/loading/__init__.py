"""From files on the disk to a model on its device."""
