"""Looking into networks: what they compute, what it costs, how they learn, and whether every derivative is right."""

from minidl.study.batch_norm_lab import (
    RunningStatistics,
    bessel_correction,
    compare_batch_norms,
    compare_folded,
    population_statistics,
    running_statistics,
)
from minidl.study.compare_recordings import draw_recordings
from minidl.study.convolutions import ConvolutionWays, convolve_four_ways, seven_loops
from minidl.study.counts import Counts, count
from minidl.study.explain import Explanation, explain
from minidl.study.gradcheck import gradcheck, gradgradcheck
from minidl.study.gradcheck_report import GradcheckError, GradcheckReport
from minidl.study.gradient_flow import CovariateShift, covariate_shift, deep_mlp, draw_gradient_flow, gradient_norms
from minidl.study.graph import GraphDrawing, show_graph
from minidl.study.normalizations import cloud, compare_costs, draw_normalizations, normalizations
from minidl.study.recorder import Recorder
from minidl.study.recording import Recording
from minidl.study.summary import Summary, summary
from minidl.study.table import Table
from minidl.study.trace import Trace, trace

__all__ = [
    "ConvolutionWays",
    "Counts",
    "CovariateShift",
    "Explanation",
    "GradcheckError",
    "GradcheckReport",
    "GraphDrawing",
    "Recorder",
    "Recording",
    "RunningStatistics",
    "Summary",
    "Table",
    "Trace",
    "bessel_correction",
    "cloud",
    "compare_batch_norms",
    "compare_costs",
    "compare_folded",
    "convolve_four_ways",
    "count",
    "covariate_shift",
    "deep_mlp",
    "draw_gradient_flow",
    "draw_normalizations",
    "draw_recordings",
    "explain",
    "gradcheck",
    "gradgradcheck",
    "gradient_norms",
    "normalizations",
    "population_statistics",
    "running_statistics",
    "seven_loops",
    "show_graph",
    "summary",
    "trace",
]
