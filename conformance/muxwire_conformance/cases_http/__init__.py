"""Cases of chapter 22 for a worker; most of them are run over HTTP/1.1 and over HTTP/2."""
