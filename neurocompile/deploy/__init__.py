"""Deployment: a build's program is copied to a place with hardware, run there, followed and its results fetched (docs/deploy.md).

`destination.py` says what a destination is; `inrc.py` is one (ssh and slurm); `driver.py` takes a deployment through its steps, whose state
(`state.py`) survives lost connections and killed processes. Knows build folders, no network.
"""
