"""The command behind every number of speed in the README: `python -m benchmarks.NAME`.

learner, loop, cores, environments, scaling, time_to_success measure; tables prints what they found.
"""
