"""Looking into networks: what they hold, what they compute, what it costs."""

from minidl.study.counts import Counts, count
from minidl.study.summary import Summary, summary

__all__ = ["Counts", "Summary", "count", "summary"]
