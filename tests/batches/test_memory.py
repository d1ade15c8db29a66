from __future__ import annotations

import pytest
import torch

from tis_ray.batches.out_of_memory import in_halves, is_out_of_memory
from tis_ray.errors import InputError

ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("fits", [1, 2, 3, 7])
def test_every_member_is_done_once_in_batches_that_fit(error, fits):
    done = []

    def work(members):
        if len(members) > fits:
            raise error
        done.append(members)

    in_halves(range(7), work)
    assert [member for members in done for member in members] == list(range(7))
    assert max(map(len, done)) <= fits


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_one_member_that_does_not_fit_is_an_error_that_says_what_to_do():
    def work(members):
        raise MemoryError

    with pytest.raises(InputError, match=r"does not fit into memory .*lower data\.max_length"):
        in_halves([0, 1], work)


def test_other_errors_pass_through():
    def work(members):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_halves([0, 1], work)
