"""Which attention kernels there are, which run here, and which is fastest."""
