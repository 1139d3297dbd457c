"""The judge's own HTTP: what chapter 22 needs of HTTP/1.1 and HTTP/2, and the three formats.

Nothing here is a general HTTP library. It says exactly the octets that a case wants, reads what
comes without mercy, and never raises because of octets.
"""
