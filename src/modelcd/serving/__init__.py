"""The Python model server: it runs a version's folder and keeps the model contract.

`python -m modelcd.serving FOLDER` is the whole interface.  It has to fit into a model's own environment, so nothing
here imports more of modelcd than `artifact`, `errors` and the latency grid, and MLflow only for an MLflow model.

The server is one process: granian runs embedded in this process's event loop.  Granian's usual parent and worker
would survive each other when one of the two is killed, and measured no faster.
"""
