"""Looking into networks: what they hold, what they compute, what it costs."""

from minidl.study.counts import Counts, count

__all__ = ["Counts", "count"]
