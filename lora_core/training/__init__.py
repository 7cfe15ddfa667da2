"""The training run of one round.

`launch` starts it in its own process; `worker` is that process; `loop` is the run itself. `plan` and `draws` say what
happens at which position, as pure functions, so that a run can go on at any image and be the run that never stopped.
"""
