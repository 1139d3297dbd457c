"""The cases that judge a client; the judge plays the worker. Their names begin ``client-``."""
