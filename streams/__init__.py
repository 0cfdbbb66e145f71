"""All I/O: the Faust topology, replay, the commands."""

from streams.kernel_cache import keep_compiled_kernels

keep_compiled_kernels()
