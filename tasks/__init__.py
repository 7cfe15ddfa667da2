"""One verb a file: thin Prefect tasks round lora_core functions.

Here live retries, GPU slots, artifacts and progress bars; what a verb does is in lora_core. No task caches its result
through Prefect (`NO_CACHE`): every lora_core verb keys its files by content, finds what is whole, checks it and returns
at once, so that a retried flow does nothing twice, where a cache hit of Prefect's would not look at the files at all.
The one result that Prefect persists is a round's, in `flows.round`.
"""
