"""All I/O: the Faust topology, replay, the commands."""
