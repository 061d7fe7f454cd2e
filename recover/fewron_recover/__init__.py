"""Recovery: a model learns from its own dense outputs to live with its run-time sparsity mask."""

VERSION = "0.1.0"
