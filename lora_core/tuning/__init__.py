"""The loop's judgement: what a round's curves say, when to stop, and which values to try next.

`study` proposes and records on an Optuna journal, `diagnosis` puts a round's tables and curves into words, `stopping`
says when the loop ends. The package itself imports nothing, for Optuna takes a second.
"""
