"""The cases, one module per requirement area. See conformance/CASES.md."""
