"""Looking into networks: what they hold, what they compute, what it costs."""

from minidl.study.counts import Counts, count
from minidl.study.graph import GraphDrawing, show_graph
from minidl.study.summary import Summary, summary

__all__ = ["Counts", "GraphDrawing", "Summary", "count", "show_graph", "summary"]
