"""Packed batches are compared with the models and the loop that gradients are compared with."""

from tests.gradients.conftest import lab, one_thread, plain, recorder, small_model

__all__ = ["lab", "one_thread", "plain", "recorder", "small_model"]
