"""Families of tasks: what each demands of a submission, which agents it goes to, and how it is tried again.

Pure. The six of requirement B1 are here; others come as plug-ins (`coordinator/plugins.py`).
"""
