"""An end to automatic restarts."""

from prefect.runtime import flow_run

RESTARTS = 20


def refuse_endless_restarts(most: int = RESTARTS) -> None:
    """Ends a flow run that crashed again and again: the automation that restarts crashed runs has no limit of its own.

    Raises:
        RuntimeError: the run was started more than `most` times; it then ends as Failed, which nothing restarts.
    """
    if (started := flow_run.run_count or 0) > most:
        raise RuntimeError(f"started {started} times without reaching its end; look at the log before starting it anew")
