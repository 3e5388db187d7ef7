"""Benchmarks get memory as the app does."""

from engine.loading.memory import configure_allocators

configure_allocators()
