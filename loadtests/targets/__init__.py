"""Every stated target, measured in one run: ``python -m loadtests.targets``.

One module a subject; `bench` has the servers and their counters, `traffic` the commands that are
packed beforehand, `peers` what the figures stand beside, `figures` and `report` what is printed.
"""
