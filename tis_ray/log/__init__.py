"""What a run reports: lines and signs of life for people, `events.jsonl` and `live.json` for programs."""

from tis_ray.log.activity import Activity
from tis_ray.log.run_log import RunLog, peak_mb
from tis_ray.log.sign_of_life import LIVE, Live

__all__ = ["LIVE", "Activity", "Live", "RunLog", "peak_mb"]
