"""The judge as a router of the call-home path (chapter 21): it POSTs, listens, and takes responses.

Rules of this package:

* Each case listens at ports of its own, so that it has the pools of the worker for itself.
* Nothing is accepted, rejected or confirmed by itself: a case says ACCEPT, REJECT and DONE. Only
  prefaces and PINGs are answered, as every router does.
* HTTP and each call-home connection are sockets of their own: no order between them is assumed.
"""
