"""Deployment: a build's program is brought to a place with hardware, run there, followed and its results fetched (docs/deploy.md).

`destination.py` says what a destination is, `registry.py` lists them: `inrc.py` (ssh and slurm), `spinnaker_cloud.py` (EBRAINS' job
service), `spalloc.py` (boards that a server lends). `driver.py` takes a deployment through its steps, whose state (`state.py`) survives
lost connections and killed processes. Knows build folders, no network.
"""
