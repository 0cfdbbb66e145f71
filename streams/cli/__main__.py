"""`python -m streams.cli`, the same as `stillwatch`."""

from streams.cli import main

main()
