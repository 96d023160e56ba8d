"""A frozen network in half the bits, on processors that compute with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

_FLAGS = {"avx512_bf16", "amx_bf16"}


def has_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 itself, and no GPU would do the work."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool(_FLAGS.intersection(flags)) and not tf.config.list_physical_devices("GPU")


def in_bfloat16(frozen: Any) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """The same network with its convolutions and matrix products in bfloat16.

    TensorFlow's own graph optimiser decides which operations lose nothing that
    matters. It is asked here, once, and not through the process-wide option,
    which would change every other network of the process too. There is no
    public name for that.

    Args:
        frozen: A concrete function without variables, with one input and one output.
    """
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.eager import wrap_function
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training import saver

    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs))
    graph = saver.export_meta_graph(graph_def=frozen.graph.as_graph_def(), graph=frozen.graph)
    graph.collection_def["train_op"].node_list.value.extend([*inputs, *outputs])  # what must stay
    config = config_pb2.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    rewriting.min_graph_nodes = -1  # small networks too
    return wrap_function.function_from_graph_def(tf_optimizer.OptimizeGraph(config, graph), inputs, outputs)
