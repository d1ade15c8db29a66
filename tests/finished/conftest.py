"""Orderings are compared as those of selectors are."""

from tests.selectors.conftest import same

__all__ = ["same"]
