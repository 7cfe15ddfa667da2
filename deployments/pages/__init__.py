"""The project's own pages: reports, blind comparisons and champions of all workspaces below a folder, read-only.

    python -m deployments.pages --root FOLDER --port 4201

`shelf` finds what there is, `files` serves it, `dashboards` opens a study in optuna-dashboard, `application` puts the
pages together. Nothing is written, and nothing outside of `<workspace>/output/` and a base training's report is shown.
"""
