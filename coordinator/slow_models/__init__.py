"""Forecasters behind libraries that are not installed by default, and the program that runs them beside a
node.

`python -m coordinator.slow_models` answers on its standard output what it is asked on its standard input.
Each model is a module with a class that has the interface of `interface.PathModel`; `models.MODELS` lists
them.
"""
