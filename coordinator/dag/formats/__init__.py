"""Workflow files, as text, to drafts. `detect.parse` is the way in; `docs/workflow-formats.md` describes our
own format.

`json_text` and `yaml_text` make plain values of the text, `readers` checks values and says where they are
wrong, `own` and `wfformat` know what the values mean.
"""
