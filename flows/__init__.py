"""When and where the night runs: Prefect around `risk.pipeline`, and no arithmetic.

Nothing is imported here: `python -m flows` starts Prefect's server before anything heavy is loaded.
"""
