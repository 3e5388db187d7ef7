"""How each network's weights are named in files."""
