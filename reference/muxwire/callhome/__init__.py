"""Priority 0: HTTP request, response over a pooled TCP connection that the worker dials back."""
