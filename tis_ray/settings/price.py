"""The section on what machines cost, for the estimate of a dry run and the bill of a run."""

from __future__ import annotations

from pydantic import Field

from tis_ray.section import Section


class PriceConfig(Section):
    """What an hour of a machine costs. Changes no result."""

    gpu_hour: float | None = Field(None, ge=0)
    """Price of a GPU for an hour; null names no money."""
    cpu_hour: float | None = Field(None, ge=0)
    """Price of a CPU core for an hour, where no GPU computes; null names no money."""
    storage_gb_month: float | None = Field(None, ge=0)
    """Price of keeping a gigabyte for a month; null leaves storage out."""
    writes_1000: float | None = Field(None, ge=0)
    """Price of a thousand requests to a bucket that write or list; null names no money for requests."""
    reads_1000: float | None = Field(None, ge=0)
    """Price of a thousand requests that read, or ask about one object; null names no money for requests."""
    currency: str = Field("USD", min_length=1, max_length=12)
    """What prices are in, as it is to be shown."""
