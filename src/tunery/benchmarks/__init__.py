"""Published benchmarks, by lm-evaluation-harness's tasks on our engine.

``lm`` is the engine as that harness sees it, ``tasks`` what can be run without a network, ``run`` one
benchmark of one model as an evaluation. All need the extra ``benchmarks``.
"""
