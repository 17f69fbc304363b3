"""
The parts of the benchmarks. Each module measures one subject and has a ``show``
function that prints the result.
"""
