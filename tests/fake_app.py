"""The real app with the fake family as its only one: ``python -m tests.fake_app``."""

import sys

import wgp
from engine.family import FAMILIES
from tests.fakes import fake_worker_main, register_fake_family

if __name__ == "__main__":
    FAMILIES.clear()
    register_fake_family()
    sys.exit(wgp.main(worker=fake_worker_main))
