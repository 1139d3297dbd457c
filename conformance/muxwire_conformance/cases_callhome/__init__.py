"""Cases for the call-home path of a worker, by area; CASES.md says how to write one."""
