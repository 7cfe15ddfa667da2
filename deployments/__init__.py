"""How the flows run unattended: deployments and their forms, work pools, automations, `photo-enhancer serve`.

`deployments.cli` is the command line with everything; `deployments/prefect.yaml` says the same as `catalogue` for those
who deploy by `prefect deploy`.
"""
