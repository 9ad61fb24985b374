"""PURE. From what a user asked for to a checked task graph: drafts, limits, building, analysis, workflow
formats.

No clock, no randomness, no I/O: files are read by the CLI, messages by the API; both end in a
`draft.DagDraft`.
"""
