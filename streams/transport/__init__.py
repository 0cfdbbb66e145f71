"""Records through Faust 0.15.3 in batches: one event a partition and fetch. Each override of Faust says why in a line.

Read `consumer` for the way in and `delivery` for the way out.
"""

from streams.transport.header_names import tolerate_header_names

tolerate_header_names()
